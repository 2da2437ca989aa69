"""Files of a host answered in every way on loopback: which answers count, and what becomes of the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from made.servers.replies import BODY, fetch

from laion_dask import params
from laion_dask.web.archive.replay import Loopback, Replay


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


LICENCE = '<rsl xmlns="https://rslstandard.org/rsl"><content url="{}"><license>{}</license></content></rsl>'
NEVER, ALWAYS = '<prohibits type="usage">ai-train</prohibits>', '<permits type="usage">ai-train</permits>'
NAMED = {
    # Host of a picture -> what its robots.txt names, the Link header of its pictures.
    "never.example": ("License: http://lawyer.example/never.xml", ""),
    "always.example": ("License: http://lawyer.example/always.xml", ""),
    "moved.example": ("License: http://lawyer.example/moved.xml", ""),
    "relative.example": ("License: /never.xml", ""),
    "missing.example": ("License: http://lawyer.example/missing.xml", ""),
    "ill.example": ("License: http://lawyer.example/ill.xml", ""),
    "private.example": ("License: http://127.0.0.1/never.xml", ""),
    "named.example": ("License: MIT\nLicense: never mind / at all", ""),
    "commons.example": ("License: https://creativecommons.org/licenses/by/4.0/", ""),
    "page.example": ("<html>\nLicense: http://lawyer.example/never.xml\n</html>", ""),
    "beside.example": ("License: never.xml", ""),
    "several.example": ("\n".join(f"License: http://lawyer.example/always.xml?{n}" for n in range(9)), ""),
    "both.example": ("License: http://lawyer.example/always.xml\nLicense: http://lawyer.example/never.xml", ""),
    "googles.example": ("User-agent: Googlebot\nLicense: http://lawyer.example/never.xml\nAllow: /", ""),
    "linked.example": ("", '<http://lawyer.example/never.xml>; rel="license"; type="application/rsl+xml"'),
    "untyped.example": ("", '<http://lawyer.example/never.xml>; rel="license"'),
    "terms.example": ("", '<http://lawyer.example/terms.html>; rel="license"'),
    "free.example": ("", '<http://lawyer.example/always.xml>; rel="license"; type="application/rsl+xml"'),
    "lost.example": ("", '<http://lawyer.example/missing.xml>; rel="license"; type="application/rsl+xml"'),
}


def _licensed(host: str, path: str) -> web.Response:
    """Answer for a host of NAMED, or for the one that has the licences."""
    if path in {"/never.xml", "/always.xml"}:
        return web.Response(text=LICENCE.format("/", NEVER if path == "/never.xml" else ALWAYS))
    if path in {"/moved.xml", "/ill.xml"}:
        status = 302 if path == "/moved.xml" else 503
        return web.Response(status=status, headers={"Location": "/never.xml"} if status == 302 else {})
    if path == "/terms.html":
        return web.Response(text="<html>Terms</html>")
    named, link = NAMED.get(host, ("", ""))
    if path == "/robots.txt":
        return web.Response(text=named)
    if not path.endswith(".png"):
        return web.Response(status=404)
    return web.Response(body=BODY, headers={"Link": link} if link else {})


def _priced(path: str) -> web.Response:
    if not path.endswith(".png"):
        return web.Response(status=404)
    return web.Response(status=402, headers={"Crawler-Price": "USD 0.01"} if path == "/priced.png" else {})


async def _answer(request: web.BaseRequest) -> web.StreamResponse:
    host, path = request.host.partition(":")[0], request.path
    if host.endswith("hops.example"):
        return _chain(host, path)
    if host.startswith("answers-"):
        return _answered(host, path)
    if host in NAMED or host == "lawyer.example":
        return _licensed(host, path)
    if host == "shop.example":
        return _priced(path)
    if host == "gone.example" and request.transport is not None:
        request.transport.abort()
    return web.Response(status=503 if host == "broken.example" else 404)


@pytest.fixture
def asked() -> Counter[str]:
    """Count the requests of a test by host and path."""
    return Counter()


@pytest.fixture
def server(asked: Counter[str]) -> Iterator[Loopback]:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked[f"{request.host.partition(':')[0]}{request.path}"] += 1
        return await _answer(request)

    with Loopback(answer) as loopback:
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


@pytest.mark.parametrize(
    ("host", "reason", "rights", "evidence"),
    [
        ("never", "rsl", "refused", "prohibits usage: ai-train"),
        ("always", "keep", "allowed", ""),
        ("moved", "rsl", "refused", "prohibits usage: ai-train"),
        ("relative", "rsl", "refused", "prohibits usage: ai-train"),
        ("both", "rsl", "refused", "prohibits usage: ai-train"),
        ("googles", "keep", "allowed", ""),
        ("missing", "rsl", "unknown", "licence cannot be read: HTTP 404"),
        ("ill", "rsl", "unknown", "licence cannot be read: HTTP 503"),
        ("private", "rsl", "unknown", "licence cannot be read: no answer"),
        ("beside", "rsl", "refused", "prohibits usage: ai-train"),
        ("named", "keep", "allowed", ""),
        ("commons", "keep", "allowed", ""),
        ("page", "keep", "allowed", ""),
        ("several", "rsl", "unknown", "more than 8 licences are named"),
        ("linked", "rsl", "refused", "prohibits usage: ai-train"),
        ("untyped", "rsl", "refused", "prohibits usage: ai-train"),
        ("terms", "keep", "allowed", ""),
        ("free", "keep", "allowed", ""),
        ("lost", "rsl", "unknown", "licence cannot be read: HTTP 404"),
    ],
)
def test_licences_that_a_host_or_a_response_names_are_read(
    defaults: params.Params, server: Loopback, host: str, reason: str, rights: str, evidence: str
) -> None:
    (fetched,) = fetch(defaults, server.address, f"http://{host}.example/a.png", retries=0)
    assert (fetched.reason, fetched.decision.rights) == (reason, rights), fetched
    assert evidence in fetched.decision.evidence
    assert fetched.decision.signal == ("rsl" if reason == "rsl" else "robots")
    assert fetched.body == (BODY if reason == "keep" else b"")


def test_a_licence_that_cannot_be_reached_now_is_tried_again_later_and_a_refusal_is_not(
    defaults: params.Params, server: Loopback
) -> None:
    urls = [f"http://{host}.example/a.png" for host in ("ill", "missing", "never")]
    assert [fetched.later for fetched in fetch(defaults, server.address, *urls, retries=0)] == [True, False, False]


def test_one_licence_of_many_hosts_is_asked_for_once(
    defaults: params.Params, server: Loopback, asked: Counter[str]
) -> None:
    urls = [f"http://{host}.example/{place}.png" for host in ("never", "both", "linked") for place in range(5)]
    assert {fetched.reason for fetched in fetch(defaults, server.address, *urls)} == {"rsl"}
    assert asked["lawyer.example/never.xml"] == 1
    assert [asked[f"{host}.example/0.png"] for host in ("never", "both", "linked")] == [0, 0, 1]


def test_licences_that_do_not_bind_are_recorded_only(defaults: params.Params, server: Loopback) -> None:
    urls = [f"http://{host}.example/a.png" for host in ("never", "linked", "missing")]
    found = fetch(defaults, server.address, *urls, rights=(), rights_unknown=())
    assert [(fetched.reason, fetched.decision.rights, fetched.decision.signal) for fetched in found] == [
        *(("keep", "refused", "rsl"), ("keep", "refused", "rsl"), ("keep", "unknown", "rsl")),
    ]


def test_who_asks_to_be_paid_is_not_asked_again(defaults: params.Params, server: Loopback) -> None:
    urls = ("http://shop.example/priced.png", "http://shop.example/other.png")
    priced, other = fetch(defaults, server.address, *urls, retries=3)
    assert (priced.reason, priced.status, priced.attempts) == ("crawler_price", 402, 1)
    assert (priced.decision.rights, priced.decision.evidence) == ("refused", "402, crawler-price: USD 0.01")
    assert (other.reason, other.decision.signal) == ("http_error", "")
    (recorded,) = fetch(defaults, server.address, urls[0], rights=(), rights_unknown=())
    assert (recorded.reason, recorded.decision.signal) == ("http_error", "crawler_price")
