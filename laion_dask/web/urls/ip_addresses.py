"""Decide whether an IP address can belong to a public web server, by IANA's registries.

Refused are all rows of IANA's registries of special-purpose addresses, also those that are globally reachable, because
these are relays and anycast services, not web servers; addresses of tunnels and translators, which forward connections
to other addresses; and the metadata services of clouds, which hand out credentials.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_SPECIAL_4: Final = {
    # IANA IPv4 Special-Purpose Address Registry.
    "0.0.0.0/8": "this network (RFC 791)",
    "10.0.0.0/8": "private use (RFC 1918)",
    "100.64.0.0/10": "shared address space (RFC 6598); Alibaba's metadata service is at 100.100.100.200",
    "127.0.0.0/8": "loopback (RFC 1122)",
    "169.254.0.0/16": "link local (RFC 3927), with the metadata of most clouds at 169.254.169.254",
    "172.16.0.0/12": "private use (RFC 1918)",
    "192.0.0.0/24": "IETF protocol assignments (RFC 6890), DS-Lite and anycast among them; Oracle's metadata at .192",
    "192.0.2.0/24": "documentation, TEST-NET-1 (RFC 5737)",
    "192.31.196.0/24": "AS112-v4 (RFC 7535)",
    "192.52.193.0/24": "AMT (RFC 7450)",
    "192.88.99.0/24": "deprecated 6to4 relay anycast (RFC 7526)",
    "192.168.0.0/16": "private use (RFC 1918)",
    "192.175.48.0/24": "direct delegation AS112 service (RFC 7534)",
    "198.18.0.0/15": "benchmarking (RFC 2544)",
    "198.51.100.0/24": "documentation, TEST-NET-2 (RFC 5737)",
    "203.0.113.0/24": "documentation, TEST-NET-3 (RFC 5737)",
    "240.0.0.0/4": "reserved (RFC 1112), limited broadcast among it (RFC 8190)",
    # IANA IPv4 Multicast Address Space Registry.
    "224.0.0.0/4": "multicast (RFC 5771)",
    # Public by the registries, but a service for machines in Azure (Azure: "What is 168.63.129.16?").
    "168.63.129.16/32": "Azure's virtual public address",
}
_SPECIAL_6: Final = {
    # IANA IPv6 Special-Purpose Address Registry, within 2000::/3; all other rows lie outside of it.
    "2001::/23": "IETF protocol assignments (RFC 2928): Teredo, benchmarking, AMT, AS112, ORCHID, DETs",
    "2001::/32": "Teredo: forwards to an embedded IPv4 address (RFC 4380)",
    "2001:1::1/128": "Port Control Protocol anycast (RFC 7723)",
    "2001:1::2/128": "TURN anycast (RFC 8155)",
    "2001:1::3/128": "DNS-SD service registration anycast (RFC 9665)",
    "2001:2::/48": "benchmarking (RFC 5180)",
    "2001:3::/32": "AMT (RFC 7450)",
    "2001:4:112::/48": "AS112-v6 (RFC 7535)",
    "2001:10::/28": "deprecated ORCHID (RFC 4843)",
    "2001:20::/28": "ORCHIDv2 (RFC 7343)",
    "2001:30::/28": "drone remote id (RFC 9374)",
    "2001:db8::/32": "documentation (RFC 3849)",
    "2002::/16": "6to4: forwards to an embedded IPv4 address (RFC 3056)",
    "2620:4f:8000::/48": "direct delegation AS112 service (RFC 7534)",
    "3fff::/20": "documentation (RFC 9637)",
}
_NETWORKS_4: Final = tuple(map(ipaddress.IPv4Network, _SPECIAL_4))
_NETWORKS_6: Final = tuple(map(ipaddress.IPv6Network, _SPECIAL_6))

# IANA IPv6 Address Space Registry: the only global unicast addresses. Outside of them lie loopback and unspecified
# (::1, ::), what holds an IPv4 address (::/96, ::ffff:0:0/96, ::ffff:0:0:0/96, 64:ff9b::/96, 64:ff9b:1::/48),
# discard-only and dummy (100::/64, 100:0:0:1::/64), SRv6 (5f00::/16), unique local (fc00::/7, with AWS's metadata at
# fd00:ec2::254), link local (fe80::/10), deprecated site local (fec0::/10), multicast (ff00::/8), and what is reserved.
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")

# These prefixes embed an IPv4 address, as another spelling (RFC 4291, 2.5.5.2) or for a translator of the network
# (RFC 6052): such an address is public if the embedded one is.
_SPELLINGS_OF_4: Final = (ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96"))

# RFC 5214, 6.1: the interface identifier of ISATAP, with or without the universal bit; a tunnel to the IPv4 address.
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})


def is_public_address(text: str) -> bool:
    """Tell whether an IP address is public: global unicast, without a special purpose, and no tunnel.

    An address with a zone (`%eth0`) belongs to a local network; a string that is no address is not public.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NETWORKS_4)
    if address.scope_id is not None:
        return False
    if any(address in network for network in _SPELLINGS_OF_4):
        return is_public_address(str(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)))
    if address not in _GLOBAL_UNICAST or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return False
    return not any(address in network for network in _NETWORKS_6)
