"""Check host names: whether they are well formed and public, and what their registrable domain is."""

from __future__ import annotations

import ipaddress
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from laion_dask.web.urls.ip_addresses import is_public_address

if TYPE_CHECKING:
    from tldextract import TLDExtract

# RFC 1035, 2.3.4: octets of a name and of a label. Real names have far fewer than 60 labels.
_MAX_HOST_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63
_MAX_LABELS: Final = 60

# A crawl has the same hosts again and again; about 10 MB.
_CACHED_HOSTS: Final = 65_536

# Names for one machine or one site: RFC 6761, 6762, 8375; ICANN reserved .internal in 2024.
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")


@lru_cache(maxsize=_CACHED_HOSTS)
def is_well_formed(host: str) -> bool:
    """Tell whether a host in normal form has the lengths that resolvers accept (RFC 1035, 2.3.4)."""
    labels = host.removesuffix(".").split(".")
    return (
        bool(host)
        and len(host) <= _MAX_HOST_CHARS
        and len(labels) <= _MAX_LABELS
        and all(0 < len(label) <= _MAX_LABEL_CHARS for label in labels)
    )


def is_dns_name(host: str) -> bool:
    """Tell whether Django's URLValidator, which LAION-5B's code used, accepts a host (in any case, without port).

    By its documentation it accepts localhost, an IPv4 address, an IPv6 address in brackets, and a domain name, also one
    outside ASCII; loopback and reserved addresses too. A domain name has two labels or more, each of letters, digits
    and inner hyphens; the last one is no number and has two characters or more. One difference: letters here are
    Unicode's letters and digits, not a range of code points, so a name in emoji is refused.
    """
    if host.lower() == "localhost":
        return True
    if host.startswith("[") and host.endswith("]"):
        return _is_address(host[1:-1], ipaddress.IPv6Address)
    labels = host.removesuffix(".").split(".")
    last = labels[-1]
    if len(labels) == 1 or not is_well_formed(host) or not all(map(_is_label, labels)):
        return _is_address(host, ipaddress.IPv4Address)
    named = last.lower().startswith("xn--") or last.replace("-", "").isalpha()
    return (named and len(last) > 1) or _is_address(host, ipaddress.IPv4Address)


@lru_cache(maxsize=_CACHED_HOSTS)
def is_public_host(host: str) -> bool:
    """Tell whether a host in normal form may be on the public internet, by its name alone."""
    name = host.removesuffix(".")
    if name.startswith("[") or name.replace(".", "").isdigit():
        return is_public_address(name.strip("[]"))
    return "." in name and not name.endswith(_PRIVATE_SUFFIXES)


def registrable_domain(host: str) -> str:
    """Return the registrable domain of a host by the Public Suffix List, private part included; empty without one.

    It uses tldextract's snapshot of the list, offline. Names under no listed suffix follow the list's default rule `*`.
    """
    name = host.strip().lower().removesuffix(".")
    if not name or name.startswith((".", "[")) or name.replace(".", "").isdigit():
        return ""
    found = suffixes()(name)
    if found.suffix:
        return f"{found.domain}.{found.suffix}" if found.domain else ""
    return ".".join(name.split(".")[-2:]) if "." in name else ""


@cache
def suffixes(*, private: bool = True) -> TLDExtract:
    """Return the Public Suffix List of the package tldextract, with its private part (github.io) or without."""
    import tldextract  # noqa: PLC0415 - reads its list of suffixes

    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=private)


def _is_label(label: str) -> bool:
    return label.replace("-", "").isalnum() and not label.startswith("-") and not label.endswith("-")


def _is_address(text: str, kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
