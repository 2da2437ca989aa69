"""Rate limits for hosts and domains: how many requests run at once, and how far apart they start.

`HostLimits` limits the tasks of one event loop; `limit_server` shares one between processes and machines.
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

_MAX_LIMITS: Final = 65_536  # about 50 MB; beyond this number, limits that no task uses are dropped


class RateLimiter(Protocol):
    """What a fetcher asks for a slot before each request."""

    def slot(self, host: str, delay_s: float = 0.0) -> AbstractAsyncContextManager[None]:
        """Wait for a slot at a host, and hold it in the block; `delay_s` is the Crawl-delay of the host."""
        ...

    def pause(self, host: str, seconds: float) -> None:
        """Grant no slot at a host for some seconds."""
        ...


@dataclass(slots=True)
class _Limit:
    """The limit of one host or domain, and the tasks that hold a slot of it or wait for one."""

    slots: asyncio.Semaphore
    users: int = 0
    next_start_s: float = 0.0
    """The earliest time of the next request, by the monotonic clock."""


@dataclass(slots=True)
class _Limits:
    """The limits of all hosts, or of all domains: `at_once` requests, whose starts are `interval_s` apart."""

    at_once: int
    interval_s: float
    by_name: dict[str, _Limit] = field(default_factory=dict)

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[_Limit]:
        limit = self.by_name.get(name)
        if limit is None:
            self._drop_unused()
            limit = self.by_name[name] = _Limit(asyncio.Semaphore(self.at_once))
        limit.users += 1
        try:
            async with limit.slots:
                yield limit
        finally:
            limit.users -= 1

    def _drop_unused(self) -> None:
        if len(self.by_name) >= _MAX_LIMITS:
            now = time.monotonic()
            self.by_name = {
                name: limit
                for name, limit in self.by_name.items()
                if limit.users or limit.next_start_s > now - self.interval_s
            }


class HostLimits:
    """The rate limiter for the tasks of one event loop; tasks get slots in the order in which they asked."""

    def __init__(self, settings: params.Download) -> None:
        self._hosts = _Limits(settings.connections_per_host, settings.host_interval_s)
        self._domains = _Limits(settings.connections_per_domain, settings.domain_interval_s)

    @asynccontextmanager
    async def slot(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a slot at a host, and hold it in the block; `delay_s` is the Crawl-delay of the host."""
        async with self._hosts.slot(host) as of_host:
            # The host comes first, so that no task holds a slot of a domain while it waits for one of its hosts.
            await _until_start(of_host)
            async with self._domains.slot(_domain(host)) as of_domain:
                await _until_start(of_host, of_domain)
                now = time.monotonic()
                of_host.next_start_s = now + max(self._hosts.interval_s, delay_s)
                of_domain.next_start_s = now + self._domains.interval_s
                yield

    def pause(self, host: str, seconds: float) -> None:
        """Grant no slot at a host for some seconds; slots that are held stay valid."""
        limit = self._hosts.by_name.get(host)
        if limit is not None:
            limit.next_start_s = max(limit.next_start_s, time.monotonic() + seconds)


async def _until_start(*limits: _Limit) -> None:
    """Sleep until all limits allow a start; a pause or another request may postpone it meanwhile."""
    while True:
        wait_s = max(limit.next_start_s for limit in limits) - time.monotonic()
        if wait_s <= 0:
            return
        await asyncio.sleep(wait_s)


def _domain(host: str) -> str:
    # An IP address, a name without a dot and a public suffix have no registrable domain: each counts as its own.
    return registrable_domain(host) or host
