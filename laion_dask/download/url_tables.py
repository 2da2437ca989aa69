"""Read tables of URLs that are text (CSV, TSV, JSON lines, a URL a line) strictly, line by line, into text columns.

A reader that infers columns and types from the first rows can misread later ones, or fail at a key that is new. Here
each line is parsed on its own: it is a row, or a row with a fault that names its line. A file is refused only if no row
can be read, or if an open quote makes the ends of rows ambiguous.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.download import url_json
from laion_dask.download.url_rows import BLANK, SURROGATES, Sheet, TableError, TableRow, Wanted, numbered

TextFormat = Literal["csv", "tsv", "jsonl", "txt"]

PACKED: Final = {".gz": "gzip", ".zst": "zstd"}

LINE_FAULT: Final = "line_fault"
"""Column of the written file: the fault of a whole row; null if there is none."""

_BATCH_ROWS: Final = 10_000
_BATCH_BYTES: Final = 2**25
_OTHER_UNICODE: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table converted to a Parquet file of texts, with the names of its columns there."""

    file: Path
    columns: dict[str, str]
    """By name: its column in the file, a text."""
    faults: dict[str, str]
    """By name: the column in the file with its faults."""
    types: dict[str, str]
    """By name: DuckDB's type of all of its values; VARCHAR if they have no common type."""
    seen: tuple[str, ...]


def read(path: Path, kind: TextFormat, wanted: Wanted, out: Path) -> TextTable:
    """Convert a table to the Parquet file `out`, in bounded memory; raises `TableError`.

    Every non-blank line is a row, in CSV and TSV every record. A row that cannot be read has a fault and no values. A
    table without any readable row is refused.
    """
    rows: dict[TextFormat, Callable[[BinaryIO, Sheet], Iterator[TableRow]]] = {
        "csv": partial(_separated, delimiter=","),
        "tsv": partial(_separated, delimiter="\t"),
        "jsonl": url_json.rows,
        "txt": _urls,
    }
    sheet = Sheet(path, wanted)
    try:
        with _opened(path) as stream:
            _pass_mark(stream, path)
            count, faulty, first = _write(rows[kind](stream, sheet), sheet, out)
    except (OSError, EOFError) as error:
        raise TableError(f"{path} cannot be read: {error}. Remedy: fix the file, or correct --input-format") from error
    if count and faulty == count:
        what = f"{path} cannot be read: none of its {count:,} rows can; {first}"
        raise TableError(f"{what}. Remedy: fix the file, or correct --input-format")
    places = {name: place for place, name in enumerate(wanted.names) if name in sheet.found}
    return TextTable(
        out,
        {name: f"c{place}" for name, place in places.items()},
        {name: f"f{place}" for name, place in places.items()},
        {name: url_json.type_of(sheet.kinds.get(name, set())) for name in places},
        tuple(sheet.seen),
    )


def _write(rows: Iterator[TableRow], sheet: Sheet, out: Path) -> tuple[int, int, str]:
    """Write rows in batches; return the number of rows, of rows with a fault of the whole row, and the first fault."""
    names = [name for place in range(len(sheet.wanted.names)) for name in (f"c{place}", f"f{place}")]
    schema = pa.schema([(name, pa.string()) for name in (*names, LINE_FAULT)])
    count = faulty = size = 0
    first = ""
    batch: list[TableRow] = []
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for row in rows:
            batch.append(row)
            if row.fault is not None:
                first = first or row.fault
                faulty += 1
            size += row.size
            if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
                writer.write_table(_batch(batch, sheet, schema))
                count += len(batch)
                batch, size = [], 0
        writer.write_table(_batch(batch, sheet, schema))
    return count + len(batch), faulty, first


def _batch(rows: Sequence[TableRow], sheet: Sheet, schema: pa.Schema) -> pa.Table:
    names = sheet.wanted.names
    none = (None,) * len(names)
    values = zip(*(row.values or none for row in rows), strict=True) if rows else [()] * len(names)
    faulty = any(row.faults for row in rows)
    arrays = []
    for place, (name, column) in enumerate(zip(names, values, strict=True)):
        array = pa.array(column, pa.string())
        faults = [row.faults.get(place) if row.faults else None for row in rows] if faulty else [None] * len(rows)
        arrays += [array, pa.array(faults, pa.string())]
        if array.null_count < len(array):
            sheet.see(name)
    arrays.append(pa.array([row.fault for row in rows], pa.string()))
    return pa.table(arrays, schema=schema)


def _opened(path: Path) -> io.BufferedReader:
    """Open a table, decompressed."""
    raw = pa.input_stream(str(path), compression=PACKED.get(path.suffix.lower()), buffer_size=2**20)
    return io.BufferedReader(cast("io.RawIOBase", raw), 2**20)


def _pass_mark(stream: io.BufferedReader, path: Path) -> None:
    """Skip the byte order mark; `TableError` if the encoding is not UTF-8."""
    head = stream.peek(4)[:4]
    if head.startswith(_OTHER_UNICODE) or b"\0" in head:
        raise TableError(f"{path} is not UTF-8, but UTF-16 or UTF-32. Remedy: iconv -f UTF-16 -t UTF-8")
    if head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))


def _urls(stream: BinaryIO, sheet: Sheet) -> Iterator[TableRow]:
    """Yield the rows of a text file with one URL a line."""
    sheet.see("url")
    places = sheet.wanted.names
    for number, line in numbered(stream, sheet):
        if not isinstance(line, bytes):
            yield line
            continue
        try:
            url = line.decode().strip(BLANK)
        except UnicodeDecodeError:
            yield sheet.bad(number, "the line is no UTF-8")
        else:
            yield TableRow([url if name == "url" else None for name in places], size=len(line))


def _separated(stream: BinaryIO, sheet: Sheet, delimiter: str) -> Iterator[TableRow]:
    """Yield the rows of CSV or TSV with a header (RFC 4180).

    An open quote raises `TableError` with its line, since the rows behind it are ambiguous.
    """
    text = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] = []
    places: list[int] = []
    line = 1
    try:
        for fields in reader:
            first, line = line, reader.line_num + 1
            if len(fields) <= 1 and not "".join(fields).strip(BLANK):
                continue
            if header:
                yield _fields(fields, header, places, sheet, (first, reader.line_num))
            else:
                header, places = fields, _places(fields, sheet)
    except csv.Error as error:
        # An open quote ends in the module's limit of a field's length, or at the end of the file.
        is_open = "end of data" in str(error) or "field limit" in str(error)
        raise _open_quote(sheet, line, "a quote stays open" if is_open else str(error)) from error


def _places(header: list[str], sheet: Sheet) -> list[int]:
    for name in header:
        sheet.see(name)
        if name in sheet.found and header.count(name) > 1:
            raise TableError(f"{sheet.path} has two columns {name!r}. Remedy: rename one")
    return [header.index(name) if name in header else -1 for name in sheet.wanted.names]


def _fields(fields: list[str], header: list[str], places: list[int], sheet: Sheet, lines: tuple[int, int]) -> TableRow:
    first, last = lines
    if len(fields) != len(header):
        what = f"the row has {len(fields)} fields, the header has {len(header)}"
        if last > first:
            raise _open_quote(sheet, first, f"{what}, and it goes on to line {last:,}")
        return sheet.bad(first, what)
    # An empty field is a missing value, as in other readers of CSV.
    values = [(fields[place] or None) if place >= 0 else None for place in places]
    for name, value in zip(sheet.wanted.names, values, strict=True):
        if value is None:
            continue
        if last > first and name in sheet.wanted.urls and "\n" in value.strip(BLANK):
            raise _open_quote(sheet, first, f"the address goes on to line {last:,}")
        if not value.isascii() and SURROGATES.search(value):
            return sheet.bad(first, f"column {name!r} is no UTF-8")
    return TableRow(values, size=sum(map(len, fields)))


def _open_quote(sheet: Sheet, line: int, what: str) -> TableError:
    return TableError(
        f"{sheet.path} cannot be read: in the row that begins in line {line:,}, {what}. Remedy: fix the file: close "
        "every quote, and double those that stand inside of quotes"
    )
