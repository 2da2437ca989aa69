"""Path patterns as robots.txt and its relatives write them: compiled once, compared with the path of an address.

Whoever writes the patterns may be hostile. A prefix is looked up in a dictionary, however many there are; a pattern
with `*` is searched for from left to right, piece by piece, without going back (RFC 9309, 2.2.2 and 2.2.3).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote

Value = TypeVar("Value")

_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*([^#]*)")
_ESCAPE: Final = re.compile(r"%[0-9a-fA-F]{2}")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
_ESCAPED: Final = {f"%{byte:02X}": chr(byte) if chr(byte) in _UNRESERVED else f"%{byte:02X}" for byte in range(256)}
# What `quote` would leave as it is anyway; most paths need nothing more.
_PLAIN: Final = re.compile(r"[A-Za-z0-9/?#\[\]@!$&'()*+,;=:~._-]*")


def path_of(url: str) -> str:
    """Return path and query of an absolute URL in the form in which patterns are compared with it."""
    found = _PATH.match(url)
    path = found[1] if found else url
    return normal_path(path if path.startswith("/") else f"/{path}")


def normal_path(path: str) -> str:
    """Return a path or pattern as RFC 9309, 2.2.2 compares it: unreserved characters plain, all else escaped alike."""
    if _PLAIN.fullmatch(path):
        return path
    unescaped = _ESCAPE.sub(lambda match: _ESCAPED[match[0].upper()], path)
    return quote(unescaped, safe="/%?#[]@!$&'()*+,;=:~", errors="replace")


_AUTHORITY: Final = re.compile(r"https?://[^/]*", re.IGNORECASE)


def rooted(pattern: str) -> str:
    """Return the pattern of a reservation as it begins by the rules: with a slash or `*`.

    A missing slash, or the host before the path, has no meaning in the specifications, but what was meant can be
    understood. A permission is not to be read so.
    """
    authority = _AUTHORITY.match(pattern)
    pattern = pattern[authority.end() :] if authority else pattern
    return pattern if pattern[:1] in {"/", "*"} else f"/{pattern}"


class Pattern(NamedTuple):
    """A pattern, taken apart at its `*`: how the path begins, the pieces that follow, whether `$` ends it."""

    length: int
    first: str
    rest: tuple[str, ...]
    anchored: bool

    def matches(self, path: str) -> bool:
        """Match a path: a prefix, `*` for any run, `$` at the end."""
        if not path.startswith(self.first):
            return False
        place, rest = len(self.first), self.rest
        for piece in rest[:-1] if self.anchored else rest:
            found = path.find(piece, place)
            if found < 0:
                return False
            place = found + len(piece)
        if not self.anchored:
            return True
        if not rest:
            return path == self.first
        return len(path) - len(rest[-1]) >= place and path.endswith(rest[-1])


def compiled(pattern: str) -> Pattern:
    """Take a pattern apart; runs of `*` are one."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if len(rest) > 1:
        # An empty piece between two `*` asks for nothing; the last one decides whether `$` has a piece to end with.
        rest = [piece for piece in rest[:-1] if piece] + rest[-1:]
    return Pattern(len(pattern), first, tuple(rest), anchored)


def matches(pattern: str, path: str) -> bool:
    """Match as robots.txt does: a prefix, `*` for any run, `$` at the end. Linear, whatever a hostile file holds."""
    return compiled(pattern).matches(path)


class PathRules(Generic[Value]):
    """Patterns with a value each; the longest that matches decides, as RFC 9309 has it.

    One look-up costs at most as many steps as the path is long, and one comparison for each pattern that has a `*` or a
    `$` and is at least as long as what was found.
    """

    __slots__ = ("_lengths", "_prefixes", "_wild")

    def __init__(self, rules: Mapping[str, Value]) -> None:
        self._prefixes: dict[str, Value] = {}
        wild: list[tuple[Pattern, Value]] = []
        for text, value in rules.items():
            if "*" in text or text.endswith("$"):
                wild.append((compiled(text), value))
            else:
                self._prefixes[text] = value
        self._lengths = sorted({len(text) for text in self._prefixes}, reverse=True)
        self._wild = sorted(wild, key=lambda rule: -rule[0].length)

    def longest(self, path: str) -> tuple[int, list[Value]]:
        """Return the length of the longest pattern that matches, and the values of all of that length; -1 if none."""
        length, found = self._longest_prefix(path)
        for pattern, value in self._wild:
            if pattern.length < length:
                break
            if pattern.matches(path):
                if pattern.length > length:
                    length, found = pattern.length, []
                found.append(value)
        return length, found

    def _longest_prefix(self, path: str) -> tuple[int, list[Value]]:
        for length in self._lengths:
            if length <= len(path) and (prefix := path[:length]) in self._prefixes:
                return length, [self._prefixes[prefix]]
        return -1, []
