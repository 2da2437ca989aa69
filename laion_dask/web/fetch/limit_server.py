"""Turns at hosts for all workers of a run: a server in the driver gives them out as leases, the fetchers ask it.

The limits hold for a run, not for a process. Whoever runs the workers opens one `TurnServer`; every fetcher, in
whatever process or machine, asks it before each request and tells it when the request has ended. So the sum over all
workers stays within the limits, however many there are, pacing goes on from shard to shard, and a host that asked one
worker to wait is left alone by all. Separate runs know nothing of each other. A connection that is kept open between
two requests is idle, and not counted.

A turn is a lease. A client sends a beat every few seconds; the server takes the turns of a client back when it closes
its connection, and when it has been silent for `lease_s`: its machine may have lost power, or its network. A client
that was not answered for that long gives its turns up by its own clock, which began earlier: it breaks its requests
off, connects again and asks again. So a client that is cut off never holds a turn beside the one who has it now. One
that was stopped for longer (a suspended process) does nothing meanwhile, and breaks off as soon as it goes on.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

from laion_dask import params
from laion_dask.web.fetch.host_limits import Turns
from laion_dask.web.fetch.leases import (
    BEATS,
    KNOWN,
    LINE_BYTES,
    REFUSED,
    LeaseLostError,
    Lines,
    TurnsAddress,
    TurnsGoneError,
    open_turns,
)

__all__ = ["LeaseLostError", "TurnServer", "TurnsAddress", "TurnsGoneError", "open_turns"]

_HELLO_S: Final = 5.0
_CLIENTS: Final = 16_384
_STRANGERS: Final = 256  # connections that have not said the word yet
_ROUNDS: Final = 5  # of the event loop: from an accepted connection to its task, or from a closed one to its end, are 3


class TurnServer:
    """A context manager that gives turns to fetchers elsewhere: a thread, a TCP port, one line for each step.

    The first line of a connection is the token, which is answered with `ok`, or else `no`. Then `take N HOST DELAY`
    asks for a turn, which `grant N` in the other direction grants; `give N` ends it, also before it was granted;
    `pause HOST SECONDS` holds a host back, and goes on to the other clients that wait for that host; `beat N` is
    answered in the same words.
    """

    def __init__(self, settings: params.Download, host: str = "127.0.0.1", *, lease_s: float = 30.0) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[_Client] = set()
        self.address = TurnsAddress(host, 0, secrets.token_hex(16), lease_s)

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="turns", daemon=True)
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
        self._turns = Turns(self._settings)
        self._server = await asyncio.start_server(self._serve, self.address.host, 0, limit=LINE_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        async def end() -> None:
            try:
                await self._send_away(loop)
            finally:
                # In the last round: what ended after it would be left open.
                loop.stop()

        asyncio.run_coroutine_threadsafe(end(), loop)
        if self._thread is not None:
            self._thread.join()
        loop.close()

    async def _send_away(self, loop: asyncio.AbstractEventLoop) -> None:
        # A server of Python 3.11 that closes while it accepts leaks the connection: first nobody more is let in, then
        # those who are in begin and are sent away, and only then it closes.
        server = getattr(self, "_server", None)
        for listening in server.sockets if server else ():
            loop.remove_reader(listening.fileno())
        alone = 0
        while alone < _ROUNDS:
            for task in self._tasks:
                if not task.cancelling():
                    task.cancel()
            await asyncio.sleep(0)
            alone = alone + 1 if asyncio.all_tasks() == {asyncio.current_task()} else 0
        if server:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        client = _Client(Lines(writer))
        try:
            # Whoever does not know the word, or sends no lines, is no worker of this run.
            with suppress(TimeoutError, ValueError, ConnectionError):
                if await self._knows_the_word(reader, writer):
                    self._clients.add(client)
                    await self._listen(reader, writer, client)
        except asyncio.CancelledError:
            # The run is over. The streams of Python 3.11 report a handler that ends as cancelled as an error.
            pass
        finally:
            # Nothing is waited for: who is cancelled here leaves the connection closed all the same.
            self._clients.discard(client)
            for _, turn in client.turns.values():
                turn.cancel()
            writer.close()
            if task is not None:
                self._tasks.discard(task)

    async def _knows_the_word(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        strangers = len(self._tasks) - len(self._clients)
        if strangers > _STRANGERS or len(self._clients) >= _CLIENTS:
            return False
        knows = False
        with suppress(TimeoutError, ValueError):
            async with asyncio.timeout(_HELLO_S):
                hello = await reader.readline()
            knows = hmac.compare_digest(hello.strip(), self.address.token.encode())
        writer.write(f"{KNOWN if knows else REFUSED}\n".encode())
        return knows

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: _Client) -> None:
        _keep_alive(writer, self.address.lease_s)
        loop = asyncio.get_running_loop()
        # A little longer than the client holds them, so that the timer need not be set at every line.
        spare_s = self.address.lease_s / BEATS
        silence_s = self.address.lease_s + spare_s
        try:
            async with asyncio.timeout(silence_s) as lease:
                until = loop.time() + silence_s
                while line := await reader.readline():
                    if until - loop.time() < silence_s - spare_s / 2:
                        until = loop.time() + silence_s
                        lease.reschedule(until)
                    self._obey(line.decode().split(), client)
        except TimeoutError:
            # What was written to a machine without power would keep the connection open for minutes.
            writer.transport.abort()

    def _obey(self, words: list[str], client: _Client) -> None:
        match words:
            case ["take", number, host, delay_s]:
                turn = asyncio.ensure_future(self._hold(number, host, float(delay_s), client))
                client.turns[number] = (host, turn)
            case ["give", number]:
                _, given = client.turns.pop(number, ("", None))
                if given is not None:
                    given.cancel()
            case ["pause", host, seconds]:
                self._turns.pause(host, float(seconds))
                for other in self._clients - {client}:
                    if any(waits_for == host for waits_for, _ in other.turns.values()):
                        other.lines.put(f"pause {host} {seconds}")
            case ["beat", number]:
                client.lines.put(f"beat {number}")

    async def _hold(self, number: str, host: str, delay_s: float, client: _Client) -> None:
        async with self._turns.turn(host, delay_s):
            client.lines.put(f"grant {number}")
            # Held until it is given back or taken back, which cancels this task.
            await asyncio.get_running_loop().create_future()


def _keep_alive(writer: asyncio.StreamWriter, lease_s: float) -> None:
    """Let the system notice too that a peer is gone, where it has the options for it."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = max(1, int(lease_s / BEATS))
    for option, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", seconds), ("TCP_KEEPCNT", BEATS)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@dataclass(eq=False, slots=True)
class _Client:
    """A client at the server's end, with the turns that it waits for or holds, by its own numbers."""

    lines: Lines
    turns: dict[str, tuple[str, asyncio.Task[None]]] = field(default_factory=dict)
