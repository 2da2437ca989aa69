"""Write the CSV tables that people open: with no cell that a spreadsheet would run as a formula.

A program such as Excel or LibreOffice takes a cell that begins with = + - or @ for a formula, also behind blanks, and
a formula may send the table somewhere. Hosts, languages and names in our tables come from the web and from files, so a
cell that begins so gets an apostrophe before it, by which spreadsheets know a text. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from laion_dask.storage import printable

# The wide forms are taken for the plain ones by some programs.
_FORMULA: Final = re.compile(r"[\s']*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?: ?%)?")


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a table with its header and return the path; None becomes an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([cell(name) for name in columns])
        writer.writerows([cell(value) for value in row] for row in rows)
    return path


def write_flat(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write flat rows as a table with a column for each of their names; what a row lacks is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return write(path, columns, ([row.get(name) for name in columns] for row in rows))


def is_run(text: str) -> bool:
    """Tell whether a spreadsheet would take a text for a formula, or a number for a part of one."""
    return _FORMULA.match(text) is not None


def cell(value: object) -> object:
    """Return a value as a cell: a text without control characters that no spreadsheet runs, anything else as it is."""
    if not isinstance(value, str):
        return value
    text = printable.line(value)
    return f"'{text}" if is_run(value) and not _NUMBER.fullmatch(value) else text
