"""Decide which spellings of an address mean the same picture, for removals and for lists of known content.

A removal request means the picture, however its address was copied. Addresses are therefore compared by their keys:
`key` is applied to the value in the removal ledger and to the address of the row. Hashed addresses in a list cannot be
normalized, so all spellings of an address that can be enumerated are looked up. docs/removals.md and docs/lists.md
state the rule.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from itertools import product
from typing import Final
from urllib.parse import unquote

from laion_dask.web.urls.url_rules import host_of, join

DIGEST_BYTES: Final = 16

_WEB: Final = frozenset({"http", "https"})
_WEB_PORTS: Final = frozenset({":80", ":443", ":"})
# RFC 3986, 2.3 and 2.2. Percent-encoded or not, these mean the same in every part of an address.
_UNRESERVED: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
# In a path, an encoded semicolon or slash differs from a plain one; other encoded characters name the same file. In a
# query, & = + and ; separate the fields of forms, so these keep their spelling.
_BARE_IN_PATH: Final = frozenset(_UNRESERVED + "!$&'()*+,=:@")
_BARE_IN_QUERY: Final = frozenset(_UNRESERVED + "!$'()*,:@/?")
_LEFT: Final = frozenset("/;&=+?")
# A percent sign without two hex digits is one that was left unencoded: kept as it is, it would make an escape of what
# is decoded behind it.
_PIECE: Final = re.compile(r"%([0-9A-Fa-f]{2})|[^A-Za-z0-9._~-]")
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_PARTS: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(?:([^/?#]*)@)?(\[[^\]]*\]|[^:/?#]*)(:\d*)?([^?#]*)(\?[^#]*)?(#.*)?\Z", re.DOTALL
)
# Addresses that are in the form of a key after their scheme, as nearly all of a crawl are. The last label of the host
# begins with a letter, since it may otherwise be a number of an IPv4 address; no dot follows a slash, since it may
# begin a dot segment; of escapes only some that the key keeps.
_IN_PATH: Final = r"(?:[A-Za-z0-9_~!$&'()*+,=:@-]|%(?:[89A-F][0-9A-F]|20|25|2F))*"
_PLAIN: Final = re.compile(
    rf"(https?):(//((?:[a-z0-9_-]+\.)+[a-z][a-z0-9-]*)(/{_IN_PATH}(?:(?:(?<!/)\.|/|;){_IN_PATH})*"
    r"(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]+)?))(#.*)?\Z",
    re.DOTALL,
)
# Characters of a plain address that WHATWG, or the key, writes in another way.
_SPELLED_OTHERWISE: Final = re.compile(r"[^!#$&-~]|[%'<>\\^`{|}]")
_BLANKS: Final = "".join(map(chr, range(33)))


def key(url: str) -> str:
    """Return the key of an address: equal keys mean the same picture. A string that is no URL is its own key.

    Not part of the key are: http or https, user and password, the ports 80 and 443, dots at the end of the host, the
    case of the host, the form of an international name or of an IP address, dot segments, the case of hex digits and
    the encoding of characters that mean the same either way, an empty query, and the fragment.
    """
    plain = _PLAIN.match(url)
    if plain and "xn--" not in url:
        return plain[2]
    found = _PARTS.match(join(url, ""))
    if found is None or not found[3]:
        return url
    scheme, _, host, port, path, query, _ = found.groups(default="")
    web = scheme in _WEB
    if web and port in _WEB_PORTS:
        port = ""
    query = "?" + _spelled(query[1:], _BARE_IN_QUERY) if len(query) > 1 else ""
    place = f"//{_without_dots(host.lower())}{port}{_spelled(path, _BARE_IN_PATH)}{query}"
    return place if web else f"{scheme}:{place}"


def digest(url: str) -> bytes:
    """Return a digest of 16 bytes of the key of an address."""
    return hashlib.blake2b(key(url).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


PLAIN_HOST: Final = r"^https?://(?P<host>[a-z0-9._-]+)(?::[0-9]*)?(?:[/?#]|$)"
"""RE2, for Arrow and DuckDB: the host of an address that needs no parsing, with any dots at its end.

Many times as fast as `host`, and equal to it without these dots, unless `NUMBER_HOST` matches the result.
"""
NUMBER_HOST: Final = r"(?:^|\.)[0-9][0-9a-fx]*$"
"""RE2: the host may be an IPv4 address, which has many spellings."""


def host(url: str) -> str:
    """Return the host of an address or a key, in lower case, without dots at its end; equal for equal keys."""
    return _without_dots(host_of(f"http:{url}" if url.startswith("//") else url).lower())


def spellings(url: str) -> list[str]:
    """Return every spelling of an address under which a partner may have hashed it, the written one first.

    With http and https; with and without fragment, user, default port, a dot at the end of the host, and an empty
    query; as written, in WHATWG's form, and in the form of the key; with escapes in upper and lower case; international
    names and paths also in Unicode. A fragment, user or port that the address lacks cannot be guessed.
    """
    plain = _PLAIN.match(url)
    if plain and "xn--" not in url and plain[4] != "/" and not _SPELLED_OTHERWISE.search(url):
        return _of_plain(plain)
    forms = dict.fromkeys([url])
    normal = join(url, "")
    for form in dict.fromkeys([url.strip(_BLANKS), normal, _of_key(url, normal)]):
        forms |= dict.fromkeys(_variants(form))
    return list(forms)


def _of_plain(plain: re.Match[str]) -> list[str]:
    """Return the same as `_variants` for an address in the form of its key, several times as fast."""
    scheme, _, name, rest, fragment = plain.groups()
    ends = [rest] if "?" in rest else [rest, f"{rest}?"]
    if fragment:
        ends = [*(end + fragment for end in ends), *ends]
    one, other = ("https://", "http://") if scheme == "https" else ("http://", "https://")
    return [head + end for head in (one + name, f"{one}{name}.", other + name, f"{other}{name}.") for end in ends]


def _of_key(url: str, normal: str) -> str:
    """Return the key as an address, with the scheme of the written address."""
    made = key(url)
    return normal.partition(":")[0] + ":" + made if made.startswith("//") and normal else made


def _variants(form: str) -> Iterator[str]:
    found = _PARTS.match(form)
    if found is None or not found[3]:
        return
    scheme, user, host, port, path, query, fragment = found.groups(default="")
    schemes = [scheme, *(_WEB - {scheme})] if scheme in _WEB else [scheme]
    users = [f"{user}@", ""] if found[2] is not None else [""]
    ports = [port, ""] if scheme in _WEB and port in _WEB_PORTS else [port]
    rests = [place + end for place, end in product(_paths(path, query), ("",) if query not in {"", "?"} else ("", "?"))]
    ends = [fragment, ""] if fragment else [""]
    for one in product(schemes, users, _hosts(host), dict.fromkeys(ports), rests, ends):
        # Blanks at the end of an address are stripped, but before a fragment they belong to the address.
        if one[-1] or not one[-2].endswith(" "):
            yield f"{one[0]}://{''.join(one[1:])}"


def _hosts(name: str) -> Iterator[str]:
    bare = _without_dots(name)
    names = [bare]
    if "xn--" in bare:
        # ada accepts names that Python's codec refuses.
        with contextlib.suppress(UnicodeError):
            names.append(bare.encode("ascii").decode("idna"))
    for one in names:
        yield one
        if not one.startswith("[") and not one.replace(".", "").isdigit():
            yield f"{one}."
    if name not in {bare, f"{bare}."}:
        yield name


def _paths(path: str, query: str) -> list[str]:
    """Return path and query in all equivalent spellings; the caller handles an empty query."""
    written = path + (query if query != "?" else "")
    forms = [written]
    if "%" in written:
        forms += [_ESCAPE.sub(lambda found: found[0].upper(), written)]
        forms += [_ESCAPE.sub(lambda found: found[0].lower(), written)]
        decoded = _decoded(written)
        forms += [decoded] if decoded else []
    if path in {"", "/"} and not forms[0][len(path) :]:
        forms += ["", "/"]
    return list(dict.fromkeys(forms))


def _decoded(text: str) -> str:
    """Return a text with its letters outside ASCII decoded, as browsers show it; empty where it is no UTF-8."""
    try:
        return re.sub(r"(?:%[89A-Fa-f][0-9A-Fa-f])+", lambda found: unquote(found[0], errors="strict"), text)
    except UnicodeDecodeError:
        return ""


def _without_dots(name: str) -> str:
    return name.rstrip(".") or name


def _spelled(text: str, bare: frozenset[str]) -> str:
    """Write each character in one way: decoded where it is in `bare`, else percent-encoded."""
    return _PIECE.sub(lambda found: _one(found, bare), text)


def _one(found: re.Match[str], bare: frozenset[str]) -> str:
    if found[1] is not None:
        character = chr(int(found[1], 16))
        return character if character in bare else found[0].upper()
    character = found[0]
    if character in bare or character in _LEFT:
        return character
    return "".join(f"%{byte:02X}" for byte in character.encode())
