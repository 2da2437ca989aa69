"""Hosts in, turns and rules out: how often each host is asked, and what its robots.txt, tdmrep.json and ai.txt say.

The files are asked for once for each origin (scheme, host and port), however many rows wait for them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from laion_dask.ai_txt import AiTxt
from laion_dask.rights import Decision, Policy, decide_response
from laion_dask.robots import RobotsRules
from laion_dask.tdmrep import TdmRep

CACHE_S: Final = 24 * 3600.0
"""RFC 9309 2.4: a robots.txt should not be used for longer than 24 hours."""

_CACHED_ORIGINS: Final = 20_000


@dataclass(frozen=True, slots=True)
class HostRules:
    """What an origin says in files of its own; `failure` is the reason why it could not be asked at all, else empty."""

    robots: RobotsRules
    tdmrep: TdmRep
    ai_txt: AiTxt = field(default_factory=AiTxt)
    failure: str = ""
    message: str = ""
    lasting: bool = True

    def before(self, url: str, policy: Policy) -> Decision:
        """Decide before a URL is asked for: by what no header can lift."""
        return policy.strictest([self.robots.decide(url, policy), self.ai_txt.decide(url)])

    def after(self, url: str, before: Decision, headers: Sequence[tuple[str, str]], policy: Policy) -> Decision:
        """Decide by the files and the headers of the response together; without headers, by the files."""
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
        by_type = self.ai_txt.decide(url, content_type)
        return policy.strictest([before, by_type, decide_response(headers, policy, self.tdmrep.decide(url))])


@dataclass(slots=True)
class _Lane:
    turns: asyncio.Semaphore
    next_start_s: float = 0.0


class Turns:
    """Lets requests to one host through: so many at once, and so many seconds apart."""

    def __init__(self, connections_per_host: int, host_interval_s: float, workers: int) -> None:
        # Worker processes do not talk to each other: each takes its share, so that the sum stays within the limit.
        self._limit = max(1, connections_per_host // workers)
        self._interval_s = host_interval_s * workers
        self._workers = workers
        self._lanes: dict[str, _Lane] = defaultdict(lambda: _Lane(asyncio.Semaphore(self._limit)))

    @asynccontextmanager
    async def turn(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        interval_s = max(self._interval_s, delay_s * self._workers)
        lane = self._lanes[host]
        async with lane.turns:
            if interval_s:
                now = time.monotonic()
                start = max(now, lane.next_start_s)
                lane.next_start_s = start + interval_s
                await asyncio.sleep(start - now)
            yield


@dataclass(slots=True)
class _Cache:
    """Rules of origins, for all shards that a process downloads: newest last, a day at most."""

    entries: OrderedDict[Hashable, tuple[float, HostRules]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: Hashable) -> HostRules | None:
        with self.lock:
            entry = self.entries.get(key)
            if entry is None or time.monotonic() - entry[0] > CACHE_S:
                return None
            return entry[1]

    def put(self, key: Hashable, rules: HostRules) -> None:
        with self.lock:
            self.entries[key] = (time.monotonic(), rules)
            self.entries.move_to_end(key)
            if len(self.entries) > _CACHED_ORIGINS:
                self.entries.popitem(last=False)


_CACHE: Final = _Cache()


class Rules:
    """The rules of origins, asked for once: `await rules.of(origin)`.

    `scope` keeps apart what must not be mixed in one process: the replay server or the web, and the tokens asked for.
    """

    def __init__(self, ask: Callable[[str], Awaitable[HostRules]], scope: Hashable) -> None:
        self._ask = ask
        self._scope = scope
        self._asked: dict[str, asyncio.Future[HostRules]] = {}

    async def of(self, origin: str) -> HostRules:
        """Return an origin's rules; everyone who comes while they are being fetched waits for the same answer."""
        key = (self._scope, origin)
        known = _CACHE.get(key)
        if known is not None:
            return known
        if origin not in self._asked:
            self._asked[origin] = asyncio.ensure_future(self._ask(origin))
        # One waiter that is cancelled must not take the answer from the others.
        rules = await asyncio.shield(self._asked[origin])
        if rules.lasting:
            # An origin that could not be reached is asked again by the next shard.
            _CACHE.put(key, rules)
        return rules
