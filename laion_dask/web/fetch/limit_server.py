"""The limit server: it shares the rate limits for hosts between all workers of a run.

The limits hold for a run, not for a process. The driver opens one `LimitServer`; every fetcher, in whatever process or
on whatever machine, asks it for a slot before each request and returns the slot when the request has ended. So all
workers together stay within the limits, the intervals hold across shards, and a host that asked one worker to pause is
asked by none. Separate runs share nothing. A connection that is kept open between two requests is idle, and does not
count.

A slot is granted as a lease. The client sends a heartbeat every few seconds. The server frees the slots of a client
when the client closes its connection, and when it has sent nothing for `lease_s` (its machine or its network may be
down). A client that has had no answer for `lease_s` by its own clock, which started earlier, gives up its slots first:
it aborts its requests, connects again and asks again. So a client that is cut off never holds a slot that the server
has granted to another one. A suspended process sends no requests meanwhile, and aborts its old ones when it resumes.

An encrypted server speaks TLS only, with a certificate that is made for it. The address has its certificate authority,
so a client sends the token to no other server.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import ssl
import threading
import weakref
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final, Self

from laion_dask import params
from laion_dask.web.fetch.host_limits import HostLimits
from laion_dask.web.fetch.leases import (
    ACCEPTED,
    HEARTBEATS,
    LINE_BYTES,
    REFUSED,
    LimitServerAddress,
    Lines,
)

_HELLO_S: Final = 5.0
_MAX_CLIENTS: Final = 16_384
_MAX_UNPROVEN: Final = 256  # connections that have not sent the token yet
_LOOP_PASSES: Final = 5  # an accepted connection gets its task, and a closed one ends, within 3 passes of the loop


class LimitServer:
    """A context manager that grants slots to fetchers over TCP, from a thread of its own.

    The protocol is lines of text. A client first sends the token; the server answers `ok` or `no`. `take N HOST DELAY`
    asks for a slot, and the server grants it with `grant N`. `give N` returns it, or cancels the request for it.
    `pause HOST SECONDS` pauses a host; the server forwards it to the other clients that wait for that host. `beat N` is
    a heartbeat, which the server sends back.
    """

    def __init__(
        self, settings: params.Download, host: str = "127.0.0.1", *, lease_s: float = 30.0, encrypted: bool = False
    ) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[_Client] = set()
        self._connections: weakref.WeakSet[asyncio.WriteTransport] = weakref.WeakSet()
        self._tls: ssl.SSLContext | None = None
        ca_pem = ""
        if encrypted:
            self._tls, ca_pem = _certified(host)
        self.address = LimitServerAddress(host, 0, secrets.token_hex(16), lease_s, ca_pem)

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="limits", daemon=True)
        self._thread.start()
        try:
            port = asyncio.run_coroutine_threadsafe(self._start(), loop).result()
        except BaseException:
            self._stop(loop)
            raise
        self.address = replace(self.address, port=port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            self._stop(self._loop)

    async def _start(self) -> int:
        self._limits = HostLimits(self._settings)
        self._server = await asyncio.start_server(
            self._serve,
            self.address.host,
            0,
            limit=LINE_BYTES,
            ssl=self._tls,
            ssl_handshake_timeout=_HELLO_S if self._tls else None,
        )
        return int(self._server.sockets[0].getsockname()[1])

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        async def end() -> None:
            try:
                await self._close(loop)
            finally:
                # Stopping comes last: a task that is still running when the loop stops would stay open.
                loop.stop()

        asyncio.run_coroutine_threadsafe(end(), loop)
        if self._thread is not None:
            self._thread.join()
        loop.close()

    async def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        # In Python 3.11 a server that closes while it accepts a client leaks that connection. So it stops accepting
        # first, lets the accepted ones get their tasks, cancels these, and closes when no task is left.
        server = getattr(self, "_server", None)
        for listening in server.sockets if server else ():
            loop.remove_reader(listening.fileno())
        idle_passes = 0
        earlier: set[asyncio.Task[Any]] = set()
        while idle_passes < _LOOP_PASSES:
            tasks = asyncio.all_tasks()
            # A client's task is in `_tasks` from its first pass on; cancelled before that, Python 3.11 would log an
            # error. An older task that is not there is a TLS handshake.
            for task in self._tasks | ((tasks & earlier) - {asyncio.current_task()}):
                if not task.cancelling():
                    task.cancel()
            # The orderly end of TLS waits for the client, which may be silent.
            for connection in list(self._connections) if self._tls else ():
                connection.abort()
            await asyncio.sleep(0)
            earlier = tasks
            idle_passes = idle_passes + 1 if asyncio.all_tasks() == {asyncio.current_task()} else 0
        if server:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        client = _Client(Lines(writer))
        self._connections.add(writer.transport)
        try:
            # A client without the token, or one that does not keep to the protocol, is no worker of this run.
            with suppress(TimeoutError, ValueError, ConnectionError, ssl.SSLError):
                if await self._has_token(reader, writer):
                    self._clients.add(client)
                    await self._listen(reader, writer, client)
        except asyncio.CancelledError:
            # The run is over. Python 3.11 would log a handler that ends with CancelledError as an error.
            pass
        finally:
            # Nothing is awaited here, so that the connection is closed even where this task is cancelled.
            self._clients.discard(client)
            for _, holding in client.slots.values():
                holding.cancel()
            writer.close()
            if task is not None:
                self._tasks.discard(task)

    async def _has_token(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        unproven = len(self._tasks) - len(self._clients)
        if unproven > _MAX_UNPROVEN or len(self._clients) >= _MAX_CLIENTS:
            return False
        accepted = False
        with suppress(TimeoutError, ValueError):
            async with asyncio.timeout(_HELLO_S):
                hello = await reader.readline()
            accepted = hmac.compare_digest(hello.strip(), self.address.token.encode())
        writer.write(f"{ACCEPTED if accepted else REFUSED}\n".encode())
        return accepted

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: _Client) -> None:
        _keep_alive(writer, self.address.lease_s)
        loop = asyncio.get_running_loop()
        # Somewhat longer than the client's own limit, so that the timer need not be set again at every line.
        spare_s = self.address.lease_s / HEARTBEATS
        silence_s = self.address.lease_s + spare_s
        try:
            async with asyncio.timeout(silence_s) as lease:
                until = loop.time() + silence_s
                while line := await reader.readline():
                    if until - loop.time() < silence_s - spare_s / 2:
                        until = loop.time() + silence_s
                        lease.reschedule(until)
                    self._handle(line.decode().split(), client)
        except TimeoutError:
            # Unsent data for a machine that is down would keep the connection open for minutes.
            writer.transport.abort()

    def _handle(self, words: list[str], client: _Client) -> None:
        match words:
            case ["take", number, host, delay_s]:
                holding = asyncio.ensure_future(self._hold(number, host, float(delay_s), client))
                client.slots[number] = (host, holding)
            case ["give", number]:
                _, returned = client.slots.pop(number, ("", None))
                if returned is not None:
                    returned.cancel()
            case ["pause", host, seconds]:
                self._limits.pause(host, float(seconds))
                for other in self._clients - {client}:
                    if any(wanted == host for wanted, _ in other.slots.values()):
                        other.lines.put(f"pause {host} {seconds}")
            case ["beat", number]:
                client.lines.put(f"beat {number}")

    async def _hold(self, number: str, host: str, delay_s: float, client: _Client) -> None:
        async with self._limits.slot(host, delay_s):
            client.lines.put(f"grant {number}")
            # The slot is held until this task is cancelled: by the client, or when the client is gone.
            await asyncio.get_running_loop().create_future()


def _certified(host: str) -> tuple[ssl.SSLContext, str]:
    """Make a certificate authority and a certificate of it for an address; return the server's TLS, and the PEM."""
    import trustme  # noqa: PLC0415 - its cryptography takes a while to load, and local runs need none

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(host).configure_cert(context)
    return context, authority.cert_pem.bytes().decode()


def _keep_alive(writer: asyncio.StreamWriter, lease_s: float) -> None:
    """Let the operating system notice a lost peer too, where it has the options for it."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = max(1, int(lease_s / HEARTBEATS))
    for option, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", seconds), ("TCP_KEEPCNT", HEARTBEATS)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@dataclass(eq=False, slots=True)
class _Client:
    """A connected client: by its own numbers, the hosts of the slots that it wants or holds, and a task for each."""

    lines: Lines
    slots: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)
