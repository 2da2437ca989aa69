"""Write CSV tables without cells that a spreadsheet would run as a formula.

Excel or LibreOffice treat a cell that begins with = + - or @, also after blanks, as a formula, which could send the
table elsewhere. Hosts, languages and names in our tables are untrusted, so such a cell gets a leading apostrophe, which
spreadsheets read as the mark of a text. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from laion_dask.storage import printable

# Some programs treat the full-width forms like the ASCII ones.
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
    """Write flat rows as a table with a column for each key; missing values become empty cells."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return write(path, columns, ([row.get(name) for name in columns] for row in rows))


def is_run(text: str) -> bool:
    """Tell whether a spreadsheet could treat a text as a formula; true for signed numbers too."""
    return _FORMULA.match(text) is not None


def cell(value: object) -> object:
    """Return the cell for a value: a text is escaped and is no formula, other values are unchanged."""
    if not isinstance(value, str):
        return value
    text = printable.line(value)
    return f"'{text}" if is_run(value) and not _NUMBER.fullmatch(value) else text
