"""What a host, a response or a page says about use of its content in, one decision with its evidence out.

Whatever signal speaks is read and recorded; a `Policy` says which of them bind. Errors and values that cannot be read
are `unknown`, never `allowed`, and for some signals that binds too. The files of a host are read in `robots`, `tdmrep`,
`ai_txt` and `rsl`, the bytes of an image in `embedded`; docs/rights.md has every case.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from laion_dask.schema.values import SIGNALS
from laion_dask.web.rights.signals import content_usage, is_rsl_link, refusing, robots_directives, rsl_links

if TYPE_CHECKING:
    # A decoder reads rights too, and starts sooner without what reads parameters.
    from laion_dask import params

PAGE_TOKENS: Final = ("laion-dask", "CCBot")
"""Whom a page means by "us": this project, and the crawler that fetched the page."""

MAX_EVIDENCE_CHARS: Final = 1_000

_RANK: Final = {"refused": 0, "unknown": 1, "allowed": 2}


@dataclass(frozen=True, slots=True)
class Decision:
    """What was said, by which signal, and the evidence.

    `rights` is allowed, refused or unknown; `signal` is empty where none spoke, and a signal that spoke in a way that
    cannot be read is `unknown` by its name. `evidence` is the value as received; `source` says where it stood: the
    address of a file, the name of a header, or `file` for the picture itself. `time` is the Date of the response that
    carried it, ISO 8601 in UTC, None where it had none: no clock of ours, so that a repeated run has the same bytes.
    """

    rights: str = "unknown"
    signal: str = ""
    evidence: str = ""
    source: str = ""
    time: str | None = None


SILENT: Final = Decision()
"""Nobody said anything."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What binds, whom and which directives it means: `download.rights` and its neighbours in params.yaml."""

    binding: tuple[str, ...] = SIGNALS
    unknown: tuple[str, ...] = ()
    tokens: tuple[str, ...] = PAGE_TOKENS
    directives: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: params.Download) -> Policy:
        """Take the policy out of the parameters; AI-training tokens are asked for like our own."""
        tokens = tuple(dict.fromkeys((*settings.robots_tokens, *settings.ai_tokens)))
        return cls(settings.rights, settings.rights_unknown, tokens, settings.opt_out_directives)

    def binds(self, decision: Decision) -> bool:
        """Tell whether a decision ends the matter: a binding signal refuses, or cannot be read and must be."""
        if decision.signal not in self.binding:
            return False
        return decision.rights == "refused" or (decision.rights == "unknown" and decision.signal in self.unknown)

    def strictest(self, decisions: Iterable[Decision]) -> Decision:
        """Return the strictest: one that binds, a refusal, a word that cannot be read, a permission, silence."""

        def rank(decision: Decision) -> tuple[bool, int, int]:
            spoken = bool(decision.signal) or decision.rights != "unknown"
            place = SIGNALS.index(decision.signal) if decision.signal else len(SIGNALS)
            return (not self.binds(decision), _RANK[decision.rights] if spoken else len(_RANK), place)

        return min(decisions, key=rank, default=SILENT)


def decision(rights: str, signal: str, evidence: str, source: str, time: str | None) -> Decision:
    """Make a decision whose evidence any table can hold: valid UTF-8, at most 1,000 characters."""
    return Decision(rights, signal, evidence.encode("utf-8", "replace").decode()[:MAX_EVIDENCE_CHARS], source, time)


@lru_cache(maxsize=256)  # of one second, or of one answer that is read at several places
def utc(date: str | None) -> str | None:
    """Return an HTTP date as ISO 8601 in UTC, None where there is none that can be read."""
    try:
        found = parsedate_to_datetime(date or "")
        # Without a zone it is GMT: the only one that HTTP knows (RFC 9110, 5.6.7).
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return aware.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    except (ValueError, OverflowError):
        return None


# --- pages -----------------------------------------------------------------------------------------------------------


def page_signals(
    headers: Iterable[tuple[str, str]],
    metas: Iterable[tuple[str, str]],
    directives: Collection[str],
    tokens: Collection[str] = PAGE_TOKENS,
    links: Iterable[tuple[str, str]] = (),
) -> tuple[str, ...]:
    """Return the reservations of a page, sorted: `meta-robots:noai`, `tdm-reservation:header` and the like.

    Metas come by their name, property or http-equiv. Those called robots or like one of `tokens` count, other bots' do
    not; X-Robots-Tag as http-equiv counts as a robots meta. `tdm-reservation` has the values 1 and 0, all others say
    nothing, and a meta supersedes the header (TDMRep); a tdm-policy alone reserves nothing. Content-Usage is defined as
    a header only (AIPREF, attachment draft). `links` are LINK elements by rel and type: an RSL licence that a page
    names, there or in a Link header, is not read here, and what has not been read is not licensed (RSL 1.0, 4.3).
    """
    ours, policy = tuple(tokens), tuple(directives)
    names = {"robots", "x-robots-tag", *(token.lower() for token in ours)}
    found = {"rsl:link" for rel, kind in links if is_rsl_link(rel, kind)}
    reservations: dict[str, set[str]] = {"meta": set(), "header": set()}
    for name, value in metas:
        key = name.strip().lower()
        if key in names:
            found.update(f"meta-robots:{word}" for word in _refusals(value, ours, policy))
        elif key == "tdm-reservation":
            reservations["meta"].add(value.strip())
    for name, value in headers:
        key = name.strip().lower()
        if key == "x-robots-tag":
            found.update(f"header-x-robots-tag:{word}" for word in _refusals(value, ours, policy))
        elif key == "tdm-reservation":
            reservations["header"].add(value.strip())
        elif key == "content-usage" and content_usage(value) == "n":
            found.add("content-usage:train-ai=n")
        found.update("rsl:header" for _, is_typed in rsl_links([(name, value)]) if is_typed)
    if "1" in reservations["meta"]:
        found.add("tdm-reservation:meta")
    elif "1" in reservations["header"] and "0" not in reservations["meta"]:
        found.add("tdm-reservation:header")
    return tuple(sorted(found))


# A hostile page may write megabytes into one value: longer ones are read, but not kept in memory.
_CACHED_CHARS: Final = 200


def _refusals(value: str, tokens: tuple[str, ...], policy: tuple[str, ...]) -> tuple[str, ...]:
    """Return the refusing directives of one value; a few values are those of nearly all pages."""
    if len(value) > _CACHED_CHARS:
        return _refusals_of.__wrapped__(value, tokens, policy)
    return _refusals_of(value, tokens, policy)


@lru_cache(maxsize=4096)
def _refusals_of(value: str, tokens: tuple[str, ...], policy: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(refusing(robots_directives(value, tokens), policy))


# --- responses -------------------------------------------------------------------------------------------------------


def decide_response(headers: Sequence[tuple[str, str]], policy: Policy, tdmrep: Decision = SILENT) -> Decision:
    """Decide by the headers of a response, before its body is read; `tdmrep` is what the host's tdmrep.json said.

    Within TDMRep a header supersedes the file: 0 lifts its reservation. Across protocols the strictest wins.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.strip().lower(), []).append(value)
    time = utc(next(iter(values.get("date", [])), None))
    found = [
        decision("refused", "x_robots_tag", value, "x-robots-tag", time)
        for value in values.get("x-robots-tag", [])
        if refusing(robots_directives(value, policy.tokens), policy.directives)
    ]
    header = _tdm_header(values, time)
    found += [header] if header.rights == "allowed" else [header, tdmrep]
    usage = ", ".join(values.get("content-usage", []))
    if preference := content_usage(usage):
        found.append(decision(_USAGE[preference], "content_usage", usage, "content-usage", time))
    return policy.strictest(found)


_USAGE: Final = {"n": "refused", "y": "allowed", "?": "unknown"}


def _tdm_header(values: dict[str, list[str]], time: str | None) -> Decision:
    """Read tdm-reservation: 1 reserves, 0 does not, any other value is unknown; a tdm-policy stands in the evidence."""
    said = {value.strip() for value in values.get("tdm-reservation", [])} - {""}
    if not said:
        return SILENT
    rights = "refused" if "1" in said else "allowed" if said == {"0"} else "unknown"
    lines = [f"tdm-reservation: {value}" for value in sorted(said, reverse=True)]
    lines += [f"tdm-policy: {value.strip()}" for value in values.get("tdm-policy", [])]
    return decision(rights, "tdm_reservation", "; ".join(lines), "tdm-reservation", time)


def priced(headers: Sequence[tuple[str, str]]) -> Decision:
    """Decide by the headers of an answer 402: with `crawler-price` the owner wants to be paid (Cloudflare).

    A data set pays nobody. Without that header 402 is an error as others are.
    """
    values = {name.strip().lower(): value for name, value in reversed(headers)}
    if "crawler-price" not in values:
        return SILENT
    evidence = f"402, crawler-price: {values['crawler-price'].strip()}"
    return decision("refused", "crawler_price", evidence, "crawler-price", utc(values.get("date")))
