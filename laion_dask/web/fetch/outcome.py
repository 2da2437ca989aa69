"""How a URL ended: keep and the decoded body, or a reason of the closed list; and each try for it."""

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
    """One try for an image: how it ended, the status of its last response, and its time with the wait for a turn."""

    reason: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """How a URL ended: `reason` keep and the decoded body, or a reason of the closed list and no body."""

    reason: str
    message: str | None
    final_url: str
    decision: Decision
    status: int = 0
    content_type: str = ""
    body: bytes = b""
    retry: bool = False
    """Another try may help at once."""
    retry_after_s: float = 0.0
    later: bool = False
    """Another try may help in a while; never where the owner refuses or the answer is final."""
    host_failed: bool = False
    """The host of the URL itself gave no answer, although it was asked."""
    host_paused: bool = False
    """The host asks to be left alone for longer than download.max_retry_after_s."""
    left: str = ""
    """The reason why no further row of the host is to be asked for in this shard."""
    server_date: str | None = None
    tries: tuple[Try, ...] = ()

    @property
    def attempts(self) -> int:
        """How often the URL was tried; redirects are part of a try."""
        return len(self.tries)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Time of each try."""
        return tuple(tried.seconds for tried in self.tries)


def not_asked(url: str, reason: str) -> Fetched:
    """Return the end of a row that is not asked for because of how its host or its shard fares."""
    return Fetched(reason, _NOT_ASKED[reason], url, SILENT, later=True)
