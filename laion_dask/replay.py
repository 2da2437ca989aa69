"""WARC files in, a loopback web server out that answers for every host as the archive recorded it.

http listens on one port and https on another; certificates for any host name are made as they are asked for. Clients
reach it by resolving names to it, so URLs and host names stay as they are.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import ada_url
import trustme
from aiohttp import web
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType
from multidict import CIMultiDict

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

# RFC 9110 7.6.1, and the lengths that the server writes itself.
_NOT_REPLAYED: Final = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # A page of the web must not be able to speak for the server.
        "laion-dask-replay",
        "laion-dask-replay-date",
    )
)
# What Common Crawl and this project's archives put before headers that no longer describe the body as stored.
_OF_THE_WIRE: Final = "x-crawler-"
FIELD: Final = "Laion-Dask-Exchange"
"""Header of records of this project's archives: who asked and how it ended, as JSON (see `warc_exchange`)."""
MARK: Final = "Laion-Dask-Replay"
"""Header of a request whose client wants to be told what was not answered, and of the answers that tell it."""
NO_ANSWER: Final = "no answer"
"""Mark of an answer that stands for none: the host has closed the connection, or does not exist."""
NO_BODY: Final = "no body"
"""Mark of an answer whose headers were recorded and whose body was not: the connection is lost after them."""
MARK_DATE: Final = "Laion-Dask-Replay-Date"
"""Header with the WARC-Date of the record, for a client that sent the mark."""
_GZIP: Final = b"\x1f\x8b"


class ReplayError(Exception):
    """A WARC file cannot be served."""


@dataclass(frozen=True, slots=True)
class ReplayAddress:
    """Where a replay server listens, and the certificate authority that its clients must trust."""

    host: str
    http_port: int
    https_port: int
    ca_pem: str
    marks: bool = False
    """The server says itself where a host gave no answer (`MARK`), so silence and a lost connection are never that."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a response record begins."""

    path: Path
    offset: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A response as recorded: the body without chunks, in its Content-Encoding."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: bool = False
    """There was a body, and it was not recorded."""
    date: str = ""
    """WARC-Date of the record."""


class Loopback:
    """A context manager that serves a handler over http and https on 127.0.0.1 in a thread of its own.

    Counts `requests`, and `peak` concurrent requests by host.
    """

    def __init__(self, handler: Handler, *, http_port: int = 0, https_port: int = 0) -> None:
        self._handler = handler
        self._ports = (http_port, https_port)
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runners: list[web.ServerRunner] = []
        self._open: Counter[str] = Counter()
        self.requests = 0
        self.peak: Counter[str] = Counter()
        self.address = ReplayAddress("127.0.0.1", 0, 0, self._authority.cert_pem.bytes().decode())

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replay", daemon=True)
        self._thread.start()
        try:
            ports = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            # A port that is taken must not leave the thread behind.
            self._stop()
            raise
        self.address = replace(self.address, http_port=ports[0], https_port=ports[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    async def _start(self) -> tuple[int, int]:
        ports = []
        for port, tls in zip(self._ports, (None, self._tls()), strict=True):
            runner = web.ServerRunner(
                web.Server(self._counted, access_log=None), handle_signals=False, shutdown_timeout=0.1
            )
            self._runners.append(runner)
            await runner.setup()
            site = web.TCPSite(runner, self.address.host, port, ssl_context=tls)
            await site.start()
            ports.append(int(runner.addresses[0][1]))
        return ports[0], ports[1]

    def _stop(self) -> None:
        if self._loop is None or self._thread is None:
            return

        async def clean() -> None:
            for runner in self._runners:
                await runner.cleanup()

        asyncio.run_coroutine_threadsafe(clean(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _counted(self, request: web.BaseRequest) -> web.StreamResponse:
        host = request.host.partition(":")[0]
        self.requests += 1
        self._open[host] += 1
        self.peak[host] = max(self.peak[host], self._open[host])
        try:
            return await self._handler(request)
        finally:
            self._open[host] -= 1

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert("localhost", self.address.host).configure_cert(context)
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name is None:
            return None
        if name not in self._contexts:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            try:
                self._authority.issue_cert(name).configure_cert(context)
            except ValueError:
                # IDNA refuses the name (an underscore): the certificate is that of the server itself, for clients that
                # do not compare names. An alert would reach some clients as a lost connection.
                return None
            self._contexts[name] = context
        connection.context = self._contexts[name]
        return None


# The server would put its own clock there, and a Date that was never received would go into the data set.
NO_DATE: Final = ""


@dataclass(slots=True)
class Index:
    """URL -> place of its first response (of tries that an archive holds, the one that was not tried again)."""

    places: dict[str, Place] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    tried_again: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    """URLs that an archive knows to have got no answer at all."""

    def add(self, path: Path) -> None:
        """Read a WARC file to its end, or to the damage that ends it; `ReplayError` where the file is missing."""
        if not path.is_file():
            raise ReplayError(f"{path}: no such WARC file. Remedy: make it, or correct download.warcs in params.yaml")
        with path.open("rb") as stream:
            try:
                kinds = WarcRecordType.response | WarcRecordType.metadata
                for record in ArchiveIterator(stream, record_types=kinds, parse_http=False):
                    url = normal(record.headers.get("WARC-Target-URI") or "")
                    if url is not None and record.record_type == WarcRecordType.metadata and record.headers.get(FIELD):
                        self.silent.add(url)
                    if url is None or not record.is_http:
                        continue
                    if url not in self.places or url in self.tried_again:
                        self.places[url] = Place(path, record.stream_pos)
                        busy = bool(_told(record)["reply"].get("retry"))
                        self.tried_again.add(url) if busy else self.tried_again.discard(url)
                    self.hosts.add(_host(url))
            except OSError:
                # What comes before the damage is served; what comes after is as if it had not been recorded.
                return

    def find(self, url: str) -> Place | None:
        """Return the place of a URL's response; where it is absent, of the other scheme's."""
        scheme, _, rest = url.partition("://")
        other = "http" if scheme == "https" else "https"
        return self.places.get(url) or self.places.get(f"{other}://{rest}")


def _told(record: WarcRecord) -> dict[str, Any]:
    """Return what an archive of this project says of an exchange; of any other record, that its body was read."""
    return dict(json.loads(record.headers.get(FIELD) or '{"reply": {}, "read": true}'))


def normal(url: str) -> str | None:
    """Normalise an http or https URL by WHATWG rules, without fragment; wget wrote angle brackets around it."""
    try:
        parsed = ada_url.URL(url.strip().removeprefix("<").removesuffix(">"))
    except ValueError:
        return None
    parsed.hash = ""
    return parsed.href if parsed.protocol in {"http:", "https:"} else None


def _host(url: str) -> str:
    return ada_url.URL(url).hostname


def read(place: Place) -> Recorded | None:
    """Read one response from disk; None where the record cannot be read as an HTTP response."""
    # Some writers store the body without chunks and keep the header that says chunked: then it is taken as it is.
    return _read(place, "transfer") or _read(place, "none")


def _read(place: Place, decode: Literal["transfer", "none"]) -> Recorded | None:
    with place.path.open("rb") as stream:
        stream.seek(place.offset)
        try:
            record = next(iter(ArchiveIterator(stream, parse_http=True, auto_decode=decode)), None)
            if record is None or record.http_headers is None:
                return None
            body = record.reader.read()
            told = _told(record)
            date = record.headers.get("WARC-Date") or ""
        except OSError:
            return None
    status = record.http_headers.status_code or 0
    if not 200 <= status <= 999:
        return None
    headers = [(name, _clean(value)) for name, value in record.http_headers.astuples()]
    kept = tuple(
        (name, value)
        for name, value in headers
        if name.lower() not in _NOT_REPLAYED
        and not name.lower().startswith(_OF_THE_WIRE)
        and not (name.lower() == "content-encoding" and "gzip" in value and not body.startswith(_GZIP))
    )
    cut = status == 200 and (not told.get("read") or bool(told["reply"].get("failure")) or bool(told.get("withheld")))
    return Recorded(status, _clean(record.http_headers.reason_phrase or ""), kept, body, cut, _clean(date))


def _clean(value: str) -> str:
    return "".join(character for character in value if character.isprintable())


class Replay(Loopback):
    """The loopback server that answers out of WARC files: `with Replay(paths) as replay: replay.address`.

    A URL of a known host that was not recorded gets 404; a host that does not occur gets its connection closed, and so
    does a client that waits for a body which an archive does not hold. A client that sends `MARK` is told both by a
    marked answer instead: on a busy machine connections are lost for other reasons too.
    `ReplayError` where a file is missing.
    """

    def __init__(self, paths: Sequence[Path], *, http_port: int = 0, https_port: int = 0) -> None:
        super().__init__(self._answer, http_port=http_port, https_port=https_port)
        self.address = replace(self.address, marks=True)
        self.index = Index()
        for path in paths:
            self.index.add(path)
        # Bodies stay on disk; the few that are asked for again (robots.txt, a shared logo) stay warm.
        self._read = lru_cache(maxsize=32)(read)

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        url = normal(f"{'https' if request.secure else 'http'}://{request.host}{request.raw_path}")
        silent = url in self.index.silent and url not in self.index.places
        marked = MARK in request.headers
        if url is None or silent or _host(url) not in self.index.hosts:
            if marked:
                return web.Response(status=502, headers={MARK: NO_ANSWER, "Date": NO_DATE})
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        place = self.index.find(url)
        recorded = self._read(place) if place is not None else None
        if recorded is None:
            return web.Response(status=404, text="not in the archive\n", headers={"Date": NO_DATE})
        headers: CIMultiDict[str] = CIMultiDict(recorded.headers)
        headers.setdefault("Date", NO_DATE)
        if marked:
            headers[MARK_DATE] = recorded.date
            if recorded.cut:
                headers[MARK] = NO_BODY
                return web.Response(status=recorded.status, reason=recorded.reason, headers=headers)
        elif recorded.cut:
            return await self._break_off(request, recorded, headers)
        return web.Response(status=recorded.status, reason=recorded.reason, headers=headers, body=recorded.body)

    async def _break_off(
        self, request: web.BaseRequest, recorded: Recorded, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        """Send the headers and hang up: an empty body would be another answer than the one that was not recorded."""
        response = web.StreamResponse(status=recorded.status, reason=recorded.reason, headers=headers)
        response.content_length = 1
        await response.prepare(request)
        if request.transport is not None:
            request.transport.close()
        return response


def serve(paths: Sequence[Path], http_port: int, https_port: int) -> None:
    """Serve WARC files until Ctrl-C, and print where and how; `ReplayError` where a file is missing."""
    with Replay(paths, http_port=http_port, https_port=https_port) as replay:
        for line in usage(replay):
            print(line, flush=True)  # noqa: T201 - a command that serves says where
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


def usage(replay: Replay) -> list[str]:
    """Return the lines that tell where a replay server listens and how curl reaches it."""
    address = replay.address
    url = next(iter(replay.index.places), "http://host.example/")
    port = address.https_port if url.startswith("https:") else address.http_port
    trust = " --insecure" if url.startswith("https:") else ""
    return [
        f"{len(replay.index.places):,} responses of {len(replay.index.hosts):,} hosts",
        f"http   {address.host}:{address.http_port}",
        f"https  {address.host}:{address.https_port}",
        f"curl --connect-to ::{address.host}:{port}{trust} '{url}'",
        "Ctrl-C ends it",
    ]
