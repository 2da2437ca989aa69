"""One page of a WAT in, the same page with other hosts, paths, digits and texts out: of the same shape and script.

What is varied: host names, paths, queries and digits of every address, the words of the alt texts, digits in other
texts. What is not: the number and order of links, their keys, schemes, ports, file extensions, top-level domains,
addresses that are relative, opaque or of a Creative Commons licence; the names of metas and the headers.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

# Addresses change in all letters, each into another of its kind and case, so that names stay pronounceable.
_KINDS: Final = ("aeiouy", "bcdfghjklmnpqrstvwxz")
_DIGITS: Final = "0123456789"
# Texts change in two letters only: a language detector must still find in them what it finds in real ones.
_COMMON_CONSONANTS: Final = "bdfgklmprstv"
_SECOND_LEVEL_MAX_CHARS: Final = 3
_EXTENSION_MAX_CHARS: Final = 5
# Longer words without ASCII are whole sentences (Chinese, Japanese, Thai): they are turned, not moved as one.
_SENTENCE_MIN_CHARS: Final = 8
_LICENSE_HOST: Final = "creativecommons.org"
_WEB: Final = frozenset({"http:", "https:", ""})
_SCHEME_MAX_CHARS: Final = 12

Json = dict[str, Any]
Change = Callable[[str], str]


class Addresses:
    """Change addresses: within one object the same host always becomes the same other host."""

    def __init__(self, rng: random.Random) -> None:
        table: dict[int, str] = {}
        for kind in _KINDS:
            other = rng.sample(kind, len(kind))
            table |= {ord(old): new for old, new in zip(kind, other, strict=True)}
            table |= {ord(old.upper()): new.upper() for old, new in zip(kind, other, strict=True)}
        table |= _other_digits(rng)
        self._table = table
        self._hosts: dict[str, str] = {}

    def __call__(self, url: str) -> str:
        """Return an address of the same form: absolute, relative to the scheme, or relative."""
        if _LICENSE_HOST in url:
            return url
        scheme, slashes, rest = url.partition("//")
        if slashes and scheme.lower() in _WEB:
            host, slash, path = rest.partition("/")
            return f"{scheme}//{self._host(host)}{slash}{self._path(path)}"
        if ":" in url[:_SCHEME_MAX_CHARS] and "/" not in url.partition(":")[0]:
            return url  # mailto:, javascript:, data: and the like
        return self._path(url)

    def _host(self, host: str) -> str:
        found = self._hosts.get(host)
        if found is None:
            found = self._hosts[host] = self._other_host(host)
        return found

    def _other_host(self, host: str) -> str:
        name, colon, port = host.partition(":")
        labels = name.split(".")
        if len(labels) == 1 or labels[-1].isdigit():
            return host
        # co.uk, com.br: two short labels at the end of three or more are one suffix.
        short = len(labels) > 2 and len(labels[-2]) <= _SECOND_LEVEL_MAX_CHARS and len(labels[-1]) == 2
        suffix = 2 if short else 1
        kept = {"www"}
        other = [
            label if label in kept or label.startswith("xn--") else label.translate(self._table)
            for label in labels[:-suffix]
        ]
        return ".".join([*other, *labels[-suffix:]]) + colon + port

    def _path(self, path: str) -> str:
        if not path:
            return path
        front, mark, query = path.partition("?")
        body, dot, extension = front.rpartition(".")
        if dot and len(extension) <= _EXTENSION_MAX_CHARS:
            return f"{self._letters(body)}.{extension}{mark}{self._letters(query)}"
        return f"{self._letters(front)}{mark}{self._letters(query)}"

    def _letters(self, piece: str) -> str:
        if "%" not in piece:
            return piece.translate(self._table)
        # The two hex digits behind a percent sign are left: another byte may be no UTF-8.
        first, *others = piece.split("%")
        kept = (part[:2] + part[2:].translate(self._table) for part in others)
        return "%".join([first.translate(self._table), *kept])


def page(source: Json, rng: random.Random, addresses: Addresses) -> Json:
    """Return a varied copy of `HTML-Metadata`: Head and Links; the source is left as it is."""
    digits = _other_digits(rng)
    head = {key: _head_value(key, value, addresses, digits) for key, value in source.get("Head", {}).items()}
    links = source.get("Links")
    varied = {**source, "Head": head} if "Head" in source else dict(source)
    if links:
        alts = _other_alts([link["alt"] for link in links if link.get("alt")], rng, digits)
        varied["Links"] = [_link(link, addresses, digits, alts) for link in links]
    return varied


def _link(link: Json, addresses: Change, digits: dict[int, str], alts: Iterator[str]) -> Json:
    other = link.copy()
    for key in ("url", "href"):
        if key in other:
            other[key] = addresses(other[key])
    for key in ("text", "title"):
        if key in other:
            other[key] = other[key].translate(digits)
    if other.get("alt"):
        other["alt"] = next(alts)
    return other


def _head_value(key: str, value: object, addresses: Change, digits: dict[int, str]) -> object:
    if key == "Base" and isinstance(value, str):
        return addresses(value)
    if key == "Title" and isinstance(value, str):
        return value.translate(digits)
    if isinstance(value, list):
        return [_head_entry(entry, addresses) for entry in value]
    return copy.deepcopy(value)


def _head_entry(entry: Json, addresses: Change) -> Json:
    """Return a meta, link or script of the head with another address; words of metas stay, they may be opt-outs."""
    other = entry.copy()
    for key in ("url", "content"):
        value = other.get(key)
        if isinstance(value, str) and (key == "url" or value.startswith(("http://", "https://"))):
            other[key] = addresses(value)
    return other


def _other_alts(alts: list[str], rng: random.Random, digits: dict[int, str]) -> Iterator[str]:
    """Yield for every alt text one of as many words: all words of the page's alt texts, turned by a random number.

    So words stay beside their neighbours, a language stays a language, and the lengths of a page keep their spread.
    """
    counts = [alt.count(" ") + 1 for alt in alts]
    words = [word for alt in alts for word in alt.split(" ")]
    first, second = rng.sample(_COMMON_CONSONANTS, 2)
    table = digits | {ord(first): second, ord(second): first}
    turn = rng.randrange(len(words)) if words else 0
    words = words[turn:] + words[:turn]
    at = 0
    for count, old in zip(counts, alts, strict=True):
        text = " ".join(_turned(word, rng) for word in words[at : at + count]).translate(table)
        at += count
        # A text of spaces only would be none: the number of pairs must not change by turning.
        yield text if text.strip() else old


def _turned(word: str, rng: random.Random) -> str:
    if len(word) < _SENTENCE_MIN_CHARS or word.isascii():
        return word
    at = rng.randrange(len(word))
    return word[at:] + word[:at]


def _other_digits(rng: random.Random) -> dict[int, str]:
    return {ord(old): new for old, new in zip(_DIGITS, rng.sample(_DIGITS, len(_DIGITS)), strict=True)}
