"""The queue of rows of a shard: hosts alternate, and a failing host waits until all others are done.

A slow or dead host occupies at most its limit of connections; rows of other hosts overtake it. Each host has a circuit
breaker. Closed: rows start up to the limit, but only one until the host has answered. Open: after `host_failures`
failures in a row none starts. Half-open: when no other row is left, one more is tried; an answer closes the breaker, a
failure gives up the rest of the host. No clock is involved, so the same responses lead to the same rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from laion_dask import params
from laion_dask.web.urls.resolver import registrable_domain


@dataclass(slots=True)
class _Domain:
    running: int = 0
    waiting: deque[_QueuedHost] = field(default_factory=deque)


@dataclass(slots=True)
class _QueuedHost:
    domain: _Domain
    rows: deque[int] = field(default_factory=deque)
    running: int = 0
    failures: int = 0
    answered: bool = False
    queued: bool = False
    half_open: bool = False


class HostQueue:
    """Rows that have not begun, as indices in the list of their hosts; those of one host keep their order."""

    def __init__(self, hosts: Sequence[str], settings: params.Download) -> None:
        self._per_host = settings.connections_per_host
        self._per_domain = settings.connections_per_domain
        self._max_failures = settings.host_failures
        self._hosts: dict[str, _QueuedHost] = {}
        self._names = hosts
        self._ready: deque[_QueuedHost] = deque()
        self._open: list[_QueuedHost] = []
        self._running = 0
        self._given_up: deque[int] = deque()
        domains: dict[str, _Domain] = {}
        for row, name in enumerate(hosts):
            host = self._hosts.get(name)
            if host is None:
                domain = domains.setdefault(registrable_domain(name) or name, _Domain())
                host = self._hosts[name] = _QueuedHost(domain)
            host.rows.append(row)
            self._offer(host)

    def start(self) -> int | None:
        """Return a row that may begin now, or None if none may before another one ends."""
        while self._ready or self._half_open():
            host = self._ready.popleft()
            host.queued = False
            if not self._may_start(host):
                # It lost its rows or failed while it was queued; another host of the domain takes its place.
                self._next_of(host.domain)
            elif host.domain.running >= self._per_domain:
                host.queued = True
                host.domain.waiting.append(host)
            else:
                host.running += 1
                host.domain.running += 1
                self._running += 1
                row = host.rows.popleft()
                self._offer(host)
                return row
        return None

    def give_up(self) -> int | None:
        """Return a row that is given up because its host fails; None if there is none now."""
        return self._given_up.popleft() if self._given_up else None

    @property
    def done(self) -> bool:
        """Whether no row is left, waiting or running."""
        return not (self._running or self._ready or self._open or self._given_up)

    def leave(self) -> None:
        """Give up all rows that have not begun."""
        for host in self._hosts.values():
            self._given_up.extend(host.rows)
            host.rows.clear()

    def end(self, row: int, *, failed: bool = False, paused: bool = False) -> None:
        """Record that a row has ended, and whether its host failed to answer, or must not be asked again (`paused`)."""
        host = self._hosts[self._names[row]]
        host.running -= 1
        host.domain.running -= 1
        self._running -= 1
        host.failures = host.failures + 1 if failed else 0
        host.answered = not failed
        if paused or (failed and host.half_open):
            self._given_up.extend(host.rows)
            host.rows.clear()
        elif host.failures == self._max_failures and host.rows:
            self._open.append(host)
        host.half_open = False
        self._offer(host)
        self._next_of(host.domain)

    def _may_start(self, host: _QueuedHost) -> bool:
        if not host.rows or (host.failures >= self._max_failures and not host.half_open):
            return False
        return host.running < (self._per_host if host.answered else 1)

    def _offer(self, host: _QueuedHost) -> None:
        """Put a host into the queue, once, if one of its rows may begin."""
        if not host.queued and self._may_start(host):
            host.queued = True
            self._ready.append(host)

    def _next_of(self, domain: _Domain) -> None:
        if domain.waiting:
            self._ready.append(domain.waiting.popleft())

    def _half_open(self) -> bool:
        """When no other row is left, let one more row of each host with an open breaker begin."""
        if self._running:
            return False
        for host in self._open:
            host.half_open = host.failures >= self._max_failures
            self._offer(host)
        self._open.clear()
        return bool(self._ready)
