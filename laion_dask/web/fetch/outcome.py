"""The outcome of a URL: keep and the decoded body, or a reason of the closed list; and each attempt at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from laion_dask.web.fetch import budgets
from laion_dask.web.rights.decision import SILENT, Decision

_NOT_ASKED: Final = {
    "host_failing": "not asked: the host fails",
    budgets.HOST: "not asked: the shard has lost as much to the host as it may",
    budgets.SHARD: "not asked: the shard has taken as long as it may",
}


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt at a URL: its reason, the status of its last response, and its time with the wait for a slot."""

    reason: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of a URL: `reason` keep and the decoded body, or a reason of the closed list and no body."""

    reason: str
    message: str | None
    final_url: str
    decision: Decision
    status: int = 0
    content_type: str = ""
    body: bytes = b""
    retry: bool = False
    """Another attempt in this round may help."""
    retry_after_s: float = 0.0
    later: bool = False
    """An attempt in a later round may help; never where the owner refuses or the answer is final."""
    host_failed: bool = False
    """The host of the URL itself (not of a redirect) was asked and gave no answer."""
    host_paused: bool = False
    """The host asks for a pause longer than download.max_retry_after_s."""
    left: str = ""
    """The reason why this shard requests no further row of the host; else empty."""
    server_date: str | None = None
    asked: str | None = None
    """Day of the last request, UTC; of a recorded answer, that of the recording; None where none was sent."""
    tries: tuple[Try, ...] = ()

    @property
    def attempts(self) -> int:
        """Number of attempts; redirects are part of an attempt."""
        return len(self.tries)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Seconds of each attempt."""
        return tuple(tried.seconds for tried in self.tries)


def day(date: str) -> str | None:
    """Return the day of a reply's date; None where nothing was asked, or where a recording does not say when."""
    return None if not date or date.startswith("1970-01-01") else date[:10]


def not_asked(url: str, reason: str) -> Fetched:
    """Return the outcome of a row that is not requested because of its host's failures or a spent budget."""
    return Fetched(reason, _NOT_ASKED[reason], url, SILENT, later=True)
