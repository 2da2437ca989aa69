"""Serve WARC files: a loopback web server that answers for every recorded host.

One port serves http, another https, with certificates that are made for each host name on demand. Clients resolve
every name to the server, so URLs and host names stay unchanged.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shlex
import shutil
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import ada_url
import trustme
from aiohttp import web
from multidict import CIMultiDict

from laion_dask.storage import printable
from laion_dask.web.fetch.replay_address import MARK, MARK_DATE, NO_ANSWER, NO_BODY, OWN_NAME, ReplayAddress
from laion_dask.web.warc.recorded import AnswerRecord, Recorded, RecordPlace, Survey, normal_url, read
from laion_dask.web.warc.warc_files import WarcFileError, WarcRecord

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ReplayError(Exception):
    """A WARC file cannot be served."""


_BACKLOG: Final = 1_024  # clients that have connected and are not accepted yet
_LOOP_PASSES: Final = 5  # passes of the event loop: more than it needs to register an accepted connection or close one


class Loopback:
    """A context manager that serves a handler over http and https on 127.0.0.1 in a thread of its own.

    It counts `requests`, and by host the `peak` of concurrent ones. If `encrypted`, the http port too speaks TLS; see
    `replay_address.over_tls`.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        host: str = "127.0.0.1",
        http_port: int = 0,
        https_port: int = 0,
        encrypted: bool = False,
    ) -> None:
        self._handler = handler
        self._ports = (http_port, https_port)
        self._authority = trustme.CA()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._runners: list[web.ServerRunner] = []
        self._listening: list[socket.socket] = []
        self._open: Counter[str] = Counter()
        self.requests = 0
        self.peak: Counter[str] = Counter()
        self.address = ReplayAddress(host, 0, 0, self._authority.cert_pem.bytes().decode(), encrypted=encrypted)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replay", daemon=True)
        self._thread.start()
        try:
            ports = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            # Where a port is in use, the thread must end too.
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
        encryption = self._tls()
        for port, tls in zip(self._ports, (encryption if self.address.encrypted else None, encryption), strict=True):
            runner = web.ServerRunner(
                web.Server(self._count, access_log=None), handle_signals=False, shutdown_timeout=0.1
            )
            self._runners.append(runner)
            await runner.setup()
            listening = socket.create_server((self.address.host, port), backlog=_BACKLOG)
            self._listening.append(listening)
            await web.SockSite(runner, listening, ssl_context=tls, backlog=_BACKLOG).start()
            ports.append(int(runner.addresses[0][1]))
        return ports[0], ports[1]

    def _stop(self) -> None:
        if self._loop is None or self._thread is None:
            return

        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        """Stop accepting clients, then close every connection, also those whose TLS handshake is under way.

        In Python 3.11 a server that closes while it accepts a client leaves that connection open. So the sockets stop
        listening first, and the servers close once every accepted client has its connection registered.
        """
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            loop.remove_reader(listening.fileno())
        for _ in range(_LOOP_PASSES):
            await asyncio.sleep(0)
        for runner in self._runners:
            await runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for _ in range(_LOOP_PASSES):
            await asyncio.sleep(0)

    async def _count(self, request: web.BaseRequest) -> web.StreamResponse:
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
        self._authority.issue_cert(OWN_NAME, self.address.host).configure_cert(context)
        context.sni_callback = self._choose_certificate
        return context

    def _choose_certificate(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        if name is None:
            return None
        if name not in self._contexts:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            try:
                self._authority.issue_cert(name).configure_cert(context)
            except ValueError:
                # IDNA refuses the name (an underscore). The server's own certificate is used, for clients that do not
                # compare names; an alert would look like a lost connection to some clients.
                return None
            self._contexts[name] = context
        connection.context = self._contexts[name]
        return None


# An answer without a Date gets an empty one: aiohttp would add this machine's time, which would enter the data set.
NO_DATE: Final = ""


@dataclass(slots=True)
class ReplayIndex:
    """Finds the record that answers a URL: its first answer, or in archives of this project its last attempt."""

    survey: Survey
    places: dict[str, RecordPlace] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    tried_again: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    """URLs that a file names and has no usable answer for."""

    def add(self, *paths: Path) -> None:
        """Read WARC files to their ends; `ReplayError` where one is missing or is not a WARC file to its end."""
        try:
            for path in paths:
                for record in self.survey.answers(path):
                    self._put(record) if isinstance(record, AnswerRecord) else self._name(record)
        except WarcFileError as error:
            raise ReplayError(str(error)) from error
        for answer in self.survey.revisits():
            self._put(answer)
        self.named -= self.places.keys()

    def _put(self, answer: AnswerRecord) -> None:
        url = answer.url
        if url not in self.places or url in self.tried_again:
            self.places[url] = answer.place
            self.tried_again.add(url) if answer.busy else self.tried_again.discard(url)
        self.hosts.add(_host(url))

    def _name(self, record: WarcRecord) -> None:
        url = normal_url(record.get("warc-target-uri"))
        if url is None or url in self.places:
            return
        # A record of any type shows that the URL existed, so the answer must not be 404, which means that it is gone.
        self.named.add(url)

    def find(self, url: str) -> RecordPlace | None:
        """Return the place of the answer to a URL, or to the same URL with the other scheme."""
        return self.places.get(url) or self.places.get(_other_scheme(url))

    def is_named(self, url: str) -> bool:
        """Whether the files name a URL, with either scheme, but have no answer to it."""
        return self.find(url) is None and (url in self.named or _other_scheme(url) in self.named)


def _other_scheme(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{'http' if scheme == 'https' else 'https'}://{rest}"


def _host(url: str) -> str:
    return ada_url.URL(url).hostname


class Replay(Loopback):
    """The loopback server that answers from WARC files: `with Replay(paths) as replay: replay.address`.

    A URL of a recorded host that was not recorded itself gets 404. The server closes the connection for a host that
    does not occur, for a URL that the files name without a usable answer, and after a body that they do not have in
    full. A client that sends `MARK` gets a marked answer instead in these cases, because a busy machine also loses
    connections for other reasons. `ReplayError` where a file is missing or cannot be read to its end.

    Every user of the machine can reach the ports. So a client that does not send the token of `address` as `MARK` gets
    403 and nothing from the files, unless the server is `for_all`. If `encrypted`, no client can send it in clear.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        host: str = "127.0.0.1",
        http_port: int = 0,
        https_port: int = 0,
        for_all: bool = False,
        encrypted: bool = False,
    ) -> None:
        super().__init__(self._authorize, host=host, http_port=http_port, https_port=https_port, encrypted=encrypted)
        self.address = replace(self.address, marks=True, token="" if for_all else secrets.token_hex(16))
        # The folder is made only when a file has to be unpacked.
        self._scratch = Path(gettempdir()) / f"laion-dask-replay-{uuid4().hex}"
        self.index = ReplayIndex(Survey(self._scratch))
        try:
            self.index.add(*paths)
        except BaseException:
            self._clear()
            raise
        # Bodies are read from disk; a small cache serves those that are requested repeatedly (robots.txt, a logo).
        self._read = lru_cache(maxsize=32)(read)

    def __enter__(self) -> Self:
        try:
            super().__enter__()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._clear()

    def _clear(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    async def _authorize(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.headers.get(MARK, "").encode(errors="surrogateescape")
        if self.address.token and not hmac.compare_digest(token, self.address.token.encode()):
            return web.Response(status=403, text="this server answers the run that has started it\n")
        return await self._answer(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        url = normal_url(f"{self._scheme(request)}://{request.host}{request.raw_path}")
        if url is None or _host(url) not in self.index.hosts or self.index.is_named(url):
            return self._hang_up(request)
        place = self.index.find(url)
        if place is None:
            return web.Response(status=404, text="not in the archive\n", headers={"Date": NO_DATE})
        recorded = self._read(place)
        if recorded is None:
            return self._hang_up(request)
        headers: CIMultiDict[str] = CIMultiDict(recorded.headers)
        headers.setdefault("Date", NO_DATE)
        if MARK in request.headers:
            headers[MARK_DATE] = recorded.date
            if recorded.cut:
                headers[MARK] = NO_BODY
                return web.Response(status=recorded.status, reason=recorded.reason, headers=headers)
        elif recorded.cut:
            return await self._break_off(request, recorded, headers)
        return web.Response(status=recorded.status, reason=recorded.reason, headers=headers, body=recorded.body)

    def _scheme(self, request: web.BaseRequest) -> str:
        """Return the scheme of the URL that is asked for: the port tells it, as both ports may speak TLS."""
        if not self.address.encrypted or request.transport is None:
            return "https" if request.secure else "http"
        port = request.transport.get_extra_info("sockname")[1]
        return "https" if port == self.address.https_port else "http"

    def _hang_up(self, request: web.BaseRequest) -> web.Response:
        if MARK in request.headers:
            return web.Response(status=502, headers={MARK: NO_ANSWER, "Date": NO_DATE})
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)

    async def _break_off(
        self, request: web.BaseRequest, recorded: Recorded, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        """Send the recorded part and close the connection: a shorter body would look like a complete answer."""
        response = web.StreamResponse(status=recorded.status, reason=recorded.reason, headers=headers)
        response.content_length = len(recorded.body) + 1
        await response.prepare(request)
        await response.write(recorded.body)
        if request.transport is not None:
            request.transport.close()
        return response


def serve(paths: Sequence[Path], http_port: int, https_port: int) -> None:
    """Serve WARC files to every program of this machine until Ctrl-C, and print how to reach the server.

    `ReplayError` where a file is missing or damaged.
    """
    with Replay(paths, http_port=http_port, https_port=https_port, for_all=True) as replay:
        for line in usage(replay):
            print(printable.line(line), flush=True)  # noqa: T201 - a command that serves says where
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


def usage(replay: Replay) -> list[str]:
    """Return lines with the addresses of a replay server and a curl command for it."""
    address = replay.address
    url = next(iter(replay.index.places), "http://host.example/")
    port = address.https_port if url.startswith("https:") else address.http_port
    trust = " --insecure" if url.startswith("https:") else ""
    return [
        f"{len(replay.index.places):,} addresses of {len(replay.index.hosts):,} hosts",
        *replay.index.survey.lines(),
        f"http   {address.host}:{address.http_port}",
        f"https  {address.host}:{address.https_port}",
        f"curl --connect-to ::{address.host}:{port}{trust} {shlex.quote(url)}",
        "Ctrl-C ends it",
    ]
