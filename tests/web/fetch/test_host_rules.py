"""Rules of origins: asked for once, kept within limits however much a stranger's hosts send."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable

from laion_dask.web.fetch import host_rules
from laion_dask.web.fetch.cache import SharedCache
from laion_dask.web.fetch.host_rules import HostRules
from laion_dask.web.rights.robots import RobotsRules
from laion_dask.web.rights.tdmrep import TdmRep

MIB = 1024 * 1024


class Origins:
    """Rules of a weight for every origin, and how often each was asked for."""

    def __init__(self, weight: int, *, lasting: bool = True) -> None:
        self.asked: Counter[str] = Counter()
        self._rules = HostRules(RobotsRules(), TdmRep(), lasting=lasting, weight=weight)

    async def ask(self, origin: str) -> HostRules:
        self.asked[origin] += 1
        await asyncio.sleep(0)
        return self._rules

    def run(self, *origins: str, shards: int = 1) -> None:
        async def run() -> None:
            for _ in range(shards):
                rules = host_rules.SharedAnswers(self.ask, "test", self.cache)
                for origin in origins:
                    await asyncio.gather(*(rules.of(origin) for _ in range(5)))

        self.cache: SharedCache[Hashable, HostRules] = host_rules.cache(1_000)
        asyncio.run(run())


def test_an_origin_is_asked_for_once_however_many_wait_and_once_for_all_shards() -> None:
    origins = Origins(1_000)
    origins.run("a", "b", "a", shards=2)
    assert origins.asked == {"a": 1, "b": 1}


def test_an_origin_that_could_not_be_reached_is_asked_for_once_by_each_shard() -> None:
    origins = Origins(1_000, lasting=False)
    origins.run("a", "b", "a", shards=2)
    assert origins.asked == {"a": 2, "b": 2}


def test_what_many_hosts_send_is_forgotten_where_it_is_too_much() -> None:
    for lasting in (True, False):
        origins = Origins(MIB, lasting=lasting)
        origins.run(*(f"{place}" for place in range(100)), "99", "0")
        assert origins.asked["99"] == 1
        assert origins.asked["0"] == 2


def test_no_more_origins_are_kept_than_the_cache_has_places_however_small_their_files_are() -> None:
    cached: SharedCache[Hashable, HostRules] = host_rules.cache(10)
    for place in range(25):
        cached.put(place, HostRules(RobotsRules(), TdmRep()))
    assert (len(cached), cached.get(14), cached.get(24) is not None) == (10, None, True)
