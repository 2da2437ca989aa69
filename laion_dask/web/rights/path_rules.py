"""Match paths against the patterns of robots.txt and similar files, in linear time.

The patterns may be hostile. Prefixes are looked up in a dictionary, however many there are; a pattern with `*` is
matched piece by piece from left to right, without backtracking (RFC 9309, 2.2.2 and 2.2.3).
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
# Characters that `quote` leaves unchanged; most paths have no others.
_PLAIN: Final = re.compile(r"[A-Za-z0-9/?#\[\]@!$&'()*+,;=:~._-]*")


def path_of(url: str) -> str:
    """Return path and query of an absolute URL in the form in which patterns are compared with them."""
    found = _PATH.match(url)
    path = found[1] if found else url
    return normal_path(path if path.startswith("/") else f"/{path}")


def normal_path(path: str) -> str:
    """Return a path or pattern in the form of RFC 9309, 2.2.2: unreserved characters decoded, others alike."""
    if _PLAIN.fullmatch(path):
        return path
    unescaped = _ESCAPE.sub(lambda match: _ESCAPED[match[0].upper()], path)
    return quote(unescaped, safe="/%?#[]@!$&'()*+,;=:~", errors="replace")


_AUTHORITY: Final = re.compile(r"https?://[^/]*", re.IGNORECASE)


def rooted(pattern: str) -> str:
    """Return the pattern of a reservation with a valid beginning, a slash or `*`.

    The specifications do not define patterns without a slash or with a host; the intent of a reservation is clear, so
    it is repaired. Patterns of permissions are not repaired.
    """
    authority = _AUTHORITY.match(pattern)
    pattern = pattern[authority.end() :] if authority else pattern
    return pattern if pattern[:1] in {"/", "*"} else f"/{pattern}"


class Pattern(NamedTuple):
    """A pattern split at its `*`: the prefix of the path, the pieces that follow, and whether `$` ends it."""

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
    """Split a pattern at its `*`; repeated `*` count as one."""
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if len(rest) > 1:
        # An empty piece between two `*` matches anything. The last piece stays: `$` refers to it.
        rest = [piece for piece in rest[:-1] if piece] + rest[-1:]
    return Pattern(len(pattern), first, tuple(rest), anchored)


def matches(pattern: str, path: str) -> bool:
    """Match as robots.txt does: a prefix, `*` for any run, `$` at the end; always in linear time."""
    return compiled(pattern).matches(path)


class PathRules(Generic[Value]):
    """Patterns with a value each; the longest matching pattern decides (RFC 9309).

    A look-up takes at most one step for each character of the path, and one comparison for each pattern with `*` or `$`
    that is at least as long as the longest match so far.
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
