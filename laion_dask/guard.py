"""Addresses in, connections to public machines out: the guard that stands between a stranger's URL and a socket.

Three checks, each on its own: the URL (scheme, literal address), the addresses that a name resolves to, and the address
of the socket when it is made. A name is resolved once and the checked address is the one that is connected to, so
that a name which changes its mind in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ada_url
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from laion_dask.replay import ReplayAddress
from laion_dask.urls import is_public_address

SocketFactory = Callable[[tuple[Any, ...]], socket.socket]


class PrivateAddressError(OSError):
    """A name or a literal stands for an address that is not public."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked for: normalised by WHATWG rules, without fragment, http or https."""

    href: str
    origin: str
    host: str


def parse(url: str, base: str | None = None) -> Target | None:
    """Normalise a URL, resolved against `base`; None where it is not a valid http or https URL with a host.

    WHATWG parsing turns every spelling of an IPv4 address (decimal, octal, hexadecimal, short) into four numbers, so
    that `is_private` sees what a socket would connect to.
    """
    try:
        parsed = ada_url.URL(url, base) if base is not None else ada_url.URL(url)
    except ValueError:
        return None
    if parsed.protocol not in {"http:", "https:"} or not parsed.hostname:
        return None
    # Neither a fragment nor a user name from a stranger's page is sent.
    parsed.hash = ""
    parsed.username = ""
    parsed.password = ""
    return Target(parsed.href, f"{parsed.protocol}//{parsed.host}", parsed.hostname)


def is_private(target: Target) -> bool:
    """Whether the host of a URL spells out an address that is not public; names are resolved and checked later."""
    address = target.host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return not is_public_address(address)


class PublicResolver(AbstractResolver):
    """Resolves names, and hands out only public addresses; `PrivateAddressError` where a name has no other."""

    def __init__(self) -> None:
        self._names = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the public addresses of a name."""
        found = await self._names.resolve(host, port, family)
        public = [result for result in found if is_public_address(result["host"])]
        if not public:
            raise PrivateAddressError(f"{host} has no public address")
        return public

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
            raise OSError("in replay nothing but the replay server is asked")
        return socket.socket(family=family, type=kind, proto=protocol)

    return make
