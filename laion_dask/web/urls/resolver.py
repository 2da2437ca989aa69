"""A page in, the addresses of its image links out: absolute, each with its host, or the reason against it.

`resolve` is the rule by the book (`url_rules`). `Resolver` gives the same for the links of one page, several times as
fast: what is in its final form already, or becomes so by writing a part of the base before it, is recognised by one
regular expression; all else is left to the book.
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

# Hosts outside these characters are left to ada; each of these is asked of it once.
_HOST: Final = "([a-z0-9._-]++)"
# What WHATWG leaves as it is in path, query and fragment of a http(s) address. A dot after a slash, also one written
# as %2e, may be a dot segment.
_SIGNS: Final = r"A-Za-z0-9_~!$&()*+,;=:@/\-"
_SAFE: Final = f".{_SIGNS}"
_PATH: Final = rf"[{_SIGNS}']*+(?:(?:(?<!/)\.|%(?!2[eE]))[{_SIGNS}']*+)*+"
_REST: Final = rf"(?:\?[{_SAFE}%?\[\]]*+)?(?:#[{_SAFE}%?']*+)?\Z"
# Scheme and host, scheme, path up to its last slash; what follows the path does not matter to what is joined.
_BASE: Final = re.compile(rf"((https?:)//{_HOST})(/(?:[{_SAFE}'%]*/)?)[A-Za-z0-9_.~!$&()*+,;=:@'%-]*(?=[?#]|\Z)")
# urllib takes what follows a semicolon apart, and loses an empty query or fragment. Blanks stay but for the first.
_LEFT_BY_URLLIB: Final = re.compile(rf"(?! )[A-Za-z0-9_.~!$&()*+,=@/'% -]++(?:\?[{_SAFE}%?]++)?(?:#[{_SAFE}%?]++)?\Z")

_HOSTS_REMEMBERED: Final = 65_536
_MAX_STEPS: Final = 16

_as_tuple = tuple.__new__


class _Shortcut(NamedTuple):
    """What one set of rules needs to recognise an address that stays as it is."""

    match: Callable[[str], re.Match[str] | None]
    """Group 1 is the host; there is a group 2 where the path has a refused extension."""
    is_hard: Callable[[str], bool]
    """The host is refused, or written in another way: ask the book."""
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
    is_hard = lru_cache(maxsize=_HOSTS_REMEMBERED)(partial(_is_hard, rules=hosts))
    return _Shortcut(re.compile(text).match, is_hard, rules.max_url_chars or sys.maxsize)


def _is_hard(host: str, rules: UrlRules) -> bool:
    url = f"https://{host}/"
    return resolve(url, "", rules) != Address(url, host)


class Resolver:
    """Resolves the addresses of one page; equal to `resolve` with the page's `base_of`, for whatever comes in."""

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
        # Most pages of a crawl have absolute image addresses only: looked up when the first relative one comes.
        self._base: str | None = None
        self._prefixes: tuple[str, str, str] | None = None

    def resolve(self, url: str) -> Address | str:
        """Return the address in its form, or the first reason against it, a key of `verdict.REASONS["extract"]`."""
        whole = url
        found = self._match(url)
        if found is None:
            whole = self._joined(url)
            found = self._match(whole)
            if found is None:
                return "url_scheme" if url.startswith("data:image/") else self._by_the_book(url)
        host = found[1]
        # as_written: letters outside ASCII are left to the book, which knows those that are none.
        if self._is_hard(host) or len(whole) > self._max_chars or not whole.isascii():
            return self._by_the_book(url)
        if found.lastindex == 2:
            return "url_pattern"
        if self._refused:
            for part in self._refused:
                if part in whole:
                    return "url_pattern"
        # A third faster than Address(whole, host), which is a Python function.
        return _as_tuple(Address, (whole, host))

    def _by_the_book(self, url: str) -> Address | str:
        return resolve(url, self._find_base(), self._rules)

    def _find_base(self) -> str:
        if self._base is None:
            drop = self._rules.relative_urls == "drop"
            self._base = "" if drop else base_of(self._page_url, self._head_base, self._rules.url_form)
        return self._base

    def _joined(self, url: str) -> str:
        """Return a part of the base and the address in one, where that is what joining gives, else what cannot match.

        It has to be in normal form for that, which the caller looks at next.
        """
        if " " in url and not self._by_urllib:
            # The same everywhere in an address but in its host, where %20 is no name.
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
        """Find what is written before //host/x, before /x and before x; all empty where the base is unusual."""
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
    """Take ./ and ../ off the beginning of an address and the folder; nothing is above the first `top` characters."""
    # What still begins so then is left to the book: a page may write a hundred thousand of them.
    for _ in range(_MAX_STEPS):
        if not url.startswith(("./", "../")):
            break
        step, _, url = url.partition("/")
        if step == ".." and len(folder) > top:
            folder = folder[: folder.rindex("/", 0, -1) + 1]
    return folder, url
