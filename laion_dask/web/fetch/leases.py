"""The client's end of a server of turns: leases are asked for, held, and given up in time; see `turns`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from laion_dask import params
from laion_dask.web.fetch.host_limits import Turns, Turnstile

LINE_BYTES: Final = 1_024
"""Length of a line of the protocol: a host has at most 253 characters."""
BEATS: Final = 6
"""Signs of life in the time of a lease."""
KNOWN: Final = "ok"
REFUSED: Final = "no"
_CALLS: Final = 3  # to a server that has no room for one more stranger
_CALL_AGAIN_S: Final = 0.3

Paused = Callable[[str, float], None]


class TurnsGoneError(Exception):
    """The server of turns is not there any more; without it nobody knows what a host is being asked."""


class LeaseLostError(Exception):
    """The turn that was held is none any more, and what was done in it was broken off: ask for another one."""


@dataclass(frozen=True, slots=True)
class TurnsAddress:
    """Where a server of turns listens, the word that it expects first, and the silence that ends its leases."""

    host: str
    port: int
    token: str
    lease_s: float = 30.0


class Lines:
    """Lines to the other end: those of one round of the event loop go out together, as one packet."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._waiting: list[str] = []

    def put(self, line: str) -> None:
        """Send a line soon."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append(line)

    def _send(self) -> None:
        # Who has gone takes his turns with him: nothing is owed to him.
        if not self._writer.is_closing():
            self._writer.write("\n".join([*self._waiting, ""]).encode())
        self._waiting.clear()


@asynccontextmanager
async def open_turns(
    settings: params.Download, address: TurnsAddress | None, paused: Paused | None = None
) -> AsyncIterator[Turnstile]:
    """Open the turns of a run that share a `turns.TurnServer`, or without an address those of this event loop alone.

    `paused` hears of hosts that another client is to leave alone, where this one waits for them too, and for how long.
    Raises `TurnsGoneError` where nobody listens; waiting for a turn raises it where the server ends in between. What is
    done in a turn is broken off with `LeaseLostError` where the server may have given the turn to somebody else.
    """
    if address is None:
        yield Turns(settings)
        return
    shared = _SharedTurns(address, paused)
    reader = await shared.connect()
    serving = asyncio.ensure_future(shared.serve(reader))
    try:
        yield shared
    finally:
        serving.cancel()
        shared.close()
        await asyncio.gather(serving, return_exceptions=True)


def _gone(address: TurnsAddress) -> TurnsGoneError:
    where = f"{address.host}:{address.port}"
    return TurnsGoneError(
        f"{where}: the server of turns is gone. Remedy: run again; unfinished shards are fetched anew"
    )


@dataclass(eq=False, slots=True)
class _Lease:
    """A turn that a task waits for, or holds."""

    host: str
    delay_s: float
    granted: asyncio.Future[None]
    held: asyncio.Timeout | None = None
    lost: bool = False

    def lose(self) -> None:
        """Break off what is done in the turn."""
        self.lost = True
        if self.held is not None:
            self.held.reschedule(asyncio.get_running_loop().time())


class _SharedTurns:
    """The client's end of a `turns.TurnServer`."""

    def __init__(self, address: TurnsAddress, paused: Paused | None) -> None:
        self._address = address
        self._paused = paused
        self._numbers = itertools.count()
        self._leases: dict[int, _Lease] = {}
        self._gone = False
        self._writer: asyncio.StreamWriter | None = None
        self._lines: Lines | None = None
        self._beats: dict[int, float] = {}
        self._end: asyncio.TimerHandle | None = None

    async def connect(self) -> asyncio.StreamReader:
        """Connect and say the word; `TurnsGoneError` where nobody listens, or another word is expected.

        A network that is down is waited for, as long as two leases last.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + 2 * self._address.lease_s
        calls = itertools.count(1)
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(self._address.lease_s):
                    reader, answer = await self._call()
            except ConnectionRefusedError as error:
                raise _gone(self._address) from error
            except OSError as error:
                reset = isinstance(error, ConnectionError)
                if loop.time() > until or (reset and next(calls) >= _CALLS):
                    raise _gone(self._address) from error
            else:
                if answer == KNOWN:
                    # The server counts from the word on, which was said later than this.
                    self._expect(began)
                    return reader
                if answer == REFUSED or next(calls) >= _CALLS:
                    raise _gone(self._address)
            finally:
                if self._lines is None:
                    self.close()
            await asyncio.sleep(_CALL_AGAIN_S)

    async def _call(self) -> tuple[asyncio.StreamReader, str]:
        address = self._address
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=LINE_BYTES)
        self._writer = writer
        writer.write(f"{address.token}\n".encode())
        answer = (await reader.readline()).strip().decode()
        if answer == KNOWN:
            self._lines = Lines(writer)
        return reader, answer

    def close(self) -> None:
        """Close the connection."""
        if self._end is not None:
            self._end.cancel()
        if self._writer is not None:
            self._writer.close()
        self._lines = None

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Pass grants on to those who wait for them; connect again where the connection is lost."""
        try:
            while True:
                await self._while_connected(reader)
                self._lose_all()
                reader = await self.connect()
                for number, lease in self._leases.items():
                    if not lease.lost:
                        self._take(number, lease)
        finally:
            # Whoever waits must not wait for ever, whatever has ended this.
            self._gone = True
            for lease in self._leases.values():
                if not lease.granted.done():
                    lease.granted.set_exception(_gone(self._address))

    async def _while_connected(self, reader: asyncio.StreamReader) -> None:
        beating = asyncio.ensure_future(self._beat())
        try:
            with suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    self._hear(line.decode().split())
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        for number in itertools.count():
            self._beats[number] = asyncio.get_running_loop().time()
            self._put(f"beat {number}")
            await asyncio.sleep(self._address.lease_s / BEATS)

    def _hear(self, words: list[str]) -> None:
        match words:
            case ["grant", number]:
                lease = self._leases.get(int(number))
                if lease is not None and not lease.granted.done():
                    lease.granted.set_result(None)
            case ["beat", number]:
                # The server has heard the beat, which was after it was sent.
                sent = self._beats.pop(int(number), None)
                if sent is not None:
                    self._expect(sent)
            case ["pause", host, seconds] if self._paused is not None:
                self._paused(host, float(seconds))

    def _expect(self, heard: float) -> None:
        """Hold leases until `lease_s` after a beat that the server has answered."""
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_at(heard + self._address.lease_s, self._lose_all)

    def _lose_all(self) -> None:
        """Give up all turns that are held, and the connection: the server may have given them to others."""
        self.close()
        self._beats.clear()
        if self._writer is not None:
            self._writer.transport.abort()
        for lease in self._leases.values():
            if lease.granted.done():
                lease.lose()

    def _put(self, line: str) -> None:
        # Without a connection there is nothing to give back, and what is waited for is asked for again.
        if self._lines is not None:
            self._lines.put(line)

    def _take(self, number: int, lease: _Lease) -> None:
        self._put(f"take {number} {lease.host} {lease.delay_s}")

    @asynccontextmanager
    async def turn(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a turn at a host, and hold it; `delay_s`: the interval that the host itself asks for."""
        if self._gone:
            raise _gone(self._address)
        number = next(self._numbers)
        lease = self._leases[number] = _Lease(host, delay_s, asyncio.get_running_loop().create_future())
        self._take(number, lease)
        try:
            await lease.granted
            if lease.lost:
                raise LeaseLostError
            async with asyncio.timeout(None) as lease.held:
                yield
        except TimeoutError:
            if lease.held is None or not lease.held.expired():
                raise
            raise LeaseLostError from None
        finally:
            del self._leases[number]
            if not lease.lost:
                self._put(f"give {number}")

    def pause(self, host: str, seconds: float) -> None:
        """Give nobody a turn at a host for a while; whoever has one keeps it."""
        self._put(f"pause {host} {seconds}")
