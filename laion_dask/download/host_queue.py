"""The queue of rows of a shard: hosts alternate, and a host that fails waits until all others are done.

A slow or dead host holds no more rows than it may be asked for at once; all other rows pass by. For each host there is
a circuit breaker. Closed: rows start up to the limit, but the first one alone until the host has answered. Open: after
so many failures in a row none starts. Half-open: when nothing else is left, one more row is tried; an answer closes the
breaker, a failure gives the rest of the host up. No clock decides, so the same answers lead to the same rows.
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
    waiting: deque[_Host] = field(default_factory=deque)


@dataclass(slots=True)
class _Host:
    domain: _Domain
    rows: deque[int] = field(default_factory=deque)
    running: int = 0
    failures: int = 0
    answered: bool = False
    queued: bool = False
    half_open: bool = False


class HostQueue:
    """Rows, as places in the list of their hosts, that have not begun; those of one host keep their order."""

    def __init__(self, hosts: Sequence[str], settings: params.Download) -> None:
        self._per_host = settings.connections_per_host
        self._per_domain = settings.connections_per_domain
        self._max_failures = settings.host_failures
        self._hosts: dict[str, _Host] = {}
        self._names = hosts
        self._ready: deque[_Host] = deque()
        self._open: list[_Host] = []
        self._running = 0
        self._given_up: deque[int] = deque()
        domains: dict[str, _Domain] = {}
        for row, name in enumerate(hosts):
            host = self._hosts.get(name)
            if host is None:
                domain = domains.setdefault(registrable_domain(name) or name, _Domain())
                host = self._hosts[name] = _Host(domain)
            host.rows.append(row)
            self._offer(host)

    def start(self) -> int | None:
        """Return a row that may begin now, or None where none may until another one has ended."""
        while self._ready or self._half_open():
            host = self._ready.popleft()
            host.queued = False
            if not self._may_start(host):
                # It lost its rows or its standing while it was in the line; another host of the domain takes its place.
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
        """Return a row that is not to be asked for, because its host fails; None where there is none now."""
        return self._given_up.popleft() if self._given_up else None

    @property
    def done(self) -> bool:
        """Whether no row is left, begun ones among them."""
        return not (self._running or self._ready or self._open or self._given_up)

    def leave(self) -> None:
        """Give up all rows that have not begun."""
        for host in self._hosts.values():
            self._given_up.extend(host.rows)
            host.rows.clear()

    def end(self, row: int, *, failed: bool = False, paused: bool = False) -> None:
        """Note that a row has ended, and whether its host failed to answer, or is to be left alone (`paused`)."""
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

    def _may_start(self, host: _Host) -> bool:
        if not host.rows or (host.failures >= self._max_failures and not host.half_open):
            return False
        return host.running < (self._per_host if host.answered else 1)

    def _offer(self, host: _Host) -> None:
        """Put a host into the line, once, if one of its rows may begin."""
        if not host.queued and self._may_start(host):
            host.queued = True
            self._ready.append(host)

    def _next_of(self, domain: _Domain) -> None:
        if domain.waiting:
            self._ready.append(domain.waiting.popleft())

    def _half_open(self) -> bool:
        """When nothing else is left, let one more row of each host with an open breaker begin."""
        if self._running:
            return False
        for host in self._open:
            host.half_open = host.failures >= self._max_failures
            self._offer(host)
        self._open.clear()
        return bool(self._ready)
