"""An image address as written and its page in, one absolute normal form with its host out, or the reason against it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import ada_url

if TYPE_CHECKING:
    from tldextract import TLDExtract

# RFC 1035, 2.3.4: octets of a name and of a label. No real name has anywhere near 60 labels.
_MAX_HOST_CHARS: Final = 253
_MAX_LABEL_CHARS: Final = 63
_MAX_LABELS: Final = 60

# Names that never leave a machine or a site: RFC 6761, 6762, 8375; .internal is reserved by ICANN since 2024.
_PRIVATE_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# Only for what ada has written: scheme, credentials, host, port, path.
_NORMAL_FORM: Final = re.compile(r"(https?)://(?:[^/?#@]*@)?(\[[^\]]*\]|[^:/?#]*)(?::\d+)?([^?#]*)")


class Refusal(NamedTuple):
    """Why an address gives no pair: bad_url or refused_url of the closed list."""

    reason: str


class Address(NamedTuple):
    """An image address in normal form, and its host (lower case, punycode; an IPv6 address in brackets)."""

    url: str
    host: str


def base_of(page_url: str, head_base: str) -> str:
    """Return what relative addresses of a page are resolved against, as a browser does; empty where nothing serves.

    The base element may itself be relative; one that cannot be read, or is no http(s) address, counts as absent
    (HTML, "frozen base URL").
    """
    page = join(page_url, "")
    if not head_base.strip():
        return page
    base = join(head_base, page)
    return base if base.startswith(("http://", "https://")) else page


def resolve(url: str, base: str, *, max_chars: int, refused_extensions: Collection[str]) -> Address | Refusal:
    """Resolve and normalise an address by the WHATWG URL standard, or tell why it is refused.

    Fragments stay, as cc2dataset keeps them: uids of ordinary rows are the same. An empty address and a bare fragment
    are the page itself, not an image (bad_url).
    """
    if url.strip().startswith("#") or not url.strip():
        return Refusal("bad_url")
    href = join(url, base)
    if not href:
        # What a browser cannot resolve may still say what it is.
        return Refusal("bad_url")
    match = _NORMAL_FORM.match(href)
    if match is None:
        return Refusal("refused_url")
    host, path = match[2], match[3]
    if not _is_host(host):
        return Refusal("bad_url")
    endings = tuple(f".{extension.lower().lstrip('.')}" for extension in refused_extensions)
    if len(href) > max_chars or path.lower().endswith(endings) or not is_public_host(host):
        return Refusal("refused_url")
    return Address(href, host)


def is_public_host(host: str) -> bool:
    """Tell whether a host in normal form could be on the public internet, by its name alone."""
    name = host.removesuffix(".")
    if name.startswith("[") or name.replace(".", "").isdigit():
        return is_public_address(name.strip("[]"))
    return "." in name and not name.endswith(_PRIVATE_SUFFIXES)


def is_public_address(text: str) -> bool:
    """Tell whether an IP address is public: global unicast, also what tunnels and mappings hold inside."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public_address(str(inner))
    # The registries call some multicast ranges global; no web server is reached there.
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def registrable_domain(host: str) -> str:
    """Return the domain that somebody registered, by the Public Suffix List with its private part; empty if none.

    Offline: the snapshot inside tldextract. A name under no listed suffix falls under the list's default rule `*`.
    """
    name = host.strip().lower().removesuffix(".")
    if not name or name.startswith((".", "[")) or name.replace(".", "").isdigit():
        return ""
    found = _suffixes()(name)
    if found.suffix:
        return f"{found.domain}.{found.suffix}" if found.domain else ""
    return ".".join(name.split(".")[-2:]) if "." in name else ""


@cache
def _suffixes() -> TLDExtract:
    import tldextract  # noqa: PLC0415 - reads its list of suffixes

    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=True)


def join(url: str, base: str) -> str:
    """Resolve against an absolute base, or without one where it is empty; empty where the result is no URL.

    The WHATWG URL standard as ada implements it; lone surrogates become U+FFFD first, as the standard's input.
    """
    url = _SURROGATE.sub("\ufffd", url)
    try:
        return str(ada_url.join_url(base, url) if base else ada_url.normalize_url(url))
    except ValueError:
        return ""


def _is_host(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    return (
        bool(host)
        and len(host) <= _MAX_HOST_CHARS
        and len(labels) <= _MAX_LABELS
        and all(0 < len(label) <= _MAX_LABEL_CHARS for label in labels)
    )
