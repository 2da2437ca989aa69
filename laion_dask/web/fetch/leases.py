"""The client of a limit server: it asks for leases, holds them, and gives them up in time; see `limit_server`."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from laion_dask import params
from laion_dask.web.fetch.host_limits import HostLimits, RateLimiter

LINE_BYTES: Final = 1_024
"""Length of a line of the protocol: a host has at most 253 characters."""
HEARTBEATS: Final = 6
"""Heartbeats that a client sends in the time of a lease."""
ACCEPTED: Final = "ok"
REFUSED: Final = "no"
_MAX_CONNECTS: Final = 3  # to a server that is full
_CONNECT_AGAIN_S: Final = 0.3

OnPause = Callable[[str, float], None]


class LimitServerGoneError(Exception):
    """The limit server cannot be reached; without it, no worker knows what the others ask of a host."""


class LeaseLostError(Exception):
    """A lease ended while it was held, and the request in it was aborted: ask for another lease."""


@dataclass(frozen=True, slots=True)
class LimitServerAddress:
    """Where a limit server listens, the token that a client has to send, and after what silence a lease ends."""

    host: str
    port: int
    token: str
    lease_s: float = 30.0
    ca_pem: str = field(default="", repr=False)
    """The certificate authority of the run, which the server's certificate must be of; empty: without TLS."""


class Lines:
    """Sends lines: all lines of one pass of the event loop go out together, in one packet."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._unsent: list[str] = []

    def put(self, line: str) -> None:
        """Send a line in the next pass of the event loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent.append(line)

    def _send(self) -> None:
        # If the connection is closed, the server has already freed the client's slots.
        if not self._writer.is_closing():
            self._writer.write("\n".join([*self._unsent, ""]).encode())
        self._unsent.clear()


@asynccontextmanager
async def open_limits(
    settings: params.Download, address: LimitServerAddress | None, on_pause: OnPause | None = None
) -> AsyncIterator[RateLimiter]:
    """Open the rate limiter of a run at its limit server, or without an address one for this event loop alone.

    `on_pause` is called with a host and seconds when another client pauses a host for which this client waits.
    Raises `LimitServerGoneError` where no server listens; waiting for a slot raises it when the server ends. The block
    of a slot is aborted with `LeaseLostError` where the server may have granted the slot to another client.
    """
    if address is None:
        yield HostLimits(settings)
        return
    client = _LimitClient(address, on_pause)
    reader = await client.connect()
    serving = asyncio.ensure_future(client.serve(reader))
    try:
        yield client
    finally:
        serving.cancel()
        client.close()
        await asyncio.gather(serving, return_exceptions=True)


def _gone(address: LimitServerAddress) -> LimitServerGoneError:
    where = f"{address.host}:{address.port}"
    return LimitServerGoneError(
        f"{where}: the limit server is gone. Remedy: run again; unfinished shards are fetched anew"
    )


def _not_of_this_run(address: LimitServerAddress, error: ssl.SSLError) -> LimitServerGoneError:
    reason = getattr(error, "verify_message", "") or error.reason
    return LimitServerGoneError(
        f"{address.host}:{address.port}: what answers there is not the limit server of this run ({reason}). Remedy: "
        "check that laion-dask.cluster.host is the driver's address, and that nothing on the way opens TLS; run again"
    )


@dataclass(eq=False, slots=True)
class _Lease:
    """A slot that a task waits for, or holds until the lease ends."""

    host: str
    delay_s: float
    granted: asyncio.Future[None]
    held: asyncio.Timeout | None = None
    lost: bool = False

    def lose(self) -> None:
        """End the lease, and abort the block that holds it."""
        self.lost = True
        if self.held is not None:
            self.held.reschedule(asyncio.get_running_loop().time())


class _LimitClient:
    """The rate limiter that gets its slots from a limit server."""

    def __init__(self, address: LimitServerAddress, on_pause: OnPause | None) -> None:
        self._address = address
        self._on_pause = on_pause
        self._numbers = itertools.count()
        self._leases: dict[int, _Lease] = {}
        self._gone = False
        self._writer: asyncio.StreamWriter | None = None
        self._lines: Lines | None = None
        self._sent_beats: dict[int, float] = {}
        self._end: asyncio.TimerHandle | None = None

    async def connect(self) -> asyncio.StreamReader:
        """Connect and send the token; `LimitServerGoneError` where no server listens, or it refuses the token.

        A network that is down is tried again for as long as two leases last.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + 2 * self._address.lease_s
        connects = itertools.count(1)
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(self._address.lease_s):
                    reader, answer = await self._send_token()
            except ConnectionRefusedError as error:
                raise _gone(self._address) from error
            except ssl.SSLError as error:
                raise _not_of_this_run(self._address, error) from error
            except OSError as error:
                reset = isinstance(error, ConnectionError)
                if loop.time() > until or (reset and next(connects) >= _MAX_CONNECTS):
                    raise _gone(self._address) from error
            else:
                if answer == ACCEPTED:
                    # The server counts from the arrival of the token, which is later than `began`.
                    self._extend_leases(began)
                    return reader
                if answer == REFUSED or next(connects) >= _MAX_CONNECTS:
                    raise _gone(self._address)
            finally:
                if self._lines is None:
                    self.close()
            await asyncio.sleep(_CONNECT_AGAIN_S)

    async def _send_token(self) -> tuple[asyncio.StreamReader, str]:
        address = self._address
        tls = ssl.create_default_context(cadata=address.ca_pem) if address.ca_pem else None
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=LINE_BYTES, ssl=tls)
        self._writer = writer
        writer.write(f"{address.token}\n".encode())
        answer = (await reader.readline()).strip().decode()
        if answer == ACCEPTED:
            self._lines = Lines(writer)
        return reader, answer

    def close(self) -> None:
        """Close the connection."""
        if self._end is not None:
            self._end.cancel()
        if self._writer is not None:
            self._writer.close()
            if self._address.ca_pem:
                # The orderly end of TLS would wait for the server, which may be down and needs none.
                self._writer.transport.abort()
        self._lines = None

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Hand grants to the tasks that wait for them; connect again where the connection is lost."""
        try:
            while True:
                await self._while_connected(reader)
                self._lose_all()
                reader = await self.connect()
                for number, lease in self._leases.items():
                    if not lease.lost:
                        self._take(number, lease)
        finally:
            # However this ends, no task may wait for ever.
            self._gone = True
            for lease in self._leases.values():
                if not lease.granted.done():
                    lease.granted.set_exception(_gone(self._address))

    async def _while_connected(self, reader: asyncio.StreamReader) -> None:
        beating = asyncio.ensure_future(self._beat())
        try:
            with suppress(ConnectionError, ValueError, ssl.SSLError):
                while line := await reader.readline():
                    self._handle(line.decode().split())
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        for number in itertools.count():
            self._sent_beats[number] = asyncio.get_running_loop().time()
            self._put(f"beat {number}")
            await asyncio.sleep(self._address.lease_s / HEARTBEATS)

    def _handle(self, words: list[str]) -> None:
        match words:
            case ["grant", number]:
                lease = self._leases.get(int(number))
                if lease is not None and not lease.granted.done():
                    lease.granted.set_result(None)
            case ["beat", number]:
                # The server got this heartbeat after it was sent, so counting from `sent` is on the safe side.
                sent = self._sent_beats.pop(int(number), None)
                if sent is not None:
                    self._extend_leases(sent)
            case ["pause", host, seconds] if self._on_pause is not None:
                self._on_pause(host, float(seconds))

    def _extend_leases(self, heard: float) -> None:
        """Let the leases last until `lease_s` after `heard`, the time of a heartbeat that the server has answered."""
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_at(heard + self._address.lease_s, self._lose_all)

    def _lose_all(self) -> None:
        """Give up all leases and the connection: the server may have granted the slots to others."""
        self.close()
        self._sent_beats.clear()
        if self._writer is not None:
            self._writer.transport.abort()
        for lease in self._leases.values():
            if lease.granted.done():
                lease.lose()

    def _put(self, line: str) -> None:
        # Without a connection no slot is held, and those that tasks wait for are asked for again after connecting.
        if self._lines is not None:
            self._lines.put(line)

    def _take(self, number: int, lease: _Lease) -> None:
        self._put(f"take {number} {lease.host} {lease.delay_s}")

    @asynccontextmanager
    async def slot(self, host: str, delay_s: float = 0.0) -> AsyncIterator[None]:
        """Wait for a slot at a host, and hold it in the block; `delay_s` is the Crawl-delay of the host."""
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
        """Let the server grant no slot at a host for some seconds; slots that are held stay valid."""
        self._put(f"pause {host} {seconds}")
