"""Turns at hosts and domains: never more at once, never closer together, whoever asks and however many they are."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from made.processes import programs

from laion_dask import params
from laion_dask.web.archive.replay import Loopback
from laion_dask.web.fetch.fetcher import open_fetcher
from laion_dask.web.fetch.host_limits import HostLimits
from laion_dask.web.fetch.leases import LeaseLostError, LimitServerAddress, LimitServerGoneError, open_limits
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.web.fetch.replay_address import ReplayAddress

ENOUGH_S = 120.0


def limits(defaults: params.Params, **changes: object) -> params.Download:
    given: dict[str, Any] = {"rights": (), "retries": 0, "timeout_s": ENOUGH_S, **changes}
    return defaults.download.model_copy(update=given)


def fetch(
    settings: params.Download, replay: ReplayAddress, limit_server: LimitServerAddress, urls: list[str], workers: int
) -> None:
    async def run() -> None:
        opening = open_fetcher(
            settings, replay=replay, user_agent="laion-dask/test", workers=workers, limit_server=limit_server
        )
        async with opening as fetcher:
            found = await asyncio.gather(*(fetcher.fetch(url) for url in urls))
        assert {fetched.reason for fetched in found} == {"keep"}

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize(("hosts", "at_once"), [(1, 2), (4, 3)])
def test_more_processes_than_connections_stay_within_the_limits_of_host_and_domain(
    defaults: params.Params, hosts: int, at_once: int
) -> None:
    settings = limits(defaults, connections_per_host=2, connections_per_domain=3)
    urls = [f"http://img{place % hosts}.shop.example/{place}" for place in range(24)]
    open_now, most = 0, 0
    full = asyncio.Event()

    async def counted(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        try:
            if "robots" not in request.path and "tdmrep" not in request.path:
                # The first ones stay until there are as many as may be; then each stays for long enough to be met.
                if open_now == at_once:
                    full.set()
                async with asyncio.timeout(ENOUGH_S):
                    await full.wait()
                await asyncio.sleep(0.03)
            return web.Response(body=b"abc")
        finally:
            open_now -= 1

    context = multiprocessing.get_context("spawn")
    with Loopback(counted) as server, LimitServer(settings) as limit_server:
        others = [
            context.Process(target=fetch, args=(settings, server.address, limit_server.address, urls, 3))
            for _ in range(3)
        ]
        for other in others:
            other.start()
        for other in others:
            other.join(programs.PATIENCE_S)
            other.kill()
            other.join()
        assert [other.exitcode for other in others] == [0, 0, 0]
        assert max(server.peak.values()) <= 2
        assert most == at_once


def test_several_workers_without_a_limit_server_are_refused(defaults: params.Params) -> None:
    async def run() -> None:
        async with open_fetcher(defaults.download, replay=None, user_agent="laion-dask/test", workers=2):
            pass

    with pytest.raises(ValueError, match=r"2 workers share the limits for a host\. Remedy: open a LimitServer"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("hosts", "changes", "least_s"),
    [
        (["a.example"] * 4, {"host_interval_s": 0.1}, 0.3),
        (["a.b.example", "c.b.example", "b.example", "d.b.example"], {"domain_interval_s": 0.1}, 0.3),
        (["a.github.io", "b.github.io", "c.github.io"], {"domain_interval_s": 3600.0}, 0.0),
        (["10.0.0.1", "10.0.0.2"], {"domain_interval_s": 3600.0}, 0.0),
        (["a.example", "b.example"], {"host_interval_s": 3600.0, "domain_interval_s": 3600.0}, 0.0),
    ],
)
def test_requests_are_as_far_apart_as_host_and_domain_want_from_shard_to_shard(
    defaults: params.Params, hosts: list[str], changes: dict[str, object], least_s: float
) -> None:
    settings = limits(defaults, **changes)
    with LimitServer(settings) as server:
        began = time.monotonic()
        for host in hosts:
            # A client of its own for each slot, as each shard has. An hour's interval would end in a timeout.
            asyncio.run(one_slot(settings, server.address, host))
        took = time.monotonic() - began
    assert took >= least_s


async def one_slot(settings: params.Download, address: LimitServerAddress, host: str, delay_s: float = 0.0) -> None:
    async with asyncio.timeout(ENOUGH_S), open_limits(settings, address) as limiter, limiter.slot(host, delay_s):
        pass


def test_a_crawl_delay_lengthens_the_interval(defaults: params.Params) -> None:
    async def run() -> float:
        limiter = HostLimits(limits(defaults))
        began = time.monotonic()
        for _ in range(3):
            async with limiter.slot("a.example", 0.1):
                pass
        return time.monotonic() - began

    assert asyncio.run(run()) >= 0.2


def test_a_pause_holds_back_all_workers_but_no_other_host(defaults: params.Params) -> None:
    settings = limits(defaults)

    async def run(address: LimitServerAddress) -> None:
        async with (
            asyncio.timeout(ENOUGH_S),
            open_limits(settings, address) as one,
            open_limits(settings, address) as two,
        ):
            async with one.slot("a.example"):
                pass
            for pause_s in (0.3, 3600.0):
                one.pause("a.example", pause_s)
                began = time.monotonic()
                # Granted meanwhile; and what the server answers after the pause, it has read after the pause.
                async with one.slot("b.example"):
                    pass
                waiting = asyncio.ensure_future(two.slot("a.example").__aenter__())
                await asyncio.sleep(0)
                if pause_s < 1:
                    await waiting
                    # Timers fire up to the resolution of the clock too early.
                    assert time.monotonic() - began >= pause_s - 0.01
            # The server has read who waits before it grants this one.
            async with two.slot("b.example"):
                assert not waiting.done()
            waiting.cancel()

    with LimitServer(settings) as server:
        asyncio.run(run(server.address))


def test_a_worker_that_dies_frees_its_slots(defaults: params.Params) -> None:
    settings = limits(defaults, connections_per_host=1)

    async def run(address: LimitServerAddress) -> None:
        async with open_limits(settings, address) as dying:
            held = dying.slot("a.example")
            await held.__aenter__()
        # Its connection is closed, and nothing was said.
        async with asyncio.timeout(ENOUGH_S), open_limits(settings, address) as other, other.slot("a.example"):
            pass

    with LimitServer(settings) as server:
        asyncio.run(run(server.address))


def test_a_task_that_stops_waiting_gives_up_its_place(defaults: params.Params) -> None:
    settings = limits(defaults, connections_per_host=1)

    async def run(address: LimitServerAddress) -> None:
        async with open_limits(settings, address) as limiter:
            async with limiter.slot("a.example"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1), limiter.slot("a.example"):
                        pass
            async with asyncio.timeout(ENOUGH_S), limiter.slot("a.example"):
                pass

    with LimitServer(settings) as server:
        asyncio.run(run(server.address))


def test_a_limit_server_that_is_gone_is_an_error_and_no_verdict(defaults: params.Params) -> None:
    settings = limits(defaults)
    with LimitServer(settings) as server:
        address = server.address
    with pytest.raises(LimitServerGoneError, match=r"limit server is gone\. Remedy: run again"):
        asyncio.run(one_slot(settings, address, "a.example"))


@pytest.mark.parametrize(
    "change",
    [
        lambda told: LimitServerAddress(told.host, told.port, "guessed"),
        lambda told: LimitServerAddress(told.host, told.port, "x" * 100_000),
    ],
)
def test_a_client_without_the_token_gets_no_slot(
    defaults: params.Params, change: Callable[[LimitServerAddress], LimitServerAddress]
) -> None:
    settings = limits(defaults)
    with LimitServer(settings) as server, pytest.raises(LimitServerGoneError):
        asyncio.run(one_slot(settings, change(server.address), "a.example"))


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [False, True], ids=["in clear", "by TLS"])
def test_a_server_that_ends_while_workers_come_leaves_nobody_half_served(
    defaults: params.Params, *, encrypted: bool
) -> None:
    settings = limits(defaults, connections_per_host=1)
    over = threading.Event()

    def come(address: LimitServerAddress) -> None:
        while not over.is_set():
            # Refused or cut off once the server is gone.
            with suppress(OSError), socket.create_connection((address.host, address.port), timeout=5) as connection:
                connection.sendall(f"{address.token}\ntake 0 a.example 0\ntake 1 a.example 0\n".encode())
                connection.recv(16)

    def come_by_tls(address: LimitServerAddress) -> None:
        while not over.is_set():
            with suppress(LimitServerGoneError, LeaseLostError):
                asyncio.run(one_slot(settings, address, "a.example"))

    for _ in range(40):
        over.clear()
        with ThreadPoolExecutor(4) as workers:
            with LimitServer(settings, encrypted=encrypted) as server:
                for _ in range(4):
                    workers.submit(come_by_tls if encrypted else come, server.address)
                time.sleep(0.01)
            over.set()
    # A task or a connection that was left behind is reported when it is collected, which pytest counts as a failure.
    gc.collect()
