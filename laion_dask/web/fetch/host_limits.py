"""Hosts in, turns out: how many requests a host and its registered domain get at once, and how far apart they are.

For the tasks of one event loop; `turns` shares them between processes and machines.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from laion_dask import params
from laion_dask.web.urls.resolver import registrable_domain

_LANES: Final = 65_536  # about 50 MB; lanes that nobody uses are forgotten when there are more


class Turnstile(Protocol):
    """What a fetcher asks before each request."""

    def turn(self, host: str, delay_s: float = 0.0) -> AbstractAsyncContextManager[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        ...

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn at a host for a while."""
        ...


@dataclass(slots=True)
class _Lane:
    turns: asyncio.Semaphore
    users: int = 0
    next_start_s: float = 0.0


@dataclass(slots=True)
class _Lanes:
    """The lanes of hosts, or of domains: so many at once, so many seconds apart."""

    limit: int
    interval_s: float
    lanes: dict[str, _Lane] = field(default_factory=dict)

    @asynccontextmanager
    async def through(self, name: str) -> AsyncIterator[_Lane]:
        lane = self.lanes.get(name)
        if lane is None:
            self._forget()
            lane = self.lanes[name] = _Lane(asyncio.Semaphore(self.limit))
        lane.users += 1
        try:
            async with lane.turns:
                yield lane
        finally:
            lane.users -= 1

    def _forget(self) -> None:
        if len(self.lanes) >= _LANES:
            now = time.monotonic()
            self.lanes = {
                name: lane
                for name, lane in self.lanes.items()
                if lane.users or lane.next_start_s > now - self.interval_s
            }


class Turns:
    """Gives turns to the tasks of one event loop, first come, first served."""

    def __init__(self, settings: params.Download) -> None:
        self._hosts = _Lanes(settings.connections_per_host, settings.host_interval_s)
        self._domains = _Lanes(settings.connections_per_domain, settings.domain_interval_s)

    @asynccontextmanager
    async def turn(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        async with self._hosts.through(host) as lane:
            # Always the host before its domain: nobody waits for a host with a domain in hand.
            await _until(lane)
            async with self._domains.through(_domain(host)) as domain:
                await _until(lane, domain)
                now = time.monotonic()
                lane.next_start_s = now + max(self._hosts.interval_s, delay_s)
                domain.next_start_s = now + self._domains.interval_s
                yield

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn at a host for a while; whoever has one keeps it."""
        lane = self._hosts.lanes.get(host)
        if lane is not None:
            lane.next_start_s = max(lane.next_start_s, time.monotonic() + seconds)


async def _until(*lanes: _Lane) -> None:
    """Wait until all lanes may be used; while one waits, a pause or another request may move that on."""
    while True:
        wait_s = max(lane.next_start_s for lane in lanes) - time.monotonic()
        if wait_s <= 0:
            return
        await asyncio.sleep(wait_s)


def _domain(host: str) -> str:
    # An address, a name without a dot and a public suffix belong to nobody's domain: each is its own.
    return registrable_domain(host) or host
