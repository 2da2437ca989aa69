"""What a host, a response or a page says about use of its content in, one decision with its evidence out.

Whatever signal speaks is read and recorded; a `Policy` says which of them bind. Errors and values that cannot be read
are `unknown`, never `allowed`, and for some signals that binds too. The files of a host are read in `robots`, `tdmrep`,
`ai_txt` and `rsl`, the bytes of an image in `embedded`; docs/rights.md has every case.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # A decoder reads rights too, and starts sooner without what reads parameters.
    from laion_dask import params

SIGNALS: Final = (
    *("robots", "ai_txt", "tdmrep", "rsl", "x_robots_tag", "tdm_reservation", "content_usage", "content_signal"),
    *("crawler_price", "xmp_data_mining", "xmp_tdm", "c2pa"),
)
"""In the order in which equally strict decisions are preferred: that of the way to the picture."""

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
