"""Resolve one image address by the rules of `extract`: an absolute address with its host, or a reason against it.

This is the reference, one function for each `url_form`; `resolver.Resolver` applies the same rules to a page, faster.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urljoin

import ada_url

from laion_dask import params
from laion_dask.web.urls.hostnames import is_dns_name, is_public_host, is_well_formed

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TABS: Final = re.compile("[\t\n\r]+")
# Schemes after which a browser reads an address without two slashes as a relative one.
_SPECIAL: Final = ("http", "https", "ftp")
_SCHEME: Final = re.compile(r"[\x00-\x20]*([A-Za-z][A-Za-z0-9+.-]*):([/\\]{2})?")
# A blank address or a mere fragment means the page itself, not an image.
_NOTHING: Final = re.compile(r"[\x00-\x20\s]*(?:#.*)?\Z", re.DOTALL)
# Only for the output of ada: scheme, credentials, host, port, path.
_NORMAL_FORM: Final = re.compile(
    r"([a-z][a-z0-9+.-]*):(?://(?:[^/?#@]*@)?(\[[^\]]*\]|[^:/?#]*)(?::\d+)?)?([^?#]*)", re.DOTALL
)
# For any address: scheme, authority, path.
_WRITTEN: Final = re.compile(r"([^:/?#]*)://([^/?#\\]*)([^?#]*)", re.DOTALL)
# What Django's URLValidator accepts by its documentation: no blanks; credentials; a port of up to five digits.
_VALID: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^\s:@/]+(?::[^\s:@/]*)?@)?(\[[^\]\s]*\]|[^\s:@/?#\[\]]*)(?::[0-9]{1,5})?"
    r"((?:/[^\s?#]*)?)(?:[?#]\S*)?\Z"
)


class Address(NamedTuple):
    """An image address, and its host (lower case, punycode; an IPv6 address in brackets)."""

    url: str
    host: str


@dataclass(frozen=True, slots=True)
class UrlRules:
    """The rules for addresses; params.yaml explains each (section `extract`)."""

    url_form: str = "whatwg"
    relative_urls: str = "resolve"
    schemes: tuple[str, ...] = ("http", "https")
    refused_extensions: tuple[str, ...] = ()
    refused_substrings: tuple[str, ...] = ()
    max_url_chars: int | None = None
    max_host_chars: int | None = None
    private_hosts: str = "keep"
    malformed_hosts: str = "keep"


def rules_of(settings: params.Extract) -> UrlRules:
    """Return the rules that the parameters define."""
    return UrlRules(**{name: getattr(settings, name) for name in UrlRules.__slots__})


def base_of(page_url: str, head_base: str, url_form: str = "whatwg") -> str:
    """Return the base for a page's relative addresses; empty without a usable one.

    whatwg: as a browser does. The base element may itself be relative; one that is invalid, or is no http(s) address,
    counts as absent (HTML, "frozen base URL"). Other forms: urllib's join, as in cc2dataset; an invalid base element
    counts as absent there too.
    """
    if url_form != "whatwg":
        try:
            return urljoin(page_url, head_base)
        except ValueError:
            return page_url
    page = join(page_url, "")
    if not head_base.strip():
        return page
    base = join(head_base, page)
    return base if base.startswith(("http://", "https://")) else page


def join(url: str, base: str) -> str:
    """Resolve an address against an absolute base, or normalize it where `base` is empty; empty where it is no URL.

    The WHATWG URL standard as ada implements it; lone surrogates become U+FFFD first, as the standard's input.
    """
    url = _SURROGATE.sub("\ufffd", url)
    try:
        return str(ada_url.join_url(base, url) if base else ada_url.normalize_url(url))
    except ValueError:
        return ""


def host_of(url: str) -> str:
    """Return the host of an absolute address in WHATWG's form, or as written where it is no URL; empty without one."""
    found = _NORMAL_FORM.match(join(url, ""))
    if found and found[2]:
        return found[2]
    written = _WRITTEN.match(url)
    place = written[2].rpartition("@")[2] if written else ""
    host, bracket, _ = place.partition("]") if place.startswith("[") else (place.partition(":")[0], "", "")
    return (host + bracket).strip().lower()


def resolve(url: str, base: str, rules: UrlRules) -> Address | str:
    """Resolve an address and apply all rules: return it in its `url_form`, or the first reason against it.

    The order: bad_url (blank, or a mere fragment; as_written resolves both to the page, as cc2dataset does),
    relative_url, bad_url (it cannot be resolved), url_scheme, url_too_long (address, then host), bad_url (malformed
    host), url_pattern (extension, then substring), private_host. Only escaped checks the scheme before it calls an
    address bad, and cuts a long address instead of refusing it. `base` is the result of `base_of`.

    Fragments stay, as in cc2dataset, so that the uids of ordinary rows are equal. Extensions are compared with the end
    of the path in any case; substrings are case-sensitive and searched in the result. In all forms, lone surrogates
    become U+FFFD, since no table can store them.
    """
    result = _FORMS[rules.url_form](url, base, rules)
    if isinstance(result, str):
        return result
    address, path = result
    return _refusal_of(address, path, rules) or address


def _whatwg(url: str, base: str, rules: UrlRules) -> tuple[Address, str] | str:
    if _NOTHING.match(url):
        return "bad_url"
    if rules.relative_urls == "drop" and not _scheme_of(url):
        return "relative_url"
    found = _NORMAL_FORM.match(join(url, base))
    if found is None:
        return "bad_url"
    if found[1] not in rules.schemes:
        return "url_scheme"
    return (Address(found.string, found[2].lower()), found[3]) if found[2] else "bad_url"


def _as_written(url: str, base: str, rules: UrlRules) -> tuple[Address, str] | str:
    if rules.relative_urls == "drop" and not _scheme_of(url):
        return "relative_url"
    url = _SURROGATE.sub("\ufffd", url)
    if not url.startswith(("http://", "https://")):
        url = _joined_by_urllib(url, base)
    if not url.startswith(tuple(f"{scheme}://" for scheme in rules.schemes)):
        return "url_scheme"
    found = _WRITTEN.match(url)
    return Address(url, host_of(url)), found[3] if found else ""


def _escaped(url: str, base: str, rules: UrlRules) -> tuple[Address, str] | str:
    if _NOTHING.match(url):
        return "bad_url"
    url = _SURROGATE.sub("\ufffd", url[: rules.max_url_chars]).replace("\n", "").replace("\\", "\\\\")
    if not _scheme_of(url):
        if rules.relative_urls == "drop":
            return "relative_url"
        url = _joined_by_urllib(url, base)
    if _scheme_of(url) not in {"", *rules.schemes}:
        return "url_scheme"
    found = _VALID.match(url)
    if found is None or not is_dns_name(found[2]):
        return "bad_url"
    return Address(url, found[2].lower()), found[3]


_FORMS: Final[dict[str, Callable[[str, str, UrlRules], tuple[Address, str] | str]]] = {
    "whatwg": _whatwg,
    "as_written": _as_written,
    "escaped": _escaped,
}


def _scheme_of(url: str) -> str:
    """Return the scheme of an absolute address in lower case; empty for a relative one."""
    found = _SCHEME.match(_TABS.sub("", url))
    scheme = found[1].lower() if found else ""
    return "" if scheme in _SPECIAL and found and not found[2] else scheme


def _joined_by_urllib(url: str, base: str) -> str:
    try:
        return _SURROGATE.sub("\ufffd", urljoin(base, url))
    except ValueError:
        return url


def _refusal_of(address: Address, path: str, rules: UrlRules) -> str:
    """Return the first reason against an absolute address with an allowed scheme; empty where there is none."""
    url, host = address
    too_long = rules.url_form != "escaped" and len(url) > (rules.max_url_chars or sys.maxsize)
    if too_long or len(host) > (rules.max_host_chars or sys.maxsize):
        return "url_too_long"
    if rules.malformed_hosts == "drop" and not (is_well_formed(host) and (rules.url_form == "whatwg" or join(url, ""))):
        return "bad_url"
    if path.rpartition("/")[2].lower().endswith(endings_of(rules.refused_extensions)):
        return "url_pattern"
    if any(part in url for part in rules.refused_substrings):
        return "url_pattern"
    return "private_host" if rules.private_hosts == "drop" and not is_public_host(host) else ""


@lru_cache(maxsize=64)
def endings_of(extensions: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endings of paths that are refused, in lower case."""
    return tuple(f".{extension.lower().lstrip('.')}" for extension in extensions)
