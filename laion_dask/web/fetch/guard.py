"""Let no request reach a private address: check URLs, resolved names and sockets (protection against SSRF).

Three independent checks: of the URL (scheme, port, literal address), of the addresses that a name resolves to, and of
the address for which a socket is made. A name is resolved once, and the connection goes to the address that was
checked, so that a name that resolves to another address later (DNS rebinding) has no effect.
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

_LOOKUPS: Final = 64  # at once; each may take many seconds, since a worker looks up hosts that no cache has
_CACHED_NAMES: Final = 20_000
_NAMES_TTL_S: Final = 300.0
_MAX_ADDRESSES: Final = 16
_NO_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class PrivateAddressError(OSError):
    """A host name or literal has no public address."""


class NotReplayedError(OSError):
    """A socket was wanted for another address than the replay server's, which is the only one allowed in replay."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL to request: http or https, normalised by WHATWG rules, without fragment, user and password."""

    href: str
    origin: str
    host: str
    port: int


def parse(url: str, base: str | None = None) -> Target | None:
    """Normalise a URL, resolved against `base`; None where it is not a valid http or https URL with a host.

    WHATWG parsing turns every spelling of an IPv4 address (decimal, octal, hexadecimal, short) into four numbers, so
    that `is_private` checks the address to which a socket would connect.
    """
    try:
        parsed = ada_url.URL(url, base) if base is not None else ada_url.URL(url)
    except ValueError:
        return None
    protocol, host = parsed.protocol, parsed.hostname
    if protocol not in {"http:", "https:"} or not host:
        return None
    href = parsed.href
    # Fragments and credentials from pages are not sent. Few URLs have them, and each assignment is a slow call.
    if "#" in href or "@" in href:
        parsed.hash = parsed.username = parsed.password = ""
        href = parsed.href
    port = int(parsed.port or (443 if protocol == "https:" else 80))
    return Target(href, f"{protocol}//{parsed.host}", host, port)


def is_private(target: Target) -> bool:
    """Whether the host of a URL is a literal IP address that is not public; names are checked when resolved."""
    address = target.host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return not is_public_address(address)


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The result of looking up a name: its addresses by family, or the error."""

    addresses: tuple[tuple[socket.AddressFamily, str], ...] = ()
    error: OSError | None = None


def look_up(host: str, family: socket.AddressFamily) -> LookupResult:
    """Look a name up with the system's resolver, which blocks."""
    try:
        answers = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except OSError as error:
        # Without the traceback, which would keep its frames alive for as long as the name is cached.
        return LookupResult(error=error.with_traceback(None))
    except UnicodeError:
        # Python's IDNA codec refuses labels that are empty or too long.
        return LookupResult(error=socket.gaierror(socket.EAI_NONAME, "not a name"))
    found = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in answers)
    return LookupResult(tuple(found)[:_MAX_ADDRESSES])


@cache
def _names(_: Lookup) -> SharedCache[tuple[str, int], LookupResult]:
    """Return the cache of a lookup function, for all shards of the process."""
    return SharedCache(_CACHED_NAMES, _NAMES_TTL_S)


@cache
def _threads() -> ThreadPoolExecutor:
    # asyncio's default pool has few threads: a few names without an answer would block all other lookups.
    return ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="dns")


class PublicResolver(AbstractResolver):
    """Resolves names to their public addresses only; `PrivateAddressError` where a name has no public one.

    Tasks that want the same name share one lookup. Results are cached for 300 s, also that a name does not exist;
    failures of the resolver itself are not cached.
    """

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._cached = _names(lookup)
        self._lookups: dict[tuple[str, int], asyncio.Future[LookupResult]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the public addresses of a name."""
        found = await self._find(host, family)
        if found.error is not None:
            # A new error each time: one that is raised repeatedly would collect tracebacks.
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
        cached = self._cached.get(key)
        if cached is not None:
            return cached
        if key not in self._lookups:
            loop = asyncio.get_running_loop()
            lookup = loop.run_in_executor(_threads(), self._lookup, host, family)
            self._lookups[key] = lookup
            lookup.add_done_callback(lambda _: self._lookups.pop(key, None))
        # A waiting task that times out must not cancel the lookup that others wait for.
        found = await asyncio.shield(self._lookups[key])
        if found.error is None or getattr(found.error, "errno", None) in _NO_NAME:
            self._cached.put(key, found)
        return found

    async def close(self) -> None:
        """Do nothing: the resolver holds no resources."""


class ReplayResolver(AbstractResolver):
    """Resolves every name to the replay server: port 443 to its https port, every other port to its http port."""

    def __init__(self, address: ReplayAddress) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the replay server's loopback address."""
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
        """Do nothing: the resolver holds no resources."""


def socket_factory(replay: ReplayAddress | None) -> SocketFactory:
    """Return a function that makes sockets, only for public addresses, or only for the replay server.

    aiohttp does not pass literal addresses to the resolver; this check covers them even if that of the URL failed.
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
