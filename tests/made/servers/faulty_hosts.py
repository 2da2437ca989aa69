"""Hosts that fail in every way, for one run of a download: what they answer first and later, and one row for each."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections import Counter
from contextlib import suppress
from typing import Final

import numpy as np
from aiohttp import web
from made.processes.deadlines import LONG_S
from PIL import Image

from laion_dask.web.archive.replay import Handler

ROBOTS: Final = {
    "closed.example": "User-agent: *\nDisallow: /\n",
    "partly.example": "User-agent: *\nDisallow: /no/\n",
    "licensed.example": "License: https://lawyer.example/license.xml\nUser-agent: *\nAllow: /\n",
}
LICENSE: Final = """<rsl xmlns="https://rslstandard.org/rsl"><content url="/"><license>
<prohibits type="usage">ai-train</prohibits></license></content></rsl>"""
LINK: Final = '<https://lawyer.example/license.xml>; rel="license"; type="application/rsl+xml"'
TDM: Final = '[{"location": "/", "tdm-reservation": 1}]'
MOVED: Final = {
    "/moved": "/ok/moved",
    "/loop": "/loop",
    "/away": "https://other.example/ok/1",
    "/in": "http://10.0.0.1/",
}

ROWS: Final = [
    ("http://a.example/ok/0", "keep"),
    ("https://a.example/ok/1?b=2&a=1", "keep"),
    ("http://a.example/gzip", "keep"),
    ("http://a.example/moved", "keep"),
    ("http://a.example/away", "keep"),
    ("http://a.example/busy", "keep"),
    ("http://a.example/down", "keep"),
    ("http://a.example/once-reset", "keep"),
    ("http://a.example/odd-header", "keep"),
    ("http://partly.example/ok/2", "keep"),
    ("http://flaky-robots.example/ok/3", "keep"),
    ("http://a.example/loop", "redirects"),
    ("http://a.example/in", "redirects"),
    ("http://a.example/reset", "unreachable"),
    ("http://a.example/drip", "timeout"),
    ("http://a.example/large", "too_large"),
    ("http://a.example/endless", "too_large"),
    ("http://a.example/html", "not_an_image"),
    ("http://a.example/empty", "not_an_image"),
    ("http://a.example/cut", "truncated_image"),
    ("http://a.example/gone", "not_found"),
    ("http://a.example/sick", "http_error"),
    ("http://a.example/noai", "x_robots_tag"),
    ("http://closed.example/ok/4", "robots"),
    ("http://partly.example/no/5", "robots"),
    ("http://tdm.example/ok/6", "tdmrep"),
    ("http://licensed.example/ok/8", "rsl"),
    ("http://linked.example/linked", "rsl"),
    ("http://shop.example/priced", "crawler_price"),
    ("http://10.0.0.1/ok", "private_address"),
    ("http://silent.example/ok/7", "unreachable"),
    # One address for rows side by side, and every other answer is a failure: who gets which is a matter of chance.
    *((f"http://same.example/every-other#{row}", "") for row in range(6)),
]
"""Address and reason of each row, with one more try, the limits of `QUICK`, and a short deadline for `hangs`."""

QUICK: Final = {"timeout_s": LONG_S, "retries": 1, "connections": 8, "max_bytes": 200_000, "max_pixels": 1_000_000}


def hangs(url: str) -> bool:
    """Say whether a request for an address ends by its deadline alone."""
    return url == "http://a.example/drip"


def picture(seed: int, kind: str = "JPEG") -> bytes:
    """Return a picture of random squares."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.kron(noise, np.ones((8, 8, 1), np.uint8))).save(out, kind)
    return out.getvalue()


def handler() -> Handler:
    """Return hosts that have not been asked yet."""
    asked: Counter[str] = Counter()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        host, path = request.host.partition(":")[0], request.path
        asked[host + path] += 1
        first = asked[host + path] == 1
        if host == "silent.example" or path.startswith("/reset") or (path == "/once-reset" and first):
            return _hang_up(request)
        if path in {"/robots.txt", "/.well-known/tdmrep.json"}:
            return _rules(host, path, first=first)
        if path in MOVED:
            return web.Response(status=302, headers={"Location": MOVED[path]})
        busy = (path in {"/busy", "/down"} and first) or path == "/sick"
        if busy or (path == "/every-other" and asked[host + path] % 2):
            headers = {} if path == "/down" else {"Retry-After": "0"}
            return web.Response(status=429 if path == "/busy" else 503, headers=headers, text="later")
        return await _page(request, path)

    return answer


def _rules(host: str, path: str, *, first: bool) -> web.StreamResponse:
    if path != "/robots.txt":
        return web.Response(text=TDM) if host == "tdm.example" else web.Response(status=404)
    if host == "flaky-robots.example" and first:
        return web.Response(status=503)
    return web.Response(status=200 if host in ROBOTS else 404, text=ROBOTS.get(host, "none"))


async def _page(request: web.BaseRequest, path: str) -> web.StreamResponse:
    if path in {"/drip", "/endless"}:
        return await _stream(request, path)
    if path == "/gone":
        return web.Response(status=404, text="gone " * 100)
    if path == "/priced":
        return web.Response(status=402, headers={"crawler-price": "USD 0.01"})
    if path == "/license.xml":
        return web.Response(text=LICENSE, content_type="application/rsl+xml")
    bodies = {"/large": bytes(300_000), "/html": b"<html>moved</html>", "/empty": b"", "/cut": picture(9)[:2_000]}
    headers = {"/noai": {"X-Robots-Tag": "noai"}, "/linked": {"Link": LINK}}.get(path, {})
    if path == "/odd-header":
        headers["X-Odd"] = "caf\u00e9 \u2603; x=1"
    body = bodies.get(path, picture(sum(path.encode())))
    if path == "/gzip":
        headers["Content-Encoding"] = "gzip"
        body = gzip.compress(body)
    return web.Response(body=body, headers=headers, content_type="image/jpeg")


async def _stream(request: web.BaseRequest, path: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"X-Robots-Tag": "noindex-not"})
    await response.prepare(request)
    # The client hangs up.
    with suppress(ConnectionResetError):
        while True:
            await response.write(b"." if path == "/drip" else bytes(65_536))
            await asyncio.sleep(0.05 if path == "/drip" else 0)
    return response


def _hang_up(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
