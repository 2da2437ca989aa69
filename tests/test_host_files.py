"""Files of a host answered in every way on loopback: which answers count, and what becomes of the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from test_fetch import BODY, fetch

from laion_dask import params
from laion_dask.replay import Loopback, Replay


def _chain(host: str, path: str) -> web.Response:
    """Answer for 3.hops.example with a robots.txt that three redirects lead to."""
    if not path.startswith("/robots.txt"):
        return web.Response(body=BODY)
    place = int(path.removeprefix("/robots.txt") or 0)
    if place < int(host.partition(".")[0]):
        return web.Response(status=301 + place % 2, headers={"Location": f"/robots.txt{place + 1}"})
    return web.Response(text="User-agent: *\nDisallow: /\n")


FILES = {
    "/robots.txt": "User-agent: *\nDisallow: /robots/\n",
    "/ai.txt": "User-agent: *\nDisallow: /ai/\n",
    "/.well-known/tdmrep.json": '[{"location": "/tdm/", "tdm-reservation": 1}]',
}
WAYS = {
    "nowhere": {},
    "private": {"Location": "http://127.0.0.1/robots.txt"},
    "port": {"Location": "http://other.example:6379/robots.txt"},
    "gone": {"Location": "http://gone.example/robots.txt"},
    "broken": {"Location": "http://broken.example/robots.txt"},
    "missing": {"Location": "http://a.example/no-robots.txt"},
}


def _answered(host: str, path: str) -> web.Response:
    """Answer for answers-203.example with every file at that status, for answers-302-gone.example with a redirect."""
    if path not in FILES:
        return web.Response(body=BODY, content_type="image/png")
    status, _, way = host.removeprefix("answers-").removesuffix(".example").partition("-")
    text = FILES[path] if int(status) < 300 and status != "204" else None
    return web.Response(status=int(status), text=text, headers=WAYS.get(way))


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    host, path = request.host.partition(":")[0], request.path
    if host.endswith("hops.example"):
        return _chain(host, path)
    if host.startswith("answers-"):
        return _answered(host, path)
    if host == "gone.example" and request.transport is not None:
        request.transport.abort()
    return web.Response(status=503 if host == "broken.example" else 404)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(_answer) as loopback:
        yield loopback


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 207, 226])
def test_every_successful_answer_to_a_rights_file_is_read(
    defaults: params.Params, server: Loopback, status: int
) -> None:
    urls = [f"http://answers-{status}.example/{folder}/a.png" for folder in ("robots", "ai", "tdm", "free")]
    assert [fetched.reason for fetched in fetch(defaults, server.address, *urls)] == [
        *("robots", "ai_txt", "tdmrep", "keep"),
    ]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("answers-204", "keep"),
        ("answers-304", "keep"),
        ("answers-404", "keep"),
        ("answers-429", "robots"),
        ("answers-500", "robots"),
        ("answers-302-nowhere", "keep"),
        ("answers-302-missing", "keep"),
        # The host is there, and says where its rules are: that they cannot be had refuses, and is no failure of it.
        ("answers-302-private", "robots"),
        ("answers-302-port", "robots"),
        ("answers-302-gone", "robots"),
        ("answers-302-broken", "robots"),
        ("1.hops", "robots"),
        ("5.hops", "robots"),
        ("6.hops", "keep"),
    ],
)
def test_other_answers_to_robots_txt_count_as_rfc_9309_says(
    defaults: params.Params, server: Loopback, host: str, reason: str
) -> None:
    (fetched,) = fetch(defaults, server.address, f"http://{host}.example/a.png", retries=0)
    assert fetched.reason == reason, fetched


def test_in_a_replay_a_robots_txt_that_was_answered_203_refuses(defaults: params.Params, shared_data: Path) -> None:
    with Replay([shared_data / "faults" / "r203.warc.gz"]) as replay:
        (fetched,) = fetch(defaults, replay.address, "http://k.example/1.png")
    assert (fetched.reason, fetched.decision.source) == ("robots", "http://k.example/robots.txt")
