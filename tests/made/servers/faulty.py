"""A web server on loopback that does wrong in every way it can: raw sockets, one thread a connection.

The path of a URL names the fault (`FAULTS`), the host a fault of TLS (`TLS_FAULTS`). Both ports are those of a
`ReplayAddress`, so that clients reach it under any host name.
"""

from __future__ import annotations

import datetime as dt
import gzip
import itertools
import socket
import socketserver
import ssl
import struct
import threading
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote_to_bytes

import brotli
import pyarrow as pa
import trustme

from laion_dask.web.fetch.replay_address import ReplayAddress

OK: Final = b"\x89PNG pretended image"
SMUGGLED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
_ZEROS: Final = bytes(30_000_000)

_YESTERDAY: Final = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)

Fault = Callable[[socket.socket], None]


def answer(body: bytes = OK, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(*pieces: bytes, pause_s: float = 0.0) -> Fault:
    def fault(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause_s)

    return fault


def for_ever(first: bytes, piece: bytes, pause_s: float = 0.0) -> Fault:
    def fault(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return fault


def silence(connection: socket.socket) -> None:
    # Until the other side gives up.
    while connection.recv(4096):
        pass


def reset(connection: socket.socket) -> None:
    # A linger of no seconds makes close() send RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def cut_off(first: bytes) -> Fault:
    def fault(connection: socket.socket) -> None:
        connection.sendall(first)
        time.sleep(0.05)  # so that the bytes arrive before the reset discards them
        reset(connection)

    return fault


def header_flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 100))


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE: Final = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def coded(name: str, body: bytes) -> Fault:
    return send(answer(body, "200 OK", f"Content-Encoding: {name}"))


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def lengths(*lines: str) -> Fault:
    head = "\r\n".join(["HTTP/1.1 200 OK", *(f"{line}" for line in lines), "", ""])
    return send(head.encode() + OK)


N: Final = len(OK)
READ: Final[dict[str, Fault]] = {
    "equal-lengths": lengths(f"Content-Length: {N}", f"content-length:{N}"),
    "equal-lengths-apart": lengths(f"Content-Length: {N}", "X-A: 1", f"Content-Length:  {N} ", f"CONTENT-LENGTH: {N}"),
    "equal-lengths-in-a-list": lengths(f"Content-Length: {N}, {N}"),
    "equal-lengths-in-lists": lengths(f"Content-Length: {N},{N}", f"Content-Length: {N}"),
    "equal-lengths-in-pieces": send(
        *(bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Length: %d\r\n\r\n" % (N, N)),
        OK,
        pause_s=0.001,
    ),
    "equal-lengths-after-continue": send(
        b"HTTP/1.1 100 Continue\r\n\r\n" + answer(OK, "200 OK", f"Content-Length: {N}"), OK[:0]
    ),
    "gzip": coded("gzip", gzip.compress(OK)),
    "gzip-members": coded("gzip", gzip.compress(OK[:5]) + gzip.compress(OK[5:])),
    "gzip-and-zeros": coded("gzip", gzip.compress(OK) + bytes(100)),
    "x-gzip": coded("x-gzip", gzip.compress(OK)),
    "gzip-upper": coded("GZIP", gzip.compress(OK)),
    "gzip-gzip": coded("gzip, gzip", gzip.compress(gzip.compress(OK))),
    "gzip-in-two-headers": send(
        answer(gzip.compress(zlib.compress(OK)), "200 OK", "Content-Encoding: deflate", "Content-Encoding: gzip")
    ),
    "deflate": coded("deflate", zlib.compress(OK)),
    "deflate-raw": coded("deflate", raw_deflate(OK)),
    "brotli": coded("br", brotli.compress(OK)),
    "gzip-brotli": coded("gzip,br", brotli.compress(gzip.compress(OK))),
    "zstd": coded("zstd", bytes(pa.Codec("zstd").compress(OK, asbytes=True))),
    "identity": coded("identity", OK),
    "coding-without-a-name": coded("", OK),
    # The Fetch standard: where a coding is not known, the bytes stay as they are.
    "coding-of-a-charset": coded("utf-8", OK),
    "coding-that-is-none": coded("none", OK),
    "chunks-and-gzip": send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in gzip.compress(OK))
        + b"0\r\n\r\n"
    ),
}
"""What browsers read as the body `OK`, though it is odd."""

FAULTS: Final[dict[str, Fault]] = {
    "ok": send(answer()),
    "reset": reset,
    "closed": send(),
    "reset-in-headers": cut_off(b"HTTP/1.1 200 OK\r\nContent-"),
    "reset-in-body": cut_off(answer(length=1000)),
    "silence": silence,
    "slow-headers": for_ever(b"HTTP/1.1 200 OK\r\n", b"X", 0.05),
    "drip": for_ever(answer(b"", length=1_000_000), b".", 0.05),
    "drip-redirect": for_ever(answer(b"", "302 Found", "Location: /ok", length=30_000), b".", 0.05),
    "endless": for_ever(CLOSE, bytes(65_536)),
    "endless-chunks": for_ever(CHUNKED, b"4000\r\n" + bytes(0x4000) + b"\r\n"),
    "endless-continue": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "claims-too-much": send(answer(length=10**12)),
    "claims-nonsense": send(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
    "two-lengths": send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 300\r\n\r\nabc"),
    "two-lengths-in-a-list": send(b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd"),
    "two-lengths-and-a-third": lengths(f"Content-Length: {N}", f"Content-Length: {N}", "Content-Length: 3"),
    "too-short": send(answer(length=1000)),
    "too-long": send(answer(OK + SMUGGLED, length=len(OK))),
    "no-length": send(CLOSE + OK),
    "zero-bytes": send(answer(b"")),
    "no-content": send(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "html": send(answer(b"<!doctype html><title>not here</title>", "200 OK", "Content-Type: image/jpeg")),
    "not-http": send(b"220 mail.example ESMTP\r\n" * 3),
    "http-0.9": send(OK),
    "header-flood": header_flood,
    "long-header": for_ever(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65_536),
    "many-headers": send(answer(OK, "200 OK", *(f"X-{number}: 1" for number in range(1_000)))),
    "chunk-garbage": send(CHUNKED + b"zz\r\nnothing\r\n"),
    "chunk-overflow": send(CHUNKED + b"fffffffffffffffff\r\nnothing\r\n"),
    "chunk-cut": send(CHUNKED + b"100\r\nabc"),
    "gzip-bomb": send(answer(gzip.compress(_ZEROS, 1), "200 OK", "Content-Encoding: gzip")),
    "deflate-bomb": send(answer(zlib.compress(_ZEROS, 1), "200 OK", "Content-Encoding: deflate")),
    "brotli-bomb": send(answer(brotli.compress(_ZEROS, quality=1), "200 OK", "Content-Encoding: br")),
    "bomb-in-404": send(answer(brotli.compress(_ZEROS, quality=1), "404 Not Found", "Content-Encoding: br")),
    "gzip-garbage": send(answer(b"no gzip at all", "200 OK", "Content-Encoding: gzip")),
    "gzip-cut": send(answer(gzip.compress(OK * 100)[:40], "200 OK", "Content-Encoding: gzip")),
    "gzip-then-garbage": coded("gzip, gzip", gzip.compress(OK)),
    "deflate-garbage": coded("deflate", b"no deflate at all"),
    "brotli-garbage": coded("br", b"no brotli at all, nowhere"),
    "zstd-garbage": coded("zstd", b"no zstd at all"),
    "zstd-bomb": coded("zstd", bytes(pa.Codec("zstd").compress(_ZEROS, asbytes=True))),
    "gzip-gzip-bomb": coded("gzip, gzip", gzip.compress(gzip.compress(_ZEROS, 1), 1)),
    "endless-empty-gzip": for_ever(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n", gzip.compress(b"") * 3_000
    ),
    "garbage-in-404": send(answer(b"no gzip at all", "404 Not Found", "Content-Encoding: gzip")),
    "unknown-coding": send(answer(OK, "200 OK", "Content-Encoding: rot13")),
    "429": send(answer(b"", "429 Too Many Requests")),
    "429-in-an-hour": send(answer(b"", "429 Too Many Requests", "Retry-After: 3600")),
    "503": send(answer(b"", "503 Service Unavailable")),
    "503-in-a-second": send(answer(b"", "503 Service Unavailable", "Retry-After: 1")),
    "500": send(answer(b"", "500 Oops")),
    "404": send(answer(b"no", "404 Not Found")),
    "403": send(answer(b"no", "403 Forbidden")),
    "999": send(answer(b"no", "999 Denied")),
    "loop": send(answer(b"", "302 Found", "Location: /loop")),
    "to-private": send(answer(b"", "302 Found", "Location: http://169.254.169.254/latest/")),
    "to-decimal": send(answer(b"", "301 Moved", "Location: http://2130706433/ok")),
    "to-port": send(answer(b"", "307 Moved", "Location: http://b.example:6379/ok")),
    "to-file": send(answer(b"", "302 Found", "Location: file:///etc/passwd")),
    "to-two-places": send(answer(b"", "302 Found", "Location: /ok", "Location: /other")),
    "to-one-place-twice": send(answer(b"", "302 Found", "Location: /ok", "Location: /ok")),
    "to-nowhere": send(answer(b"", "302 Found")),
    "to-garbage": send(b"HTTP/1.1 302 Found\r\nLocation: http://[\xff\xfe/\r\nContent-Length: 0\r\n\r\n"),
}

MOVED: Final = "/moved/"
"""A path that begins so is answered with a redirect to what follows, percent-decoded."""


def moved(location: bytes) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"


TLS_FAULTS: Final = ("unknown-authority", "wrong-host", "expired", "old-protocol", "no-tls", "tls-silence", "tls-reset")
"""Hosts `<fault>.example` on the https port."""


class Faulty:
    """A context manager: `with Faulty() as server: server.address`; counts the requests by host and path."""

    def __init__(self) -> None:
        self._authority = trustme.CA()
        self._other = trustme.CA()
        self._contexts = {fault: self._context(fault) for fault in ("", *TLS_FAULTS)}
        self.asked: Counter[str] = Counter()
        self._servers = [_Server(self, tls=False), _Server(self, tls=True)]
        http, https = (int(server.server_address[1]) for server in self._servers)
        self.address = ReplayAddress("127.0.0.1", http, https, self._authority.cert_pem.bytes().decode())

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def secure(self, connection: socket.socket) -> socket.socket | None:
        """Do the server's side of TLS for the host that the client names, or what its fault does instead."""
        hello = connection.recv(4096, socket.MSG_PEEK)
        fault = next((name for name in TLS_FAULTS if f"{name}.example".encode() in hello), "")
        if fault == "tls-silence":
            silence(connection)
        elif fault == "tls-reset":
            reset(connection)
        elif fault == "no-tls":
            connection.sendall(answer())
        else:
            return self._contexts[fault].wrap_socket(connection, server_side=True)
        return None

    def _context(self, fault: str) -> ssl.SSLContext:
        authority = self._other if fault == "unknown-authority" else self._authority
        name = "other.test" if fault == "wrong-host" else "*.example"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name, not_after=_YESTERDAY if fault == "expired" else None).configure_cert(context)
        if fault == "old-protocol":
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            with warnings.catch_warnings():
                # Python calls it deprecated, which is what this is about.
                warnings.simplefilter("ignore", DeprecationWarning)
                context.maximum_version = ssl.TLSVersion.TLSv1_1
        return context


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, faulty: Faulty, *, tls: bool) -> None:
        self.faulty = faulty
        self.tls = tls
        super().__init__(("127.0.0.1", 0), _Connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        """Say nothing: that clients hang up is what happens here."""


class _Connection(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        connection: socket.socket | None = self.request
        with suppress(OSError):
            if self.server.tls:
                connection = self.server.faulty.secure(self.request)
            while connection is not None and (head := _head(connection)):
                _, path, *_ = head[0].split()
                host = next(line.split()[1] for line in head if line.lower().startswith("host:"))
                self.server.faulty.asked[f"{host.partition(':')[0]}{path}"] += 1
                fault = {**FAULTS, **READ}.get(path.lstrip("/").partition("?")[0])
                if path.startswith(MOVED):
                    connection.sendall(moved(unquote_to_bytes(path.removeprefix(MOVED))))
                    continue
                if fault is None:
                    connection.sendall(answer(b"no", "404 Not Found"))
                    continue
                fault(connection)
                if fault not in {FAULTS["ok"], FAULTS["too-long"], *READ.values()}:
                    break
        if connection is not None:
            connection.close()


def _head(connection: socket.socket) -> list[str]:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(4096)
        if not piece:
            return []
        head += piece
    return head.decode("latin-1").split("\r\n")
