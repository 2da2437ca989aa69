"""IP addresses: the registries row by row, and what hides another address."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest

from laion_dask.web.urls.ip_addresses import is_public_address

# Every row of IANA's special-purpose registries (of October 2026), deprecated forms, multicast, metadata of clouds.
REFUSED_4 = [
    *("0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32", "192.0.0.170/32"),
    *("192.0.0.171/32", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.88.99.2/32"),
    *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4"),
    *("240.0.0.0/4", "255.255.255.255/32", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"),
    "169.254.169.254/32",
]
REFUSED_6 = [
    *("::1/128", "::/128", "::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23"),
    *("2001::/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48"),
    *("2001:10::/28", "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    *("5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128"),
    *("200::/7", "400::/6", "800::/5", "1000::/4", "4000::/2", "8000::/1"),
]
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
    *("172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255", "2000::1"),
    *("2001:200::1", "2001:4860:4860::8888", "2001:db7::1", "2001:db9::1", "2003::1", "2606:4700::1111"),
    *("2620:4f:7fff::1", "2620:4f:8001::1", "2a00:1450::1", "3fff:1000::1", "3ffe::1"),
]


def ends(network: str) -> list[str]:
    """Return the first, a middle and the last address of a network."""
    whole = ipaddress.ip_network(network)
    return [str(whole[0]), str(whole[whole.num_addresses // 2]), str(whole[-1])]


@pytest.mark.parametrize("network", [*REFUSED_4, *REFUSED_6])
def test_no_address_of_a_special_purpose_is_public(network: str) -> None:
    assert [address for address in ends(network) if is_public_address(address)] == []


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_beside_them_are_public(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("prefix", ["::ffff:", "64:ff9b::"])
def test_an_address_that_spells_another_is_as_public_as_that_one(prefix: str) -> None:
    for network in REFUSED_4:
        assert [inner for inner in ends(network) if is_public_address(prefix + inner)] == []
    assert is_public_address(f"{prefix}8.8.8.8")


def _six_to_four(inner: int) -> int:
    return 0x2002 << 112 | inner << 80 | 1


def _teredo_server(inner: int) -> int:
    return 0x2001_0000 << 96 | inner << 64


def _teredo_client(inner: int) -> int:
    return 0x2001_0000 << 96 | inner ^ 0xFFFF_FFFF


def _isatap(inner: int) -> int:
    return 0x2606_4700_0000_0000 << 64 | 0x0000_5EFE << 32 | inner


def _isatap_universal(inner: int) -> int:
    return 0x2606_4700_0000_0000 << 64 | 0x0200_5EFE << 32 | inner


def _compatible(inner: int) -> int:
    return inner


def _translated(inner: int) -> int:
    return 0xFFFF << 48 | inner


def _local_nat64(inner: int) -> int:
    return 0x0064_FF9B_0001 << 80 | inner


@pytest.mark.parametrize(
    "tunnel",
    [
        *(_six_to_four, _teredo_server, _teredo_client, _isatap, _isatap_universal, _compatible, _translated),
        _local_nat64,
    ],
)
@pytest.mark.parametrize(
    "inner", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "168.63.129.16", "192.168.1.1", "8.8.8.8"]
)
def test_no_tunnel_to_an_address_is_public_whatever_is_inside(tunnel: Callable[[int], int], inner: str) -> None:
    assert not is_public_address(str(ipaddress.IPv6Address(tunnel(int(ipaddress.IPv4Address(inner))))))


@pytest.mark.parametrize(
    "text",
    ["2606:4700::1111%eth0", "fe80::1%1", "", "no address", "8.8.8", "8.8.8.8/32", "[2606:4700::1111]", "08.8.8.8"],
)
def test_what_is_no_address_of_the_internet_is_not_public(text: str) -> None:
    assert not is_public_address(text)
