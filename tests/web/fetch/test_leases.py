"""Turns are leases: a client that is silent loses them, others go on, and when it comes back it does no harm."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

import pytest
from aiohttp import web
from made.places import ROOT
from made.processes import programs

from laion_dask import params
from laion_dask.web.archive.replay import Loopback
from laion_dask.web.fetch.fetcher import open_fetcher
from laion_dask.web.fetch.host_limits import RateLimiter
from laion_dask.web.fetch.leases import LeaseLostError, LimitServerAddress, LimitServerGoneError, open_limits
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.web.fetch.replay_address import ReplayAddress

LEASE_S: Final = 6.0
"""No machine is so busy that it lets no process run for as long."""
ENOUGH_S: Final = 120.0
HOST: Final = "a.example"
SPAWN: Final = multiprocessing.get_context("spawn")


def limits(defaults: params.Params, **changes: object) -> params.Download:
    given: dict[str, Any] = {
        "rights": (), "retries": 0, "connections_per_host": 1, "source": "web", "contact": "https://a.example",
        "timeout_s": 2 * ENOUGH_S, **changes,
    }  # fmt: skip
    return defaults.download.model_copy(update=given)


async def take(settings: params.Download, address: LimitServerAddress) -> None:
    async with asyncio.timeout(ENOUGH_S), open_limits(settings, address) as limiter, limiter.slot(HOST):
        pass


def fetch(
    settings: params.Download, replay: ReplayAddress, limit_server: LimitServerAddress, url: str, told: Connection
) -> None:
    """Fetch an address, as a process of its own, and say how it ended and in how many tries."""

    async def run() -> None:
        async with open_fetcher(
            settings, replay=replay, user_agent="test", workers=2, limit_server=limit_server
        ) as fetcher:
            fetched = await fetcher.fetch(url)
            told.send((fetched.reason, fetched.attempts))

    asyncio.run(run())


@contextmanager
def process(*args: object) -> Iterator[tuple[int, Connection]]:
    """Run `fetch` in a process of its own; yield its pid and what it says."""
    here, there = SPAWN.Pipe()
    child = SPAWN.Process(target=fetch, args=(*args, there))
    child.start()
    there.close()
    try:
        assert child.pid is not None
        yield child.pid, here
        child.join(ENOUGH_S)
        assert child.exitcode == 0, "it hangs" if child.exitcode is None else "it failed"
    finally:
        child.kill()
        child.join()
        here.close()


def heard(told: Connection) -> object:
    """Return what a process says; the test fails where it says nothing."""
    assert told.poll(ENOUGH_S), "the process has said nothing"
    return told.recv()


class Slow:
    """Answers `/slow` when it is told to, and knows which requests are open."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.open = 0
        self.go = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.startswith("/slow"):
            return web.Response(status=404)
        self.came.append(request.path)
        self.open += 1
        try:
            # Looked at every so often: the server of aiohttp does not say when a client hangs up.
            while not self.go and request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        finally:
            self.open -= 1
        return web.Response(body=b"abc")

    def wait_for(self, requests: int) -> None:
        programs.until(lambda: len(self.came) >= requests, f"{requests} requests have come")


@pytest.mark.slow
def test_a_client_that_is_stopped_loses_its_turn_and_does_no_harm_when_it_goes_on(defaults: params.Params) -> None:
    settings, slow = limits(defaults), Slow()
    with (
        Loopback(slow.answer) as server,
        LimitServer(settings, lease_s=LEASE_S) as limit_server,
        process(settings, server.address, limit_server.address, f"http://{HOST}/slow/1") as (first, told_first),
    ):
        slow.wait_for(1)
        os.kill(first, signal.SIGSTOP)
        try:
            with process(settings, server.address, limit_server.address, f"http://{HOST}/slow/2") as (_, told_second):
                # The host belongs to the second one, although the first has closed nothing.
                slow.wait_for(2)
                os.kill(first, signal.SIGCONT)
                # The first one breaks its request off, and does not begin another before the second has ended.
                programs.until(lambda: slow.open == 1, "the first request is broken off")
                time.sleep(LEASE_S)
                assert slow.came == ["/slow/1", "/slow/2"]
                slow.go = True
                assert heard(told_second) == ("keep", 1)
            # It asked again, which is no second try.
            assert heard(told_first) == ("keep", 1)
            assert slow.came == ["/slow/1", "/slow/2", "/slow/1"]
        finally:
            os.kill(first, signal.SIGCONT)


@pytest.mark.slow
def test_a_client_that_beats_keeps_its_turn_for_longer_than_a_lease(defaults: params.Params) -> None:
    settings = limits(defaults)

    async def run(address: LimitServerAddress) -> None:
        async with open_limits(settings, address) as one, open_limits(settings, address) as two:
            async with one.slot(HOST):
                waiting = asyncio.ensure_future(two.slot(HOST).__aenter__())
                await asyncio.sleep(2 * LEASE_S)
                assert not waiting.done()
            await asyncio.wait_for(waiting, ENOUGH_S)

    with LimitServer(settings, lease_s=LEASE_S) as server:
        asyncio.run(run(server.address))


@pytest.mark.slow
@pytest.mark.parametrize(
    "lines", ["take 0 a.example 0\n", "take 0 a.example 0\ngive 7\n", "take 0 a.example 0\nnonsense\ntake"]
)
def test_a_connection_that_is_open_and_silent_holds_no_slot(defaults: params.Params, lines: str) -> None:
    settings = limits(defaults)
    with LimitServer(settings, lease_s=LEASE_S) as server:
        address = server.address
        with socket.create_connection((address.host, address.port)) as silent:
            silent.sendall(f"{address.token}\n{lines}".encode())
            assert silent.recv(64).startswith(b"ok\n")
            asyncio.run(take(settings, address))


@pytest.mark.slow
def test_a_client_gives_its_turn_up_before_a_server_that_it_does_not_hear_can_take_it_back(
    defaults: params.Params,
) -> None:
    settings = limits(defaults)
    with server_elsewhere("127.0.0.1") as (address, server):

        async def hold_of_a_stopped_server(limiter: RateLimiter) -> None:
            async with limiter.slot(HOST):
                server.send_signal(signal.SIGSTOP)
                await asyncio.sleep(2 * ENOUGH_S)

        async def run() -> None:
            async with asyncio.timeout(ENOUGH_S), open_limits(settings, address) as limiter:
                # The server is stopped: it is the client that ends the block, which would last until the timeout.
                with pytest.raises(LeaseLostError):
                    await hold_of_a_stopped_server(limiter)
                server.send_signal(signal.SIGCONT)
                # The same client goes on by itself.
                async with limiter.slot(HOST):
                    pass

        asyncio.run(run())


def test_where_the_server_is_gone_who_waits_and_who_comes_are_told(defaults: params.Params) -> None:
    settings = limits(defaults)

    async def run(address: LimitServerAddress, server: subprocess.Popen[str]) -> None:
        async with asyncio.timeout(ENOUGH_S), open_limits(settings, address) as limiter:
            holds = asyncio.Event()

            async def hold() -> None:
                async with limiter.slot(HOST):
                    holds.set()
                    await asyncio.sleep(2 * ENOUGH_S)

            holding = asyncio.ensure_future(hold())
            await holds.wait()
            waiting = asyncio.ensure_future(limiter.slot(HOST).__aenter__())
            await asyncio.sleep(0.2)
            server.kill()
            with pytest.raises(LeaseLostError):
                await holding
            with pytest.raises(LimitServerGoneError, match="limit server is gone"):
                await waiting
            with pytest.raises(LimitServerGoneError):
                await limiter.slot("c.example").__aenter__()

    with server_elsewhere("127.0.0.1") as (address, server):
        asyncio.run(run(address, server))


def test_a_pause_is_told_to_others_who_wait_for_the_host(defaults: params.Params) -> None:
    settings = limits(defaults)
    heard: list[tuple[str, float]] = []

    async def run(address: LimitServerAddress) -> None:
        async with (
            open_limits(settings, address) as one,
            open_limits(settings, address, lambda host, seconds: heard.append((host, seconds))) as two,
        ):
            async with one.slot(HOST):
                waiting = asyncio.ensure_future(two.slot(HOST).__aenter__())
                await asyncio.sleep(0)
                # The server has read who waits before it grants this one.
                async with two.slot("granted.example"):
                    pass
                one.pause(HOST, 0.5)
                one.pause("other.example", 0.5)
            await asyncio.wait_for(waiting, ENOUGH_S)

    with LimitServer(settings) as server:
        asyncio.run(run(server.address))
    assert heard == [(HOST, 0.5)]


@pytest.mark.slow
def test_strangers_without_the_word_keep_no_worker_out(defaults: params.Params) -> None:
    settings = limits(defaults)
    with LimitServer(settings) as server, ExitStack() as strangers:
        address = server.address
        for _ in range(200):
            stranger = strangers.enter_context(socket.create_connection((address.host, address.port)))
            stranger.sendall(b"take 0 a.example 0")
        asyncio.run(take(settings, address))
        with pytest.raises(LimitServerGoneError):
            asyncio.run(take(settings, LimitServerAddress(address.host, address.port, "x" * 32)))


PROGRAM: Final = """
import sys, threading
from pathlib import Path
from laion_dask import params
from laion_dask.web.fetch.limit_server import LimitServer
settings = params.load(Path(sys.argv[1])).download.model_copy(update={"connections_per_host": 1})
with LimitServer(settings, sys.argv[2], lease_s=float(sys.argv[3])) as server:
    print(server.address.port, server.address.token, flush=True)
    sys.stdin.read()
"""
HOLD: Final = """
import asyncio, sys
from pathlib import Path
from laion_dask import params
from laion_dask.web.fetch.host_limits import RateLimiter
from laion_dask.web.fetch.leases import LeaseLostError, LimitServerAddress, open_limits
settings = params.load(Path(sys.argv[1])).download
address = LimitServerAddress(sys.argv[2], int(sys.argv[3]), sys.argv[4], float(sys.argv[5]))
async def hold():
    async with open_limits(settings, address) as limiter:
        try:
            async with limiter.slot("a.example"):
                print("held", flush=True)
                await asyncio.sleep(600)
        except LeaseLostError:
            print("lost", flush=True)
        async with limiter.slot("a.example"):
            print("held", flush=True)
asyncio.run(hold())
"""


@contextmanager
def server_elsewhere(host: str) -> Iterator[tuple[LimitServerAddress, subprocess.Popen[str]]]:
    """Run a limit server in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, str(ROOT / "params.yaml"), host, str(LEASE_S)]
    with programs.running(command, stdin=subprocess.PIPE, stderr=None, cwd=ROOT) as server:
        port, token = programs.line_of(server).split()
        yield LimitServerAddress(host, int(port), token, LEASE_S), server


@contextmanager
def machine(name: str) -> Iterator[tuple[str, str]]:
    """Make a network of this machine and one other (a namespace); yield this machine's address and the link's name."""
    ends = (f"{name}a", f"{name}b")

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=ENOUGH_S)

    ip("netns", "add", name)
    try:
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", name)
        ip("addr", "add", "10.213.77.1/30", "dev", ends[0])
        ip("link", "set", ends[0], "up")
        ip("-n", name, "addr", "add", "10.213.77.2/30", "dev", ends[1])
        ip("-n", name, "link", "set", ends[1], "up")
        yield "10.213.77.1", ends[0]
    finally:
        # The link goes with the namespace.
        ip("netns", "del", name)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip")
def test_a_machine_that_loses_its_network_loses_its_turns_and_comes_back(defaults: params.Params) -> None:
    settings = limits(defaults)
    with ExitStack() as ends:
        try:
            here, link = ends.enter_context(machine(f"ld{os.getpid()}"))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        server = ends.enter_context(LimitServer(settings, here, lease_s=LEASE_S))
        address = server.address
        arguments = [str(ROOT / "params.yaml"), here, str(address.port), address.token, str(LEASE_S)]
        command = ["ip", "netns", "exec", link[:-1], sys.executable, "-c", HOLD, *arguments]
        other = ends.enter_context(programs.running(command, stderr=None, cwd=ROOT))
        assert programs.line_of(other) == "held\n"
        programs.finished(["ip", "link", "set", link, "down"], check=True)
        asyncio.run(take(settings, address))
        assert programs.line_of(other) == "lost\n"
        programs.finished(["ip", "link", "set", link, "up"], check=True)
        assert programs.line_of(other) == "held\n"
        said = programs.ended(other)
        assert other.returncode == 0, said
