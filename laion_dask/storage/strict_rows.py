"""Read hand-written lists, CSV or one value per line, strictly and with line numbers.

The csv module would read an unclosed quote as a value that contains the following lines, and an extra value shifts the
others into wrong columns. In a list of removals or known content, a picture would then stay in the data. So a row is
one line of UTF-8 with as many values as the header, or the file is refused.

Messages have file, line and remedy, but never content of the file, as some lists are confidential.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

_BLOCK_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 1 << 20
"""Maximum bytes of a line, to bound memory on files that are no list."""
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_OTHER_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_OPEN: Final = "cannot be read as CSV: a quote is not closed in its line, or text follows a closing one"
_LONG: Final = "cannot be read as CSV: field larger than 131,072 characters, or a quote is not closed"
_CLOSE: Final = "close the quote, double a quote inside a value, and use no line break in a value"
_SAVE: Final = "a text file in UTF-8"


class RowsError(Exception):
    """A hand-written file cannot be read; the message has file, line and remedy, but no content."""


def lines(stream: IO[bytes], path: Path) -> Iterator[str]:
    """Yield every line of a file without its line end, including blank ones, so that the count is the line number.

    UTF-8, with or without a byte order mark; lines end with LF or CRLF, also mixed. Raises `RowsError`.
    """
    number, left = 1, b""
    while block := stream.read(_BLOCK_BYTES):
        if number == 1 and not left:
            block = without_mark(block, path)
        whole, newline, rest = block.rpartition(b"\n")
        if len(left) + len(block) - len(whole) > MAX_LINE_BYTES + _BLOCK_BYTES:
            raise _refused(path, number, "the line is longer than 1 MiB", "one entry per line")
        if not newline:
            left += rest
            continue
        found = _decoded(left + whole, path, number)
        yield from found
        number += len(found)
        left = rest
    if left:
        yield from _decoded(left, path, number)


def without_mark(head: bytes, path: Path) -> bytes:
    """Remove the byte order mark of UTF-8 from the start of a file; raises `RowsError` for that of another encoding."""
    if head.startswith(_OTHER_MARKS):
        raise _refused(path, 1, "cannot be read as UTF-8 (UTF-16, perhaps)", _SAVE)
    return head.removeprefix(_UTF8_MARK)


def _decoded(block: bytes, path: Path, first: int) -> list[str]:
    """Return the lines of a block, decoded at once; if that fails, raise `RowsError` for the first bad line."""
    returns = block.count(b"\r")
    plain = b"\0" not in block and (not returns or returns == block.count(b"\r\n") + block.endswith(b"\r"))
    if plain:
        try:
            found = block.decode().split("\n")
        except UnicodeDecodeError:
            plain = False
        else:
            return [line.removesuffix("\r") for line in found] if returns else found
    for number, line in enumerate(block.split(b"\n"), start=first):
        _check(line.removesuffix(b"\r"), path, number)
    return []  # not reached: a block that is not plain has a bad line


def _check(line: bytes, path: Path, number: int) -> None:
    if b"\0" in line:
        raise _refused(path, number, "cannot be read as text: a NUL byte (UTF-16, perhaps)", _SAVE)
    if b"\r" in line:
        raise _refused(
            path, number, "a carriage return inside a line", "end lines with LF or CRLF, and use neither in a value"
        )
    try:
        line.decode()
    except UnicodeDecodeError:
        raise _refused(path, number, "no UTF-8", f"{_SAVE}; it may be in Latin-1 or Windows-1252") from None


def table(stream: IO[bytes], path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return the names in the header of a CSV, and its rows with their line numbers.

    A row has as many values as the header; blank lines and rows of empty values are skipped. The header of an empty
    file has no names. Raises `RowsError`, for a row when it is reached.
    """
    rows = _rows(lines(stream, path), path)
    return next(rows)[1], rows


def _rows(found: Iterator[str], path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the header, then the rows; a single loop, for files with tens of millions of rows."""
    reader = csv.reader(found, strict=True)
    before, width = 0, 0
    try:
        for values in reader:
            before += 1
            if reader.line_num != before:
                raise _refused(path, before, _OPEN, _CLOSE)
            if len(values) == width:
                if any(values):
                    yield before, values
            elif len(values) > 1 or (values and values[0].strip()):
                if width:
                    problem = f"{len(values)} values, and the header has {width}"
                    raise _refused(path, before, problem, 'put a value with a comma in double quotes: "a,b"')
                names = [name.strip() for name in values]
                if len(set(names)) < len(names):
                    raise _refused(
                        path, before, "two columns have the same name, or none", "give each column its own name"
                    )
                width = len(names)
                yield before, names
    except csv.Error as error:
        # From None: the message of the csv module may contain a part of the row.
        raise _refused(path, before + 1, _LONG if "larger" in str(error) else _OPEN, _CLOSE) from None
    if not width:
        yield 1, []


def of_text(text: str, path: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Do the same as `table` for a text in memory."""
    return table(io.BytesIO(text.encode()), path)


def values(path: Path, comment: str = "#") -> Iterator[tuple[int, str]]:
    """Yield (line number, stripped value) of a file with one value per line.

    Skips blank lines and those that begin with `comment`. Raises `RowsError` and `OSError`.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(lines(stream, path), start=1):
            value = line.strip()
            if value and not (comment and value.startswith(comment)):
                yield number, value


def _refused(path: Path, number: int, problem: str, remedy: str) -> RowsError:
    return RowsError(f"{path}:{number}: {problem}. Remedy: {remedy}")
