"""What all opt-out signals share: decisions with their evidence, and the policy that says which signals bind.

Every signal is read and recorded; a `Policy` says which of them bind. Errors and unreadable values are `unknown`,
never `allowed`, and for some signals `unknown` binds too. The files of a host are read in `robots`, `tdmrep`, `ai_txt`
and `rsl`, responses in `headers`, pages in `pages`, the bytes of an image in `embedded`; docs/rights.md has every case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from laion_dask.schema.values import SIGNALS

if TYPE_CHECKING:
    # Decoder processes import this module, and start faster without the modules for parameters.
    from laion_dask import params

PAGE_TOKENS: Final = ("laion-dask", "CCBot")
"""Names under which a page may address this project: its own, and that of the crawler that fetched the page."""

MAX_EVIDENCE_CHARS: Final = 1_000

_RANK: Final = {"refused": 0, "unknown": 1, "allowed": 2}


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about the use of content, with its signal and the evidence.

    `rights` is allowed, refused or unknown. `signal` is empty where there was no signal; an unreadable value is
    `unknown` with the name of its signal. `evidence` is the value as received. `source` is where it was found: the
    address of a file, the name of a header, or `file` for the picture itself. `time` is the Date header of the response
    that contained it, ISO 8601 in UTC, None without one; no local time, so that repeated runs give the same bytes.
    """

    rights: str = "unknown"
    signal: str = ""
    evidence: str = ""
    source: str = ""
    time: str | None = None


SILENT: Final = Decision()
"""No signal was found."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which signals bind, and which names and directives count: `download.rights` and related parameters."""

    binding: tuple[str, ...] = SIGNALS
    unknown: tuple[str, ...] = ()
    tokens: tuple[str, ...] = PAGE_TOKENS
    directives: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: params.Download) -> Policy:
        """Return the policy that the parameters define; names of AI-training bots count like this project's own."""
        tokens = tuple(dict.fromkeys((*settings.robots_tokens, *settings.ai_tokens)))
        return cls(settings.rights, settings.rights_unknown, tokens, settings.opt_out_directives)

    def binds(self, decision: Decision) -> bool:
        """Tell whether a decision forbids use: a binding signal refuses, or is unknown where unknown binds."""
        if decision.signal not in self.binding:
            return False
        return decision.rights == "refused" or (decision.rights == "unknown" and decision.signal in self.unknown)

    def strictest(self, decisions: Iterable[Decision]) -> Decision:
        """Return the strictest decision; the order is: binding, refused, unknown, allowed, no signal."""

        def rank(decision: Decision) -> tuple[bool, int, int]:
            is_signal = bool(decision.signal) or decision.rights != "unknown"
            place = SIGNALS.index(decision.signal) if decision.signal else len(SIGNALS)
            return (not self.binds(decision), _RANK[decision.rights] if is_signal else len(_RANK), place)

        return min(decisions, key=rank, default=SILENT)


def decision(rights: str, signal: str, evidence: str, source: str, time: str | None) -> Decision:
    """Return a decision whose evidence is valid UTF-8 of at most 1,000 characters, so that any table can store it."""
    return Decision(rights, signal, evidence.encode("utf-8", "replace").decode()[:MAX_EVIDENCE_CHARS], source, time)


@lru_cache(maxsize=256)  # answers of the same second have equal dates, and each is parsed at several places
def utc(date: str | None) -> str | None:
    """Return an HTTP date as ISO 8601 in UTC; None where it is missing or invalid."""
    try:
        found = parsedate_to_datetime(date or "")
        # A date without a zone is GMT, the only zone of HTTP dates (RFC 9110, 5.6.7).
        aware = found if found.tzinfo else found.replace(tzinfo=UTC)
        return aware.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    except (ValueError, OverflowError):
        return None
