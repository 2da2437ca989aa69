"""Between machines, the servers of the driver speak TLS only, and clients ask no other server."""

from __future__ import annotations

import asyncio
import gc
import http.client
import multiprocessing
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import trustme
from made.crawls.warcs import plain, response
from made.servers.replies import ask

from laion_dask import params
from laion_dask.web.archive.replay import Replay
from laion_dask.web.fetch.exchange import ReplayGoneError
from laion_dask.web.fetch.leases import LeaseLostError, LimitServerAddress, LimitServerGoneError, open_limits
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.web.fetch.replay_address import MARK, over_tls

ENOUGH_S = 120.0
HOST = "a.example"
LONG = ".".join(["label" * 12] * 5)
"""A name that is too long for TLS."""


def another_authority() -> str:
    return trustme.CA().cert_pem.bytes().decode()


async def take(settings: params.Download, address: LimitServerAddress) -> None:
    async with asyncio.timeout(ENOUGH_S), open_limits(settings, address) as limiter, limiter.slot(HOST):
        pass


def test_a_client_of_the_run_gets_its_slots_by_tls(defaults: params.Params) -> None:
    with LimitServer(defaults.download, encrypted=True) as server:
        assert server.address.ca_pem
        assert "CERTIFICATE" not in repr(server.address)
        for _ in range(3):
            asyncio.run(take(defaults.download, server.address))


REFUSALS: dict[str, tuple[Callable[[LimitServerAddress], LimitServerAddress], str]] = {
    "the wrong token": (lambda told: replace(told, token="x" * 32), "the limit server is gone"),
    "a token without end": (lambda told: replace(told, token="x" * 100_000), "the limit server is gone"),
    "no TLS": (lambda told: replace(told, ca_pem=""), "the limit server is gone"),
    "trust in another certificate": (
        lambda told: replace(told, ca_pem=another_authority()),
        r"is not the limit server of this run \(.*certificate.*\)\. Remedy: check that laion-dask\.cluster\.host",
    ),
    "another name than the certificate's": (
        lambda told: replace(told, host="localhost"),
        "is not the limit server of this run .*localhost",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_client_gets_no_slot_with(name: str, defaults: params.Params) -> None:
    change, message = REFUSALS[name]
    began = time.monotonic()
    with LimitServer(defaults.download, encrypted=True) as server, pytest.raises(LimitServerGoneError, match=message):
        asyncio.run(take(defaults.download, change(server.address)))
    assert time.monotonic() - began < server.address.lease_s, "it waits for a network that is not down"


def test_a_client_that_expects_tls_sends_its_token_to_no_other_server(defaults: params.Params) -> None:
    with LimitServer(defaults.download, encrypted=True) as server, socket.create_server(("127.0.0.1", 0)) as other:
        came = []

        async def run() -> None:
            async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                came.append(await reader.read(100))
                writer.write(b"ok\n")
                writer.close()

            async with await asyncio.start_server(listen, sock=other):
                await take(defaults.download, replace(server.address, port=other.getsockname()[1]))

        with pytest.raises(LimitServerGoneError):
            asyncio.run(run())
    assert came
    assert not any(server.address.token.encode() in some for some in came)


def test_strangers_who_start_no_handshake_keep_no_worker_out(defaults: params.Params) -> None:
    with LimitServer(defaults.download, encrypted=True) as server, ExitStack() as strangers:
        for _ in range(200):
            strangers.enter_context(socket.create_connection((server.address.host, server.address.port)))
        asyncio.run(take(defaults.download, server.address))
    gc.collect()  # a connection that was left open is reported now


def holds(settings: params.Download, address: LimitServerAddress, told: Connection) -> None:
    """Hold a slot, as a process of its own, until it is killed."""

    async def run() -> None:
        with suppress(LeaseLostError):
            async with open_limits(settings, address) as limiter, limiter.slot(HOST):
                told.send("holds")
                await asyncio.sleep(ENOUGH_S)

    asyncio.run(run())


@pytest.mark.slow
def test_a_worker_that_is_killed_frees_its_slots(defaults: params.Params) -> None:
    settings = defaults.download.model_copy(update={"connections_per_host": 1, "host_interval_s": 0.0})
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    with LimitServer(settings, encrypted=True) as server:
        child = spawn.Process(target=holds, args=(settings, server.address, there))
        child.start()
        there.close()
        try:
            assert here.poll(ENOUGH_S)
            assert here.recv() == "holds"
        finally:
            child.kill()
            child.join()
            here.close()
        asyncio.run(take(settings, server.address))


def test_who_holds_or_waits_when_the_server_ends_is_told(defaults: params.Params) -> None:
    settings = defaults.download.model_copy(update={"connections_per_host": 1, "host_interval_s": 0.0})

    async def run(server: LimitServer, end: Callable[[], Any]) -> None:
        async with asyncio.timeout(ENOUGH_S), open_limits(settings, server.address) as limiter:
            held = asyncio.Event()

            async def hold() -> None:
                async with limiter.slot(HOST):
                    held.set()
                    await asyncio.sleep(ENOUGH_S)

            holding = asyncio.ensure_future(hold())
            await held.wait()
            waiting = asyncio.ensure_future(limiter.slot(HOST).__aenter__())
            await asyncio.sleep(0.1)
            await asyncio.to_thread(end)
            with pytest.raises(LeaseLostError):
                await holding
            with pytest.raises(LimitServerGoneError):
                await waiting

    with ExitStack() as stack:
        server = stack.enter_context(LimitServer(settings, encrypted=True))
        asyncio.run(run(server, stack.close))
    gc.collect()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("warcs") / "a.warc"
    records = [
        response("http://a.example/both", b"over http"),
        response("https://a.example/both", b"over https"),
        response("http://under_score.example/", b"odd name"),
        response(f"http://{LONG}/", b"long name"),
    ]
    path.write_bytes(plain(records))
    return path


URLS = (
    *("http://a.example/both", "https://a.example/both", "http://under_score.example/"),
    *(f"http://{LONG}/", "http://a.example/gone", "https://nowhere.example/", "http://nowhere.example/"),
)


def test_an_encrypted_replay_gives_the_same_answers(archive: Path) -> None:
    with Replay([archive]) as clear, Replay([archive], encrypted=True) as encrypted:
        assert ask(encrypted.address, *URLS) == ask(clear.address, *URLS)
        assert [reply.body for reply in ask(encrypted.address, *URLS)][:4] == [
            *(b"over http", b"over https", b"odd name", b"long name")
        ]


@pytest.mark.parametrize("port", ["http_port", "https_port"])
def test_an_encrypted_replay_answers_nothing_in_clear_and_nobody_without_the_token(archive: Path, port: str) -> None:
    with Replay([archive], encrypted=True) as replay:
        address, number = replay.address, getattr(replay.address, port)
        with closing(http.client.HTTPConnection(address.host, number, timeout=ENOUGH_S)) as clear:
            clear.request("GET", "/both", headers={"Host": HOST, MARK: address.token})
            with pytest.raises((OSError, http.client.HTTPException)):
                clear.getresponse()
        trusting = ssl.create_default_context(cadata=address.ca_pem)
        trusting.check_hostname = False
        for token, status in (("0" * 32, 403), (address.token, 200)):
            stranger = http.client.HTTPSConnection(address.host, number, timeout=ENOUGH_S, context=trusting)
            with closing(stranger):
                stranger.request("GET", "/both", headers={"Host": HOST, MARK: token})
                assert stranger.getresponse().status == status


@pytest.mark.parametrize("url", ["http://a.example/both", "https://a.example/both"])
def test_a_replay_server_with_another_certificate_is_not_asked(archive: Path, url: str) -> None:
    with Replay([archive], encrypted=True) as replay:
        # An error of the run: it must not be told as a host that is down.
        with pytest.raises(ReplayGoneError, match="the replay server is gone"):
            ask(replace(replay.address, ca_pem=another_authority()), url)
        assert replay.requests == 0


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://a.example/x?y#z", "https://a.example:80/x?y#z"),
        ("http://a.example:8080/", "https://a.example:8080/"),
        ("http://[2001:db8::1]/%2F", "https://[2001:db8::1]:80/%2F"),
        ("https://a.example/", "https://a.example/"),
    ],
)
def test_urls_of_http_are_asked_by_tls_on_their_own_port(url: str, asked: str) -> None:
    assert over_tls(url) == (asked, "localhost" if url.startswith("http:") else None)
