"""What the readers of tables of URLs share: rows, faults, and lines with their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

MAX_LINE_BYTES: Final = 2**22
"""A longer line is a row with a fault, of which nothing is kept."""

BLANK: Final = " \t\r\n\x0b\x0c"
SURROGATES: Final = re.compile("[\ud800-\udfff]")
"""What bytes that are no UTF-8, and escapes in JSON that are half a character, become in Python's text."""

_MAX_SEEN: Final = 40


class TableError(Exception):
    """A table cannot be read as asked; the message has the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Columns that are taken where a table has them: addresses and other texts, and those that keep their type."""

    urls: tuple[str, ...]
    texts: tuple[str, ...]
    typed: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, none twice; one that is wanted as a text stands there."""
        return tuple(dict.fromkeys((*self.urls, *self.texts, *self.typed)))


class TableRow(NamedTuple):
    """One row: a value for each wanted column, and what is wrong with the row, or with single values by their place."""

    values: Sequence[str | None]
    fault: str | None = None
    faults: dict[int, str] | None = None
    size: int = 0
    """About as many bytes are held."""


@dataclass(slots=True)
class Sheet:
    """A table that is read: what is wanted of it, and what has been found so far."""

    path: Path
    wanted: Wanted
    found: set[str] = field(default_factory=set)
    """Wanted columns that it has; one that has no value in any row may be missing."""
    seen: dict[str, None] = field(default_factory=dict)
    """Columns that it has, for a message."""
    kinds: dict[str, set[str]] = field(default_factory=dict)
    """By column that keeps its type: the kinds of its values; CSV has none."""

    def see(self, name: str) -> None:
        """Remember a column that the table has."""
        if name in self.wanted.names:
            self.found.add(name)
        if len(self.seen) < _MAX_SEEN:
            self.seen[name] = None

    def fault(self, line: int, what: str) -> str:
        """Return what is wrong, with its place."""
        return f"{self.path.name}, line {line:,}: {what}"

    def bad(self, line: int, what: str) -> TableRow:
        """Return a row that cannot be read."""
        return TableRow((), self.fault(line, what))


def numbered(stream: BinaryIO, sheet: Sheet) -> Iterator[tuple[int, bytes | TableRow]]:
    """Yield the lines that are not blank with their numbers; a row with a fault for one that is too long."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, sheet.bad(number, f"the line is longer than {MAX_LINE_BYTES:,} bytes")
        elif not line.isspace():
            yield number, line
