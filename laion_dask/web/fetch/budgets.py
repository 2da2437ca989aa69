"""Budgets: how many seconds and rows a shard may lose to one host, and how long a shard may take.

A host that asks for pauses, or whose answers fail temporarily, costs its shard time without giving an image. Each host
has a budget for that, so that one host cannot delay a shard for hours. Pauses (Retry-After, backoff) and failed
attempts count; time in which several rows of the host wait at once counts once. Successful answers cost nothing,
however slow they are. Only the live web has budgets: see `fetcher`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from laion_dask import params

HOST: Final = "host_budget"
"""Reason of rows that are not requested because their host's budget is spent."""
SHARD: Final = "shard_budget"
"""Reason of rows that are not requested because the shard has used its time."""


class SpentError(Exception):
    """A wait ended, or did not begin, because a budget is spent; `reason` says which one."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _HostBudget:
    waits: set[asyncio.Timeout] = field(default_factory=set)
    lost_s: float = 0.0
    counted_to: float = 0.0
    """Time of the event loop up to which `lost_s` is complete."""
    pauses: int = 0
    paused_since: float = 0.0
    alarm: asyncio.TimerHandle | None = None
    failed_rows: int = 0
    spent: bool = False


class Budgets:
    """The budgets of one shard; for the tasks of one event loop."""

    def __init__(self, settings: params.Download) -> None:
        self._seconds = settings.host_budget_s
        self._rows = settings.host_budget_rows
        self._hosts: dict[str, _HostBudget] = {}
        self._shard_over = False

    def spent(self, host: str) -> str:
        """Return the reason to send a host no more requests; empty where there is none."""
        if self._shard_over:
            return SHARD
        budget = self._hosts.get(host)
        return HOST if budget is not None and budget.spent else ""

    @asynccontextmanager
    async def waiting(self, host: str) -> AsyncIterator[None]:
        """Abort the block with `SpentError` as soon as the budget of the host or the shard is spent."""
        self._refuse(host)
        waits = self._of(host).waits
        wait = asyncio.timeout(None)
        try:
            async with wait:
                waits.add(wait)
                try:
                    yield
                finally:
                    waits.discard(wait)
        except TimeoutError:
            if not wait.expired():
                raise
            self._refuse(host)

    async def pause(self, host: str, seconds: float) -> bool:
        """Wait before another attempt at a host; False where a budget was spent meanwhile."""
        try:
            with self._paused(self._of(host)):
                async with self.waiting(host):
                    await asyncio.sleep(seconds)
        except SpentError:
            return False
        return True

    def asked_to_wait(self, host: str, seconds: float) -> None:
        """Count a pause that a host has asked for, from now on, whether or not a row waits for its end."""
        budget = self._of(host)
        self._begin(budget)
        asyncio.get_running_loop().call_later(seconds, self._end, budget)

    def lost(self, host: str, began: float) -> None:
        """Count the time of an attempt that failed temporarily; `began` is a time of the event loop."""
        budget = self._of(host)
        now = asyncio.get_running_loop().time()
        self._count(budget, began, min(now, budget.paused_since) if budget.pauses else now)

    def ended(self, host: str, *, failed: bool) -> None:
        """Count a row that has ended: a temporary failure costs the host a row, any other outcome restores one."""
        budget = self._of(host)
        budget.failed_rows = budget.failed_rows + 1 if failed else max(0, budget.failed_rows - 1)
        if budget.failed_rows >= self._rows:
            self._stop(budget)

    def end_shard(self) -> None:
        """End all waits of the shard, because it has used its time."""
        self._shard_over = True
        for budget in self._hosts.values():
            _end_waits(budget)

    def _refuse(self, host: str) -> None:
        if reason := self.spent(host):
            raise SpentError(reason)

    def _of(self, host: str) -> _HostBudget:
        budget = self._hosts.get(host)
        if budget is None:
            budget = self._hosts[host] = _HostBudget()
        return budget

    @contextmanager
    def _paused(self, host: _HostBudget) -> Iterator[None]:
        self._begin(host)
        try:
            yield
        finally:
            self._end(host)

    def _begin(self, host: _HostBudget) -> None:
        if not host.pauses:
            loop = asyncio.get_running_loop()
            host.paused_since = loop.time()
            host.alarm = loop.call_later(max(0.0, self._seconds - host.lost_s), self._stop, host)
        host.pauses += 1

    def _end(self, host: _HostBudget) -> None:
        host.pauses -= 1
        if not host.pauses:
            if host.alarm is not None:
                host.alarm.cancel()
            self._count(host, host.paused_since, asyncio.get_running_loop().time())

    def _count(self, host: _HostBudget, began: float, ended: float) -> None:
        host.lost_s += max(0.0, ended - max(began, host.counted_to))
        host.counted_to = max(host.counted_to, ended)
        if host.lost_s >= self._seconds:
            self._stop(host)

    def _stop(self, host: _HostBudget) -> None:
        host.spent = True
        _end_waits(host)


def _end_waits(host: _HostBudget) -> None:
    now = asyncio.get_running_loop().time()
    for wait in host.waits:
        wait.reschedule(now)
