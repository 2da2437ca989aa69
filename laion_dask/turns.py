"""Hosts in, turns out: how many requests a host and its registered domain get at once, and how far apart they are.

The limits hold for a run, not for a process. Whoever runs the workers opens one `TurnServer`; every fetcher, in
whatever process or machine, asks it before each request and tells it when the request has ended. So the sum over all
workers stays within the limits, however many there are, pacing goes on from shard to shard, and a host that asked one
worker to wait is left alone by all. A worker that dies loses its connection and with it its turns. Separate runs know
nothing of each other. A connection that is kept open between two requests is idle, and not counted.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

from laion_dask import params
from laion_dask.urls import registrable_domain

_LANES: Final = 65_536  # about 50 MB; lanes that nobody uses are forgotten when there are more
_HELLO_S: Final = 5.0
_ROUNDS: Final = 5  # of the event loop: from an accepted connection to its task, or from a closed one to its end, are 3


class TurnsGoneError(Exception):
    """The server of turns is not there any more; without it nobody knows what a host is being asked."""


@dataclass(frozen=True, slots=True)
class TurnsAddress:
    """Where a `TurnServer` listens, and the word that it expects first."""

    host: str
    port: int
    token: str


class Turnstile(Protocol):
    """What a fetcher asks before each request."""

    def turn(self, host: str, delay_s: float = 0.0) -> AbstractAsyncContextManager[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        ...

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn at a host for a while."""
        ...


@dataclass(slots=True)
class _Lane:
    turns: asyncio.Semaphore
    users: int = 0
    next_start_s: float = 0.0


@dataclass(slots=True)
class _Lanes:
    """The lanes of hosts, or of domains: so many at once, so many seconds apart."""

    limit: int
    interval_s: float
    lanes: dict[str, _Lane] = field(default_factory=dict)

    @asynccontextmanager
    async def through(self, name: str) -> AsyncIterator[_Lane]:
        lane = self.lanes.get(name)
        if lane is None:
            self._forget()
            lane = self.lanes[name] = _Lane(asyncio.Semaphore(self.limit))
        lane.users += 1
        try:
            async with lane.turns:
                yield lane
        finally:
            lane.users -= 1

    def _forget(self) -> None:
        if len(self.lanes) >= _LANES:
            now = time.monotonic()
            self.lanes = {
                name: lane
                for name, lane in self.lanes.items()
                if lane.users or lane.next_start_s > now - self.interval_s
            }


class Turns:
    """Gives turns to the tasks of one event loop, first come, first served."""

    def __init__(self, settings: params.Download) -> None:
        self._hosts = _Lanes(settings.connections_per_host, settings.host_interval_s)
        self._domains = _Lanes(settings.connections_per_domain, settings.domain_interval_s)

    @asynccontextmanager
    async def turn(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        async with self._hosts.through(host) as lane:
            # Always the host before its domain: nobody waits for a host with a domain in hand.
            await _until(lane)
            async with self._domains.through(_domain(host)) as domain:
                await _until(lane, domain)
                now = time.monotonic()
                lane.next_start_s = now + max(self._hosts.interval_s, delay_s)
                domain.next_start_s = now + self._domains.interval_s
                yield

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn at a host for a while; whoever has one keeps it."""
        lane = self._hosts.lanes.get(host)
        if lane is not None:
            lane.next_start_s = max(lane.next_start_s, time.monotonic() + seconds)


async def _until(*lanes: _Lane) -> None:
    """Wait until all lanes may be used; while one waits, a pause or another request may move that on."""
    while True:
        wait_s = max(lane.next_start_s for lane in lanes) - time.monotonic()
        if wait_s <= 0:
            return
        await asyncio.sleep(wait_s)


def _domain(host: str) -> str:
    # An address, a name without a dot and a public suffix belong to nobody's domain: each is its own.
    return registrable_domain(host) or host


class TurnServer:
    """A context manager that gives turns to fetchers elsewhere: a thread, a TCP port, one line for each step.

    The first line of a connection is the token. Then `take N HOST DELAY` asks for a turn, which `N` in the other
    direction grants; `give N` ends it, also before it was granted; `pause HOST SECONDS` holds a host back.
    """

    def __init__(self, settings: params.Download, host: str = "127.0.0.1") -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = TurnsAddress(host, 0, secrets.token_hex(16))

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="turns", daemon=True)
        self._thread.start()
        try:
            port = asyncio.run_coroutine_threadsafe(self._start(), loop).result()
        except BaseException:
            self._stop(loop)
            raise
        self.address = TurnsAddress(self.address.host, port, self.address.token)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            self._stop(self._loop)

    async def _start(self) -> int:
        self._turns = Turns(self._settings)
        self._server = await asyncio.start_server(self._serve, self.address.host, 0)
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
        held: dict[int, asyncio.Task[None]] = {}
        grants = _Lines(writer)
        try:
            # Whoever does not know the word, or sends no lines, is no worker of this run.
            with suppress(TimeoutError, ValueError, ConnectionError):
                async with asyncio.timeout(_HELLO_S):
                    hello = await reader.readline()
                if hmac.compare_digest(hello.strip(), self.address.token.encode()):
                    while line := await reader.readline():
                        self._obey(line.decode().split(), held, grants)
        except asyncio.CancelledError:
            # The run is over. The streams of Python 3.11 report a handler that ends as cancelled as an error.
            pass
        finally:
            # Nothing is waited for: who is cancelled here leaves the connection closed all the same.
            for turn in held.values():
                turn.cancel()
            writer.close()
            if task is not None:
                self._tasks.discard(task)

    def _obey(self, words: list[str], held: dict[int, asyncio.Task[None]], grants: _Lines) -> None:
        match words:
            case ["take", number, host, delay_s]:
                held[int(number)] = asyncio.ensure_future(self._hold(int(number), host, float(delay_s), grants))
            case ["give", number]:
                held.pop(int(number)).cancel()
            case ["pause", host, seconds]:
                self._turns.pause(host, float(seconds))

    async def _hold(self, number: int, host: str, delay_s: float, grants: _Lines) -> None:
        async with self._turns.turn(host, delay_s):
            grants.put(str(number))
            # Held until it is given back, which cancels this task.
            await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def open_turns(settings: params.Download, address: TurnsAddress | None) -> AsyncIterator[Turnstile]:
    """Open the turns of a run that share a `TurnServer`, or without an address those of this event loop alone.

    Raises `TurnsGoneError` where nobody listens; waiting for a turn raises it where the server ends in between.
    """
    if address is None:
        yield Turns(settings)
        return
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError as error:
        raise _gone(address) from error
    writer.write(f"{address.token}\n".encode())
    shared = _SharedTurns(writer, address)
    listening = asyncio.ensure_future(shared.listen(reader))
    try:
        yield shared
    finally:
        listening.cancel()
        writer.close()


def _gone(address: TurnsAddress) -> TurnsGoneError:
    where = f"{address.host}:{address.port}"
    return TurnsGoneError(
        f"{where}: the server of turns is gone. Remedy: run again; unfinished shards are fetched anew"
    )


class _Lines:
    """Lines to the other end: those of one round of the event loop go out together, as one packet."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: list[str] = []

    def put(self, line: str) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(line)

    def _send(self) -> None:
        # Who has gone takes his turns with him: nothing is owed to him.
        if not self._writer.is_closing():
            self._writer.write("\n".join([*self._waiting, ""]).encode())
        self._waiting.clear()


class _SharedTurns:
    """The client's end of a `TurnServer`."""

    def __init__(self, writer: asyncio.StreamWriter, address: TurnsAddress) -> None:
        self._lines = _Lines(writer)
        self._address = address
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._gone = False

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Pass grants on to those who wait for them, until the server ends."""
        with suppress(ConnectionError):
            while line := await reader.readline():
                granted = self._waiting.get(int(line))
                if granted is not None and not granted.done():
                    granted.set_result(None)
        self._gone = True
        for granted in self._waiting.values():
            if not granted.done():
                granted.set_exception(_gone(self._address))

    @asynccontextmanager
    async def turn(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        if self._gone:
            raise _gone(self._address)
        number = next(self._numbers)
        self._waiting[number] = granted = asyncio.get_running_loop().create_future()
        self._lines.put(f"take {number} {host} {delay_s}")
        try:
            await granted
            yield
        finally:
            del self._waiting[number]
            self._lines.put(f"give {number}")

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn at a host for a while; whoever has one keeps it."""
        self._lines.put(f"pause {host} {seconds}")
