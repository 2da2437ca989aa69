"""Resolve the image links of a page to absolute addresses with their hosts, or to a reason against them.

`resolve` (in `url_rules`) is the reference. `Resolver` gives equal results for the links of one page, several times as
fast: one regular expression recognizes addresses that are in their final form, or are so after a part of the base; all
others go to the reference.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final, NamedTuple

from laion_dask.web.urls.hostnames import is_public_host, registrable_domain
from laion_dask.web.urls.ip_addresses import is_public_address
from laion_dask.web.urls.url_rules import Address, UrlRules, base_of, endings_of, host_of, join, resolve, rules_of

__all__ = [
    "Address",
    "Resolver",
    "UrlRules",
    "base_of",
    "host_of",
    "is_public_address",
    "is_public_host",
    "join",
    "registrable_domain",
    "resolve",
    "rules_of",
]

# Hosts with other characters go to ada; hosts with these go to ada once, and are cached.
_HOST: Final = "([a-z0-9._-]++)"
# What WHATWG leaves unchanged in path, query and fragment of an http(s) address. A dot after a slash, also one written
# as %2e, may be a dot segment.
_SIGNS: Final = r"A-Za-z0-9_~!$&()*+,;=:@/\-"
_SAFE: Final = f".{_SIGNS}"
# An atomic group: before Python 3.11.5 a possessive quantifier of a group forgets that the group failed (gh-106052).
_PATH: Final = rf"[{_SIGNS}']*+(?>(?:(?:(?<!/)\.|%(?!2[eE]))[{_SIGNS}']*+)*)"
_REST: Final = rf"(?:\?[{_SAFE}%?\[\]]*+)?(?:#[{_SAFE}%?']*+)?\Z"
# Scheme and host, scheme, path up to its last slash; the rest of a base has no effect on joined addresses.
_BASE: Final = re.compile(rf"((https?:)//{_HOST})(/(?:[{_SAFE}'%]*/)?)[A-Za-z0-9_.~!$&()*+,;=:@'%-]*(?=[?#]|\Z)")
# urllib splits at a semicolon, and drops an empty query or fragment. It keeps blanks except at the beginning.
_LEFT_BY_URLLIB: Final = re.compile(rf"(?! )[A-Za-z0-9_.~!$&()*+,=@/'% -]++(?:\?[{_SAFE}%?]++)?(?:#[{_SAFE}%?]++)?\Z")

_CACHED_HOSTS: Final = 65_536
_MAX_STEPS: Final = 16

_as_tuple = tuple.__new__


class _Shortcut(NamedTuple):
    """What one set of rules needs to recognize an address that stays unchanged."""

    match: Callable[[str], re.Match[str] | None]
    """Group 1 is the host; group 2 matches where the path has a refused extension."""
    is_hard: Callable[[str], bool]
    """The host is refused, or has another normal form: use the reference."""
    max_chars: int


@lru_cache(maxsize=64)
def _shortcut(rules: UrlRules) -> _Shortcut:
    schemes = "|".join(scheme for scheme in ("https", "http") if scheme in rules.schemes) or "(?!)"
    # No address in ASCII has another ending; a lookbehind cannot leave the last part of the path without a slash.
    endings = [ending for ending in endings_of(rules.refused_extensions) if ending.isascii() and "/" not in ending]
    refused = "|".join(f"(?<=(?i:{re.escape(ending)}))" for ending in endings)
    mark = f"(?:(?:{refused})())?" if refused else ""
    if rules.url_form == "as_written":
        text = rf"(?:{schemes})://{_HOST}" + (rf"(?:/[^?#]*+{mark})?(?=[?#]|\Z)" if mark else r"(?=[/?#]|\Z)")
    else:
        text = rf"(?:{schemes})://{_HOST}/{_PATH}{mark}{_REST}"
    hosts = replace(rules, schemes=("https",), refused_extensions=(), refused_substrings=(), max_url_chars=None)
    is_hard = lru_cache(maxsize=_CACHED_HOSTS)(partial(_is_hard, rules=hosts))
    return _Shortcut(re.compile(text).match, is_hard, rules.max_url_chars or sys.maxsize)


def _is_hard(host: str, rules: UrlRules) -> bool:
    url = f"https://{host}/"
    return resolve(url, "", rules) != Address(url, host)


class Resolver:
    """Resolves the addresses of one page; equal to `resolve` with the page's `base_of` for every input."""

    __slots__ = (
        "_base",
        "_by_urllib",
        "_head_base",
        "_is_hard",
        "_match",
        "_max_chars",
        "_page_url",
        "_prefixes",
        "_refused",
        "_rules",
    )

    def __init__(self, page_url: str, head_base: str, rules: UrlRules) -> None:
        self._page_url = page_url
        self._head_base = head_base
        self._rules = rules
        self._match, self._is_hard, self._max_chars = _shortcut(rules)
        self._refused = rules.refused_substrings
        self._by_urllib = rules.url_form != "whatwg"
        # Computed at the first relative address, because most pages of a crawl have only absolute ones.
        self._base: str | None = None
        self._prefixes: tuple[str, str, str] | None = None

    def resolve(self, url: str) -> Address | str:
        """Return the address in its form, or the first reason against it, a key of `reasons.REASONS["extract"]`."""
        whole = url
        found = self._match(url)
        if found is None:
            whole = self._joined(url)
            found = self._match(whole)
            if found is None:
                return "url_scheme" if url.startswith("data:image/") else self._by_reference(url)
        host = found[1]
        # In the form as_written, addresses outside ASCII go to the reference, which replaces lone surrogates.
        if self._is_hard(host) or len(whole) > self._max_chars or not whole.isascii():
            return self._by_reference(url)
        if found.lastindex == 2:
            return "url_pattern"
        if self._refused:
            for part in self._refused:
                if part in whole:
                    return "url_pattern"
        # A third faster than Address(whole, host), which is a Python function.
        return _as_tuple(Address, (whole, host))

    def _by_reference(self, url: str) -> Address | str:
        return resolve(url, self._find_base(), self._rules)

    def _find_base(self) -> str:
        if self._base is None:
            drop = self._rules.relative_urls == "drop"
            self._base = "" if drop else base_of(self._page_url, self._head_base, self._rules.url_form)
        return self._base

    def _joined(self, url: str) -> str:
        """Return a part of the base joined with the address, or a string that cannot match where joining needs more.

        The result is correct only in normal form, which the caller checks next.
        """
        if " " in url and not self._by_urllib:
            # Equivalent everywhere in an address except in its host, where %20 is invalid anyway.
            url = url.strip(" ").replace(" ", "%20")
        scheme, root, folder = self._prefixes or self._find_prefixes()
        first = url[:1]
        rest = url
        if first == "/":
            prefix = scheme if url[1:2] == "/" else root
        elif ":" in url or first in "?#":
            return url
        elif first == ".":
            prefix, rest = _climbed(folder, len(root) + 1, url)
        else:
            prefix = folder
        whole = prefix + rest
        if self._by_urllib and (_LEFT_BY_URLLIB.match(rest) is None or url.find("//", 1) > 0 or "/." in whole):
            return ""
        return whole

    def _find_prefixes(self) -> tuple[str, str, str]:
        """Return the prefixes for //host/x, for /x and for x; all empty where the base is unusual."""
        self._prefixes = "", "", ""
        if self._rules.relative_urls == "drop":
            return self._prefixes
        found = None if self._head_base else _BASE.match(self._page_url)
        if found is None or self._is_hard(found[3]):
            found = _BASE.match(self._find_base())
        if found and "//" not in found[4] and "/." not in found[0] and "%2e" not in found[0].lower():
            self._prefixes = found[2], found[1], found[1] + found[4]
        return self._prefixes


def _climbed(folder: str, top: int, url: str) -> tuple[str, str]:
    """Remove leading ./ and ../ from an address, and folders for ../, down to the first `top` characters."""
    # Beyond this many the reference resolves the address, because a page may write a hundred thousand of them.
    for _ in range(_MAX_STEPS):
        if not url.startswith(("./", "../")):
            break
        step, _, url = url.partition("/")
        if step == ".." and len(folder) > top:
            folder = folder[: folder.rindex("/", 0, -1) + 1]
    return folder, url
