"""What a host, a response or a page says about use of its content in, one decision with its evidence out.

Binding or not is the caller's choice: every `decide` takes the signals that bind and prefers their refusals, and a
refusal binds when `Decision.binds` says so. Errors and values that cannot be read are `unknown`, never `allowed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from protego import Protego

from laion_dask.signals import content_usage, matches, normal_path, path_of, refusing, robots_directives

SIGNALS: Final = ("robots", "tdmrep", "x_robots_tag", "tdm_reservation", "content_usage")
"""In the order in which equally strict decisions are preferred."""

PAGE_TOKENS: Final = ("laion-dask", "CCBot")
"""Whom a page means by "us": this project, and the crawler that fetched the page."""

MAX_EVIDENCE_CHARS: Final = 1_000

# RFC 9309, 2.5: at least 500 KiB have to be read.
_MAX_FILE_BYTES: Final = 500 * 1024

_RANK: Final = {"refused": 0, "allowed": 1, "unknown": 2}


@dataclass(frozen=True, slots=True)
class Decision:
    """What was said: allowed, refused or unknown, by which signal (empty: none spoke), and its value as received."""

    rights: str = "unknown"
    signal: str = ""
    evidence: str = ""

    def binds(self, binding: Collection[str] = SIGNALS) -> bool:
        """Tell whether this is a refusal by one of the signals that bind."""
        return self.rights == "refused" and self.signal in binding


def strictest(decisions: Iterable[Decision], binding: Collection[str] = SIGNALS) -> Decision:
    """Return the strictest decision: a binding refusal, another refusal, a permission, or unknown."""

    def rank(decision: Decision) -> tuple[bool, int, int]:
        place = SIGNALS.index(decision.signal) if decision.signal else len(SIGNALS)
        return (not decision.binds(binding), _RANK[decision.rights], place)

    return min(decisions, key=rank, default=Decision())


def _decision(rights: str, signal: str, evidence: str) -> Decision:
    return Decision(rights, signal, evidence.encode("utf-8", "replace").decode()[:MAX_EVIDENCE_CHARS])


# --- pages -----------------------------------------------------------------------------------------------------------


def page_signals(
    headers: Iterable[tuple[str, str]],
    metas: Iterable[tuple[str, str]],
    directives: Collection[str],
    tokens: Collection[str] = PAGE_TOKENS,
) -> tuple[str, ...]:
    """Return the reservations of a page, sorted: `meta-robots:noai`, `tdm-reservation:header` and the like.

    Metas come by their name, property or http-equiv. Those called robots or like one of `tokens` count, other bots' do
    not; X-Robots-Tag as http-equiv counts as a robots meta. `tdm-reservation` has the values 1 and 0, all others say
    nothing, and a meta supersedes the header (TDMRep); a tdm-policy alone reserves nothing. Content-Usage is defined as
    a header only (AIPREF, attachment draft).
    """
    ours, policy = tuple(tokens), tuple(directives)
    names = {"robots", "x-robots-tag", *(token.lower() for token in ours)}
    found: set[str] = set()
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


def decide_response(
    headers: Sequence[tuple[str, str]],
    *,
    tokens: Collection[str],
    directives: Collection[str],
    tdmrep: Decision = Decision(),
    binding: Collection[str] = SIGNALS,
) -> Decision:
    """Decide by the headers of a response, before its body is read; `tdmrep` is what the host's tdmrep.json said.

    Within TDMRep a header supersedes the file: 0 lifts its reservation. Across protocols the strictest wins.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.strip().lower(), []).append(value)
    decisions = [tdmrep]
    decisions += [
        _decision("refused", "x_robots_tag", value)
        for value in values.get("x-robots-tag", [])
        if refusing(robots_directives(value, tokens), directives)
    ]
    reservations = {value.strip() for value in values.get("tdm-reservation", [])}
    if "1" in reservations:
        decisions.append(_decision("refused", "tdm_reservation", "1"))
    elif "0" in reservations:
        decisions[0] = _decision("allowed", "tdm_reservation", "0")
    usage = ", ".join(values.get("content-usage", []))
    if preference := content_usage(usage):
        decisions.append(_decision("refused" if preference == "n" else "allowed", "content_usage", usage))
    return strictest(decisions, binding)


# --- files of a host -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Usage:
    """A Content-Usage or Content-Signal rule of robots.txt: where it holds, what it says, the line."""

    path: str
    refuses: bool
    line: str


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """robots.txt of one scheme, host and port, ready to be asked."""

    tokens: tuple[str, ...]
    refusal: str = ""
    """Why everything is refused, empty where the file decides."""
    rules: Protego | None = None
    usage: tuple[_Usage, ...] = ()

    @property
    def crawl_delay_s(self) -> float:
        """Longest Crawl-delay that is asked of one of our tokens, seconds; 0 where none is."""
        delays = [self.rules.crawl_delay(token) for token in self.tokens] if self.rules else []
        return max((float(delay) for delay in delays if delay is not None), default=0.0)

    def decide(self, url: str, binding: Collection[str] = SIGNALS) -> Decision:
        """Decide for an absolute URL of this host: a refusal of any token binds."""
        if self.refusal:
            return _decision("refused", "robots", self.refusal)
        if self.rules is None:
            return Decision("allowed")
        decisions = [Decision("allowed", "robots")]
        decisions += [
            _decision("refused", "robots", f"robots.txt disallows the path for {token}")
            for token in self.tokens
            if not self.rules.can_fetch(url, token)
        ]
        path = path_of(url)
        matching = [rule for rule in self.usage if matches(rule.path, path)]
        longest = max((len(rule.path) for rule in matching), default=0)
        # Longest path wins; of equally long ones that differ the most restrictive (AIPREF, attachment draft).
        decisions += [
            _decision("refused", "content_usage", rule.line)
            for rule in matching
            if rule.refuses and len(rule.path) == longest
        ]
        return strictest(decisions, binding)


def parse_robots(status: int, body: bytes, tokens: Sequence[str]) -> RobotsRules:
    """Read the answer to GET /robots.txt by RFC 9309, 2.3.1; status 0: unreachable (no connection, time-out).

    2xx: the first 500 KiB count. Other 4xx than 429, and redirects without end: no rules. 429, 5xx and unreachable:
    everything is refused (429 as Google does; the RFC would allow).
    """
    ours = tuple(tokens) or ("*",)
    if status in {0, 429} or status >= 500:
        return RobotsRules(ours, refusal=f"robots.txt answered {status}" if status else "robots.txt is unreachable")
    if not 200 <= status < 300:
        return RobotsRules(ours)
    text = body[:_MAX_FILE_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
    if len(body) > _MAX_FILE_BYTES:
        text = text[: text.rfind("\n") + 1]
    # RFC 9309, 2.2.1: a product token ends before `/1.0` and what follows; protego would compare the whole value.
    text = _USER_AGENT.sub(r"\1\2", text)
    return RobotsRules(ours, rules=Protego.parse(text), usage=tuple(_usage_rules(text, ours)))


_USER_AGENT: Final = re.compile(
    r"^([ \t]*user-?[ ]?agent[ \t]*:[ \t]*)([a-z_-]+)[^\r\n#]*", re.IGNORECASE | re.MULTILINE
)


def _usage_rules(text: str, tokens: Sequence[str]) -> Iterator[_Usage]:
    """Yield the usage rules that concern us: of the groups that name a token, else of the groups for `*`.

    Rules before any group concern everybody.
    """
    groups: dict[str, list[_Usage]] = {}
    agents: list[str] = [""]
    in_names = False
    for raw in re.split(r"[\r\n]+", text):
        line = raw.partition("#")[0].strip()
        name, colon, value = line.partition(":")
        key = name.strip().lower()
        if not colon or key in {"sitemap", "host"}:
            continue
        if key in {"user-agent", "useragent", "user agent"}:
            agents = [*(agents if in_names else []), value.strip().lower()]
            in_names = True
            continue
        in_names = False
        if key in {"content-usage", "content-signal"}:
            rule = _usage_rule(key, value.strip(), line)
            for agent in agents:
                groups.setdefault(agent, []).extend([rule] if rule else [])
        elif "" not in agents or groups.get(""):
            for agent in agents:
                groups.setdefault(agent, [])
    named = [rule for token in tokens for rule in groups.get(token.lower(), groups.get("*", []))]
    yield from dict.fromkeys([*groups.get("", []), *named])


def _usage_rule(key: str, value: str, line: str) -> _Usage | None:
    path = "/"
    if value.startswith("/"):
        path, _, value = value.partition(" ") if " " in value else value.partition("\t")
    if key == "content-usage":
        preference = content_usage(value)
    else:
        preference = content_usage(value.lower(), "ai-train", "no", "yes")
    return _Usage(normal_path(path), preference in {"n", "no"}, line) if preference else None


@dataclass(frozen=True, slots=True)
class TdmRep:
    """/.well-known/tdmrep.json of a host: rules as (location, reservation, rule as received), in order."""

    rules: tuple[tuple[str, int | None, str], ...] = field(default=())

    def decide(self, url: str) -> Decision:
        """Decide by the first rule that matches the path: 1 refuses, 0 allows, anything else says nothing."""
        path = path_of(url)
        for location, reservation, rule in self.rules:
            if matches(location, path):
                if reservation is None:
                    return Decision()
                return _decision("refused" if reservation else "allowed", "tdmrep", rule)
        return Decision()


def parse_tdmrep(status: int, body: bytes) -> TdmRep:
    """Read the answer to GET /.well-known/tdmrep.json: a JSON array of rules (TDMRep, file on the server).

    Whatever cannot be read counts as a host without the protocol; a rule without location is left out.
    """
    if not 200 <= status < 300 or len(body) > _MAX_FILE_BYTES:
        return TdmRep()
    try:
        tree = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return TdmRep()
    rules = []
    for item in tree if isinstance(tree, list) else []:
        if isinstance(item, dict) and isinstance(item.get("location"), str) and "tdm-reservation" in item:
            value = item["tdm-reservation"]
            reservation = value if type(value) is int and value in {0, 1} else None
            rules.append((normal_path(item["location"]), reservation, json.dumps(item, ensure_ascii=False)))
    return TdmRep(tuple(rules))
