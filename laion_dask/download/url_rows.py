"""Common parts of the readers of URL tables: rows, faults, and numbered lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

MAX_LINE_BYTES: Final = 2**22
"""A longer line is a row with a fault and without values."""

BLANK: Final = " \t\r\n\x0b\x0c"
SURROGATES: Final = re.compile("[\ud800-\udfff]")
"""Invalid UTF-8 bytes and unpaired JSON escapes, as Python decodes them."""

_MAX_SEEN: Final = 40


class TableError(Exception):
    """A table cannot be read; the message has the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Columns to read if a table has them: addresses, other texts, and columns that keep their type."""

    urls: tuple[str, ...]
    texts: tuple[str, ...]
    typed: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names without duplicates; one that is both a text and typed counts as a text."""
        return tuple(dict.fromkeys((*self.urls, *self.texts, *self.typed)))


class TableRow(NamedTuple):
    """One row: a value for each wanted column, the fault of the row, and the faults of single values by index."""

    values: Sequence[str | None]
    fault: str | None = None
    faults: dict[int, str] | None = None
    size: int = 0
    """Approximate bytes in memory."""


@dataclass(slots=True)
class Sheet:
    """A table that is being read: the wanted columns, and those found so far."""

    path: Path
    wanted: Wanted
    found: set[str] = field(default_factory=set)
    """Wanted columns that it has; one without any value may be missing."""
    seen: dict[str, None] = field(default_factory=dict)
    """Columns that it has, for error messages."""
    kinds: dict[str, set[str]] = field(default_factory=dict)
    """By typed column: the types of its values; none for CSV."""

    def see(self, name: str) -> None:
        """Record a column that the table has."""
        if name in self.wanted.names:
            self.found.add(name)
        if len(self.seen) < _MAX_SEEN:
            self.seen[name] = None

    def fault(self, line: int, what: str) -> str:
        """Return a fault with its file and line."""
        return f"{self.path.name}, line {line:,}: {what}"

    def bad(self, line: int, what: str) -> TableRow:
        """Return a row that cannot be read."""
        return TableRow((), self.fault(line, what))


def numbered(stream: BinaryIO, sheet: Sheet) -> Iterator[tuple[int, bytes | TableRow]]:
    """Yield non-blank lines with their numbers; for one that is too long, a row with a fault."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, sheet.bad(number, f"the line is longer than {MAX_LINE_BYTES:,} bytes")
        elif not line.isspace():
            yield number, line
