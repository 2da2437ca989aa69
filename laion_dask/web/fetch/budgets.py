"""What a shard may lose to one host, in seconds and in rows, and how long it may take: beyond that nobody waits.

A host that asks for pauses, or whose answers fail for now, costs its shard time without giving an image. Each host has
a budget for that, so that one host never holds up a shard for hours. Counted are pauses (Retry-After, the wait before
another try) and tries that failed for now; time in which several rows of the host wait at once counts once. An answer
that is good costs nothing, however slow it is. Only the live web has budgets: see `fetch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from laion_dask import params

HOST: Final = "host_budget"
"""Reason of rows that are left because their host's budget is spent."""
SHARD: Final = "shard_budget"
"""Reason of rows that are left because the shard has taken as long as it may."""


class SpentError(Exception):
    """A wait was ended, or not begun, because a budget is spent; `reason` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class _HostBudget:
    waits: set[asyncio.Timeout] = field(default_factory=set)
    lost_s: float = 0.0
    counted_to: float = 0.0
    """Time of the loop up to which losses are in `lost_s`."""
    pauses: int = 0
    paused_since: float = 0.0
    alarm: asyncio.TimerHandle | None = None
    failed_rows: int = 0
    spent: bool = False


class Budgets:
    """The budgets of one shard, for the tasks of one event loop."""

    def __init__(self, settings: params.Download) -> None:
        self._seconds = settings.host_budget_s
        self._rows = settings.host_budget_rows
        self._hosts: dict[str, _HostBudget] = {}
        self._shard_over = False

    def spent(self, host: str) -> str:
        """Return the reason to ask a host for nothing more; empty where there is none."""
        if self._shard_over:
            return SHARD
        known = self._hosts.get(host)
        return HOST if known is not None and known.spent else ""

    @asynccontextmanager
    async def waiting(self, host: str) -> AsyncIterator[None]:
        """Wait for a host in the block; `SpentError` as soon as its budget or that of the shard is spent."""
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
        """Wait before another try at a host; False where a budget was spent before the end."""
        try:
            with self._paused(self._of(host)):
                async with self.waiting(host):
                    await asyncio.sleep(seconds)
        except SpentError:
            return False
        return True

    def asked_to_wait(self, host: str, seconds: float) -> None:
        """Count a pause that a host has asked for, from now on, whoever waits for its end."""
        of_host = self._of(host)
        self._begin(of_host)
        asyncio.get_running_loop().call_later(seconds, self._end, of_host)

    def lost(self, host: str, began: float) -> None:
        """Count the time of a try that failed for now, which began at a time of the loop."""
        of_host = self._of(host)
        now = asyncio.get_running_loop().time()
        self._count(of_host, began, min(now, of_host.paused_since) if of_host.pauses else now)

    def ended(self, host: str, *, failed: bool) -> None:
        """Count a row that has ended: one that failed for now costs a row, one that did not gives one back."""
        of_host = self._of(host)
        of_host.failed_rows = of_host.failed_rows + 1 if failed else max(0, of_host.failed_rows - 1)
        if of_host.failed_rows >= self._rows:
            self._stop(of_host)

    def end_shard(self) -> None:
        """End all waits of the shard: it has taken as long as it may."""
        self._shard_over = True
        for of_host in self._hosts.values():
            _end_waits(of_host)

    def _refuse(self, host: str) -> None:
        if reason := self.spent(host):
            raise SpentError(reason)

    def _of(self, host: str) -> _HostBudget:
        known = self._hosts.get(host)
        if known is None:
            known = self._hosts[host] = _HostBudget()
        return known

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
