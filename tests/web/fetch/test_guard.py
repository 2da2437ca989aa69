"""Names and addresses: only public ones are connected to, whatever they are called and whenever they change."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable

import pytest
from aiohttp.abc import ResolveResult

from laion_dask.web.fetch import guard
from laion_dask.web.fetch.cache import SharedCache
from laion_dask.web.fetch.guard import LookupResult, PrivateAddressError, PublicResolver

ENOUGH_S = 120.0
V4, V6 = socket.AF_INET, socket.AF_INET6


def found(*addresses: str) -> LookupResult:
    return LookupResult(tuple((V6 if ":" in address else V4, address) for address in addresses))


class Names:
    """A resolver of the system's shape, with answers given beforehand: the last one stays."""

    def __init__(self, *answers: LookupResult, slow_s: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.slow_s = slow_s

    def __call__(self, host: str, family: socket.AddressFamily) -> LookupResult:
        del host, family
        self.asked += 1
        time.sleep(self.slow_s)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def resolve(names: Callable[[str, socket.AddressFamily], LookupResult], *hosts: str) -> list[list[ResolveResult]]:
    async def run() -> list[list[ResolveResult]]:
        resolver = PublicResolver(names)
        return list(await asyncio.gather(*(resolver.resolve(host, 443) for host in hosts)))

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("addresses", "public"),
    [
        (["8.8.8.8"], ["8.8.8.8"]),
        (["10.0.0.1", "8.8.8.8", "::1"], ["8.8.8.8"]),
        (["2606:4700::1111"], ["2606:4700::1111"]),
        (["127.0.0.1"], []),
        (["0.0.0.0"], []),  # noqa: S104 - no socket is bound
        (["169.254.169.254"], []),
        (["192.168.0.1", "172.16.0.1"], []),
        (["100.64.0.1"], []),
        (["224.0.0.251"], []),
        (["255.255.255.255"], []),
        (["::1", "fe80::1%eth0", "fd00::1", "ff02::fb"], []),
        (["::ffff:127.0.0.1", "::ffff:10.0.0.1"], []),
        (["64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe"], []),
        (["::127.0.0.1"], []),
        ([], []),
    ],
)
def test_of_the_addresses_of_a_name_only_public_ones_are_handed_out(addresses: list[str], public: list[str]) -> None:
    if public:
        assert [
            [result["host"] for result in results] for results in resolve(Names(found(*addresses)), "a.example")
        ] == [public]
        return
    with pytest.raises(PrivateAddressError, match=r"a\.example has no public address"):
        resolve(Names(found(*addresses)), "a.example")


def test_a_name_is_looked_up_once_however_many_wait_and_once_for_all_shards() -> None:
    names = Names(found("8.8.8.8"), slow_s=0.05)
    resolve(names, *["a.example"] * 20)
    resolve(names, *["a.example"] * 20)
    assert names.asked == 1


def test_a_name_that_changes_its_mind_is_checked_again_before_it_is_used() -> None:
    # Rebinding: whoever looks the name up anew gets the new answer checked, and a socket is made to a checked address.
    assert resolve(Names(found("8.8.8.8"), found("127.0.0.1")), "a.example")[0][0]["host"] == "8.8.8.8"
    with pytest.raises(PrivateAddressError):
        resolve(Names(found("127.0.0.1"), found("8.8.8.8")), "a.example")
    with pytest.raises(PrivateAddressError):
        guard.socket_factory(None)((V4, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)))


def test_a_name_that_does_not_exist_is_remembered_and_a_failure_of_the_resolver_is_not() -> None:
    gone = Names(LookupResult(error=socket.gaierror(socket.EAI_NONAME, "no")))
    ill = Names(LookupResult(error=socket.gaierror(socket.EAI_AGAIN, "later")), found("8.8.8.8"))
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            resolve(gone, "a.example")
    assert gone.asked == 1
    with pytest.raises(socket.gaierror):
        resolve(ill, "a.example")
    assert resolve(ill, "a.example")[0][0]["host"] == "8.8.8.8"


def test_names_that_never_answer_do_not_hold_up_others() -> None:
    stuck = threading.Event()

    def names(host: str, family: socket.AddressFamily) -> LookupResult:
        del family
        if host.startswith("stuck"):
            stuck.wait(ENOUGH_S)
        return found("8.8.8.8")

    async def run() -> None:
        resolver = PublicResolver(names)
        waiting = [asyncio.ensure_future(resolver.resolve(f"stuck{place}.example")) for place in range(40)]
        await resolver.resolve("quick.example")
        # All that were asked before still wait.
        assert not stuck.is_set()
        assert not any(one.done() for one in waiting)
        stuck.set()
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_the_system_says_what_localhost_is_and_refuses_what_is_no_name() -> None:
    assert ("127.0.0.1" in [address for _, address in guard.look_up("localhost", V4).addresses]) is True
    assert guard.look_up("a" * 64 + ".example", V4).error is not None


def test_a_cache_has_limits_of_number_and_age() -> None:
    now = [0.0]
    cache: SharedCache[str, int] = SharedCache(2, 10.0, clock=lambda: now[0])
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)
    now[0] = 10.0
    assert (cache.get("a"), cache.get("c"), len(cache)) == (None, None, 0)


def test_a_cache_has_a_limit_of_size_that_counts_what_is_there() -> None:
    cache: SharedCache[str, int] = SharedCache(10, 10.0, lambda value: value, clock=lambda: 0.0)
    for name in "abc":
        cache.put(name, 4)
    assert [cache.get(name) for name in "abc"] == [None, 4, 4]
    cache.put("b", 6)
    assert [cache.get(name) for name in "abc"] == [None, 6, 4]
    cache.put("b", 11)
    assert [cache.get(name) for name in "abc"] == [None, None, 4], "a value that is too large replaces an earlier one"
    cache.put("e", 10)
    assert [cache.get(name) for name in "ace"] == [None, None, 10]
