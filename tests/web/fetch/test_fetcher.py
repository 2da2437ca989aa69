"""Hosts behave well and badly on loopback: every URL ends with its reason, and nobody is asked more than allowed."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from aiohttp import web
from made.processes import deadlines
from made.servers.replies import BODY, fetch

from laion_dask import params
from laion_dask.web.archive.replay import Loopback
from laion_dask.web.fetch import guard
from laion_dask.web.fetch.exchange import ReplayGoneError
from laion_dask.web.fetch.fetcher import backoff_s
from laion_dask.web.fetch.replay_address import ReplayAddress
from laion_dask.web.fetch.retry_after import retry_after_s
from laion_dask.web.urls.ip_addresses import is_public_address

BOMB = gzip.compress(bytes(30_000_000), 1)
TDM = '[{"location": "/reserved/", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]'
AI_TXT = "User-Agent: *\nDisallow: *.png\n"

ROBOTS: dict[str, tuple[int, str]] = {
    "closed.example": (200, "User-agent: *\nDisallow: /\n"),
    "partly.example": (200, "User-agent: *\nDisallow: /private/\n"),
    "ccbot.example": (200, "User-agent: CCBot\nDisallow: /\n"),
    "broken.example": (503, ""),
    "busy.example": (429, ""),
    "forbidden.example": (403, ""),
    "usage.example": (200, "User-agent: *\nContent-Usage: train-ai=n\nAllow: /\n"),
}

HEADERS: dict[str, dict[str, str]] = {
    "/noai": {"X-Robots-Tag": "noai"},
    "/scoped": {"X-Robots-Tag": "googlebot: noindex"},
    "/reserve": {"tdm-reservation": "1"},
    "/reserved/lifted": {"tdm-reservation": "0"},
    "/usage": {"Content-Usage": "train-ai=n"},
    "/bomb": {"Content-Encoding": "gzip"},
    "/fat-header": {"X-Fat": "x" * 20_000},
}

BODIES = {"/bomb": BOMB, "/large": bytes(200_000)}

FIRST_ANSWERS: dict[str, tuple[int, dict[str, str]]] = {
    "/twice": (503, {}),
    "/wait": (429, {"Retry-After": "1"}),
    "/never": (429, {"Retry-After": "3600"}),
}

REDIRECTS = {
    "/moved": "/ok",
    "/relative": "ok?again",
    "/elsewhere": "https://other.example/ok",
    "/loop": "/loop",
    "/to-loopback": "http://127.0.0.1/ok",
    "/to-decimal": "http://2130706433/ok",
    "/to-metadata": "http://169.254.169.254/latest/",
    "/to-port": "http://other.example:6379/ok",
    "/to-file": "file:///etc/passwd",
    "/to-data": "data:image/png;base64,AAAA",
    "/to-nothing": "",
    "/to-closed": "http://closed.example/ok",
}


class Hosts:
    """Answers for many hosts, and counts what they were asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.times: list[float] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        host, path = request.host.partition(":")[0], request.path
        self.asked[f"{host}{path}"] += 1
        self.agents.add(request.headers.get("User-Agent", ""))
        if path == "/robots.txt":
            status, text = ROBOTS.get(host, (404, ""))
            if host == "moved-robots.example":
                raise web.HTTPFound("http://closed.example/robots.txt")
            return web.Response(status=status, text=text)
        if path == "/.well-known/tdmrep.json":
            return web.Response(text=TDM) if host == "tdm.example" else web.Response(status=404)
        if path == "/ai.txt":
            return web.Response(text=AI_TXT if host == "artists.example" else "")
        self.times.append(time.monotonic())
        if path in REDIRECTS:
            headers = {"Location": REDIRECTS[path]} if REDIRECTS[path] else {}
            return web.Response(status=302, headers=headers)
        return await self.page(request, host, path)

    async def page(self, request: web.BaseRequest, host: str, path: str) -> web.StreamResponse:
        first = self.asked[f"{host}{path}"] == 1
        if path in {"/drip", "/endless", "/noai"}:
            return await self.stream(request, path)
        if path == "/reset" and request.transport is not None:
            request.transport.abort()
        if first and path in FIRST_ANSWERS:
            status, headers = FIRST_ANSWERS[path]
            return web.Response(status=status, headers=headers)
        if path.startswith("/status/"):
            return web.Response(status=int(path.rpartition("/")[2]))
        return web.Response(body=BODIES.get(path, BODY), headers=HEADERS.get(path), content_type="image/png")

    async def stream(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        response = web.StreamResponse(headers=HEADERS.get(path))
        await response.prepare(request)
        piece, pause_s = (b".", 0.05) if path == "/drip" else (bytes(65_536), 0.0)
        while True:
            await response.write(piece)
            await asyncio.sleep(pause_s)


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def server(hosts: Hosts) -> Iterator[Loopback]:
    with Loopback(hosts.answer) as loopback:
        yield loopback


@pytest.mark.parametrize(
    ("url", "reason", "signal", "attempts"),
    [
        ("http://a.example:80/ok", "keep", "", 1),
        ("http://a.example:443/ok", "unreachable", "", 1),
        ("http://a.example:8080/ok", "refused_port", "", 1),
        ("https://a.example:22/ok", "refused_port", "", 1),
        ("http://a.example/to-port", "redirects", "", 1),
        ("http://a.example/ok", "keep", "", 1),
        ("https://a.example/ok", "keep", "", 1),
        ("http://a.example/ok#fragment", "keep", "", 1),
        ("http://a.example/moved", "keep", "", 1),
        ("http://a.example/relative", "keep", "", 1),
        ("http://a.example/elsewhere", "keep", "", 1),
        ("http://a.example/loop", "redirects", "", 1),
        ("http://a.example/to-loopback", "redirects", "", 1),
        ("http://a.example/to-decimal", "redirects", "", 1),
        ("http://a.example/to-metadata", "redirects", "", 1),
        ("http://a.example/to-file", "redirects", "", 1),
        ("http://a.example/to-data", "redirects", "", 1),
        ("http://a.example/to-nothing", "redirects", "", 1),
        ("http://a.example/to-closed", "robots", "robots", 1),
        ("http://closed.example/ok", "robots", "robots", 1),
        ("http://ccbot.example/ok", "robots", "robots", 1),
        ("http://partly.example/private/a.png", "robots", "robots", 1),
        ("http://partly.example/public/a.png", "keep", "robots", 1),
        ("http://broken.example/ok", "robots", "robots", 1),
        ("http://busy.example/ok", "robots", "robots", 1),
        ("http://forbidden.example/ok", "keep", "", 1),
        ("http://moved-robots.example/ok", "robots", "robots", 1),
        ("http://usage.example/ok", "content_usage", "content_usage", 1),
        ("http://artists.example/a.png", "ai_txt", "ai_txt", 1),
        ("http://artists.example/ok", "ai_txt", "ai_txt", 1),
        ("http://tdm.example/reserved/a.png", "tdmrep", "tdmrep", 1),
        ("http://tdm.example/reserved/lifted", "keep", "tdm_reservation", 1),
        ("http://tdm.example/free.png", "keep", "tdmrep", 1),
        ("http://a.example/noai", "x_robots_tag", "x_robots_tag", 1),
        ("http://a.example/scoped", "keep", "", 1),
        ("http://a.example/reserve", "tdm_reservation", "tdm_reservation", 1),
        ("http://a.example/usage", "content_usage", "content_usage", 1),
        ("http://a.example/endless", "too_large", "", 1),
        ("http://a.example/large", "too_large", "", 1),
        ("http://a.example/bomb", "too_large", "", 1),
        ("http://a.example/fat-header", "http_error", "", 1),
        ("http://a.example/reset", "unreachable", "", 2),
        ("http://a.example/twice", "keep", "", 2),
        ("http://a.example/never", "http_error", "", 1),
        ("http://a.example/status/404", "not_found", "", 1),
        ("http://a.example/status/410", "not_found", "", 1),
        ("http://a.example/status/403", "http_error", "", 1),
        ("http://a.example/status/204", "http_error", "", 1),
        ("http://a.example/status/500", "http_error", "", 2),
        ("http://127.0.0.1/ok", "private_address", "", 1),
        ("http://8.8.8.8/ok", "unreachable", "", 1),
        ("http://", "unreachable", "", 1),
    ],
)
def test_every_url_ends_with_its_reason(
    defaults: params.Params, server: Loopback, url: str, reason: str, signal: str, attempts: int
) -> None:
    (fetched,) = fetch(defaults, server.address, url)
    assert (fetched.reason, fetched.decision.signal, fetched.attempts) == (reason, signal, attempts), fetched
    assert fetched.body == (BODY if reason == "keep" else b"")
    assert (fetched.message is None) == (reason == "keep")


def test_a_dripping_body_ends_at_the_deadline_of_the_whole_transfer(defaults: params.Params, server: Loopback) -> None:
    # A byte comes every now and then, for ever: nothing else than that deadline could end it.
    with deadlines.short_for(lambda url: url.endswith("/drip")):
        (fetched,) = fetch(defaults, server.address, "http://a.example/drip", retries=0)
    assert fetched.reason == "timeout"


def test_an_unknown_host_is_unreachable_and_not_a_refusal(defaults: params.Params) -> None:
    with Loopback(_hang_up) as server:
        (fetched,) = fetch(defaults, server.address, "http://gone.example/a.png", retries=0)
    assert (fetched.reason, fetched.decision.rights) == ("unreachable", "unknown")


def test_bytes_of_a_header_that_are_no_text_do_no_harm(defaults: params.Params) -> None:
    with Loopback(_odd_header) as server:
        (fetched,) = fetch(defaults, server.address, "http://odd.example/a.png")
    assert (fetched.reason, fetched.body) == ("keep", b"abc")
    assert fetched.content_type.encode().decode() == "image/?"


async def _odd_header(request: web.BaseRequest) -> web.StreamResponse:
    if request.path == "/a.png" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/\xff\r\nContent-Length: 3\r\n\r\nabc")
        request.transport.close()
    return web.Response(status=404)


async def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def test_a_refusal_is_asked_once_and_never_again(defaults: params.Params, hosts: Hosts, server: Loopback) -> None:
    fetch(defaults, server.address, "http://a.example/noai", "http://closed.example/x", retries=3)
    assert hosts.asked["a.example/noai"] == 1
    assert hosts.asked["closed.example/x"] == 0


def test_signals_that_do_not_bind_are_recorded_only(defaults: params.Params, server: Loopback) -> None:
    urls = ("http://closed.example/ok", "http://a.example/reserve", "http://tdm.example/reserved/a.png")
    found = fetch(defaults, server.address, *urls, rights=())
    assert [fetched.reason for fetched in found] == ["keep"] * 3
    assert [fetched.decision.rights for fetched in found] == ["refused"] * 3
    assert [fetched.decision.signal for fetched in found] == ["robots", "tdm_reservation", "tdmrep"]


def test_a_hosts_files_are_asked_for_once_however_many_wait(
    defaults: params.Params, hosts: Hosts, server: Loopback
) -> None:
    fetch(defaults, server.address, *(f"http://many.example/{place}" for place in range(20)))
    fetch(defaults, server.address, "http://many.example/later")
    assert hosts.asked["many.example/robots.txt"] == 1
    assert hosts.asked["many.example/.well-known/tdmrep.json"] == 1
    assert hosts.asked["many.example/ai.txt"] == 1


def test_an_unreachable_robots_txt_is_asked_for_again_by_the_next_shard(
    defaults: params.Params, hosts: Hosts, server: Loopback
) -> None:
    for _ in range(2):
        fetch(defaults, server.address, "http://broken.example/a", "http://broken.example/b", retries=0)
    assert hosts.asked["broken.example/robots.txt"] == 2


@pytest.mark.slow
def test_retry_after_is_obeyed(defaults: params.Params, hosts: Hosts, server: Loopback) -> None:
    (fetched,) = fetch(defaults, server.address, "http://a.example/wait", source="web")
    assert (fetched.reason, fetched.attempts) == ("keep", 2)
    assert hosts.times[-1] - hosts.times[-2] >= 1.0


def test_a_replay_is_asked_again_at_once(defaults: params.Params, hosts: Hosts, server: Loopback) -> None:
    # Whoever waited as long as the host asks for would be here in an hour.
    (fetched,) = fetch(defaults, server.address, "http://a.example/never", source="replay", max_retry_after_s=3600.0)
    assert (fetched.reason, fetched.attempts) == ("keep", 2)
    assert hosts.asked["a.example/never"] == 2


def test_connections_to_one_host_stay_within_the_limit(defaults: params.Params, server: Loopback) -> None:
    urls = [f"http://limit.example/{place}" for place in range(30)]
    assert {fetched.reason for fetched in fetch(defaults, server.address, *urls)} == {"keep"}
    assert server.peak["limit.example"] <= 2


def test_the_user_agent_is_the_one_given(defaults: params.Params, hosts: Hosts, server: Loopback) -> None:
    fetch(defaults, server.address, "http://a.example/ok")
    assert hosts.agents == {"laion-dask/test (+me)"}


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "[::7f00:1]"],
)
def test_on_the_web_no_spelling_of_a_private_address_is_asked(
    defaults: params.Params, hosts: Hosts, server: Loopback, host: str
) -> None:
    (fetched,) = fetch(defaults, None, f"http://{host}:{server.address.http_port}/ok")
    assert fetched.reason == "private_address"
    assert not hosts.asked


@pytest.mark.parametrize("rights", [("robots",), ()])
def test_on_the_web_a_name_that_resolves_to_a_private_address_is_not_asked(
    defaults: params.Params, hosts: Hosts, server: Loopback, rights: tuple[str, ...]
) -> None:
    port = server.address.http_port
    (fetched,) = fetch(defaults, None, f"http://localhost:{port}/ok", rights=rights, ports=(port,))
    assert fetched.reason == "private_address"
    assert not hosts.asked


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.168.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("0.0.0.0", False),  # noqa: S104 - no socket is bound
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("no address", False),
    ],
)
def test_only_addresses_of_the_public_registries_are_public(address: str, public: bool) -> None:  # noqa: FBT001
    assert is_public_address(address) == public


def test_sockets_are_made_to_allowed_addresses_only() -> None:
    replay = ReplayAddress("127.0.0.1", 1000, 1001, "")
    for factory, address in (
        (guard.socket_factory(None), ("10.0.0.1", 80)),
        (guard.socket_factory(replay), ("127.0.0.1", 22)),
        (guard.socket_factory(replay), ("8.8.8.8", 1000)),
    ):
        with pytest.raises(OSError, match=r"not public|nothing but the replay server"):
            factory((2, 1, 6, "", address))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ((), 0.0),
        ((("Retry-After", "7"),), 7.0),
        ((("retry-after", " 7 "),), 7.0),
        ((("Retry-After", "soon"),), 0.0),
        ((("Retry-After", "-5"),), 0.0),
        (
            (("Date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("Retry-After", "Wed, 21 Oct 2015 07:28:09 GMT")),
            9.0,
        ),
        (
            (("Date", "Wed, 21 Oct 2015 07:28:00 GMT"), ("Retry-After", "Wed, 21 Oct 2015 07:27:00 GMT")),
            0.0,
        ),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(headers: tuple[tuple[str, str], ...], seconds: float) -> None:
    assert retry_after_s(headers) == seconds


def test_the_back_off_grows_and_is_the_same_every_time() -> None:
    waits = [backoff_s("http://a.example/", attempt) for attempt in (1, 2, 3, 4)]
    assert waits == [backoff_s("http://a.example/", attempt) for attempt in (1, 2, 3, 4)]
    assert all(0.125 * 2**place <= wait <= 0.375 * 2**place for place, wait in enumerate(waits))


def test_a_replay_server_that_is_gone_is_an_error_and_never_the_verdict_of_a_host(
    defaults: params.Params, hosts: Hosts
) -> None:
    with Loopback(hosts.answer) as loopback:
        address = loopback.address
    with pytest.raises(ReplayGoneError, match=r"replay server is gone\. Remedy: run again"):
        fetch(defaults, address, "http://a.example/ok")
