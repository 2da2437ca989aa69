"""A pool of JPEGs in, a web server on loopback out, in a process of its own, as light as Python allows.

    python -m benchmarks.download.image_server POOL CERTIFICATE KEY [--delay-ms 20]

Its first line on standard output has the two ports, as JSON. It answers `/img/N.jpg` with picture N (modulo the pool)
for any host, robots.txt with one that allows everything, and everything else with 404. Answers are made beforehand and
sent after the delay, which stands for the network: without one no request would ever overlap another. A line on
standard input is answered by one of JSON with what was counted since the last: requests, bytes, processor seconds, and
the peak of requests under way and of open connections for one host.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final, cast

import uvloop

_ROBOTS: Final = b"User-agent: *\nAllow: /\nDisallow: /private/\n"
_BACKLOG: Final = 4096


class Counts:
    """What has happened since the last look."""

    def __init__(self) -> None:
        self.open: Counter[bytes] = Counter()
        self.active: Counter[bytes] = Counter()
        self.reset()

    def reset(self) -> None:
        """Count anew; what is under way stays."""
        self.requests = self.images = self.handshakes = self.sent = 0
        self.peak_open: dict[bytes, int] = {}
        self.peak_active: dict[bytes, int] = {}
        self.worked = time.process_time()

    def look(self) -> dict[str, float]:
        """Return the counts as they stand in the line."""
        return {
            "requests": self.requests,
            "images": self.images,
            "connections": self.handshakes,
            "bytes": self.sent,
            "hosts": len(self.peak_active),
            "peak_open": max(self.peak_open.values(), default=0),
            "peak_active": max(self.peak_active.values(), default=0),
            "cpu": time.process_time() - self.worked,
        }


class Answers(asyncio.Protocol):
    """One connection: requests in, prepared answers out."""

    def __init__(self, pool: list[bytes], delay_s: float, counts: Counts) -> None:
        self._pool, self._delay_s, self._counts = pool, delay_s, counts
        self._host = b""
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)
        self._counts.handshakes += 1

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Count it out."""
        self._transport = None
        if self._host:
            self._counts.open[self._host] -= 1

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            self._request(head)

    def _request(self, head: bytes) -> None:
        counts = self._counts
        line, *headers = head.split(b"\r\n")
        host = next((header[5:].strip() for header in headers if header[:5].lower() == b"host:"), b"?")
        if not self._host:
            self._host = host
            counts.open[host] += 1
            counts.peak_open[host] = max(counts.peak_open.get(host, 0), counts.open[host])
        counts.requests += 1
        counts.active[host] += 1
        counts.peak_active[host] = max(counts.peak_active.get(host, 0), counts.active[host])
        close = any(header.lower() == b"connection: close" for header in headers)
        answer = self._answer(line.split(b" ")[1])
        asyncio.get_running_loop().call_later(self._delay_s, self._send, host, answer, close)

    def _answer(self, path: bytes) -> bytes:
        if path.startswith(b"/img/"):
            self._counts.images += 1
            return self._pool[int(path[5:].split(b".")[0]) % len(self._pool)]
        if path == b"/robots.txt":
            return _response(b"200 OK", b"text/plain", _ROBOTS)
        return _response(b"404 Not Found", b"text/plain", b"no such file\n")

    def _send(self, host: bytes, answer: bytes, close: bool) -> None:  # noqa: FBT001 - called by the loop
        self._counts.active[host] -= 1
        self._counts.sent += len(answer)
        if self._transport is not None:
            self._transport.write(answer)
            if close:
                self._transport.close()


def _response(status: bytes, kind: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n" % (status, kind, len(body))
    return head + b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: bench\r\n\r\n" + body


async def serve(pool: list[bytes], context: ssl.SSLContext, delay_s: float) -> None:
    """Serve until standard input ends."""
    loop, counts = asyncio.get_running_loop(), Counts()
    ports = []
    for tls in (None, context):
        server = await loop.create_server(
            lambda: Answers(pool, delay_s, counts), "127.0.0.1", 0, ssl=tls, backlog=_BACKLOG
        )
        ports.append(server.sockets[0].getsockname()[1])
    print(json.dumps({"http": ports[0], "https": ports[1]}), flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(json.dumps(counts.look()), flush=True)
        counts.reset()


def main() -> None:
    """Read the pool and serve it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.download.image_server")
    parser.add_argument("pool", type=Path)
    parser.add_argument("certificate", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("--delay-ms", type=float, default=20.0)
    wanted = parser.parse_args()
    pictures = sorted(wanted.pool.glob("*.jpg"))
    pool = [_response(b"200 OK", b"image/jpeg", path.read_bytes()) for path in pictures]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(wanted.certificate, wanted.key)
    uvloop.run(serve(pool, context, wanted.delay_ms / 1_000))


if __name__ == "__main__":
    main()
