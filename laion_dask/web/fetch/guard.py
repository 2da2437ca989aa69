"""Addresses in, connections to public machines out: the guard that stands between a stranger's URL and a socket.

Three checks, each on its own: the URL (scheme, port, literal address), the addresses that a name resolves to, and the
address of the socket when it is made. A name is resolved once and the checked address is the one that is connected to,
so that a name which changes its mind in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import ada_url
from aiohttp.abc import AbstractResolver, ResolveResult

from laion_dask.web.fetch.cache import SharedCache
from laion_dask.web.fetch.replay_address import ReplayAddress
from laion_dask.web.urls.resolver import is_public_address

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]
Lookup = Callable[[str, socket.AddressFamily], "LookupResult"]

_LOOKUPS: Final = 64  # at once; each may take many seconds, and a worker asks for hosts that nobody has heard of
_CACHED_NAMES: Final = 20_000
_NAMES_TTL_S: Final = 300.0
_MAX_ADDRESSES: Final = 16
_NO_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class PrivateAddressError(OSError):
    """A name or a literal stands for an address that is not public."""


class NotReplayedError(OSError):
    """A literal address is not that of the replay server, and in replay nobody else is asked."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked for: normalised by WHATWG rules, without fragment, http or https."""

    href: str
    origin: str
    host: str
    port: int


def parse(url: str, base: str | None = None) -> Target | None:
    """Normalise a URL, resolved against `base`; None where it is not a valid http or https URL with a host.

    WHATWG parsing turns every spelling of an IPv4 address (decimal, octal, hexadecimal, short) into four numbers, so
    that `is_private` sees what a socket would connect to.
    """
    try:
        parsed = ada_url.URL(url, base) if base is not None else ada_url.URL(url)
    except ValueError:
        return None
    protocol, host = parsed.protocol, parsed.hostname
    if protocol not in {"http:", "https:"} or not host:
        return None
    href = parsed.href
    # Neither a fragment nor a user name from a stranger's page is sent; few URLs have one, and each step is a call.
    if "#" in href or "@" in href:
        parsed.hash = parsed.username = parsed.password = ""
        href = parsed.href
    port = int(parsed.port or (443 if protocol == "https:" else 80))
    return Target(href, f"{protocol}//{parsed.host}", host, port)


def is_private(target: Target) -> bool:
    """Whether the host of a URL spells out an address that is not public; names are resolved and checked later."""
    address = target.host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return not is_public_address(address)


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What the system says of a name: its addresses by family, or the error that it has none."""

    addresses: tuple[tuple[socket.AddressFamily, str], ...] = ()
    error: OSError | None = None


def look_up(host: str, family: socket.AddressFamily) -> LookupResult:
    """Ask the system's resolver, which blocks."""
    try:
        answers = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except OSError as error:
        # Without the traceback, which would hold its frames for as long as the name is remembered.
        return LookupResult(error=error.with_traceback(None))
    except UnicodeError:
        # The IDNA codec of Python refuses labels that are empty or too long.
        return LookupResult(error=socket.gaierror(socket.EAI_NONAME, "not a name"))
    found = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in answers)
    return LookupResult(tuple(found)[:_MAX_ADDRESSES])


@cache
def _names(_: Lookup) -> SharedCache[tuple[str, int], LookupResult]:
    """Return what a way of looking names up has found, for all shards of the process."""
    return SharedCache(_CACHED_NAMES, _NAMES_TTL_S)


@cache
def _threads() -> ThreadPoolExecutor:
    # asyncio's own has a handful of threads, and a few names that never answer would hold all the others up.
    return ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="dns")


class PublicResolver(AbstractResolver):
    """Resolves names, and hands out only public addresses; `PrivateAddressError` where a name has no other.

    However many wait for a name, it is looked up once; answers, that it does not exist among them, are kept for
    300 s, failures of the resolver itself are not.
    """

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._known = _names(lookup)
        self._asked: dict[tuple[str, int], asyncio.Future[LookupResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the public addresses of a name."""
        found = await self._find(host, family)
        if found.error is not None:
            # A fresh one each time: an error that is raised again and again collects tracebacks.
            raise type(found.error)(*found.error.args)
        public = [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in found.addresses
            if is_public_address(address)
        ]
        if not public:
            raise PrivateAddressError(f"{host} has no public address")
        return public

    async def _find(self, host: str, family: socket.AddressFamily) -> LookupResult:
        key = (host, int(family))
        known = self._known.get(key)
        if known is not None:
            return known
        if key not in self._asked:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(_threads(), self._lookup, host, family)
            self._asked[key] = asked
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        # One waiter whose time is over must not take the answer from the others.
        found = await asyncio.shield(self._asked[key])
        if found.error is None or getattr(found.error, "errno", None) in _NO_NAME:
            self._known.put(key, found)
        return found

    async def close(self) -> None:
        """Nothing is held."""


class ReplayResolver(AbstractResolver):
    """Resolves every name to the replay server: port 443 to its TLS port, every other port to its plain one."""

    def __init__(self, address: ReplayAddress) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the loopback address of the server."""
        del family
        return [
            ResolveResult(
                hostname=host,
                host=self._address.host,
                port=self._address.https_port if port == 443 else self._address.http_port,
                family=socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""


def socket_factory(replay: ReplayAddress | None) -> SocketFactory:
    """Return the maker of sockets: to public addresses, or to the replay server and nowhere else.

    aiohttp takes literal addresses past the resolver; here they are caught even if the check of the URL failed.
    """

    def make(address_info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if replay is None and not is_public_address(address[0]):
            raise PrivateAddressError("the address is not public")
        if replay is not None and address[:2] not in {
            (replay.host, replay.http_port),
            (replay.host, replay.https_port),
        }:
            raise NotReplayedError("in replay nothing but the replay server is asked")
        return socket.socket(family=family, type=kind, proto=protocol)

    return make
