"""Find the tables of texts that a user names, and read them piece by piece with all of their columns.

Parquet is read in place, with its types. CSV, TSV and JSON lines are read strictly, as the download reads them, into a
Parquet file of the same rows: CSV and TSV as texts, so that 007 stays 007, JSON lines with their types where all values
of a column share one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.download import url_tables
from laion_dask.download.url_rows import BLANK, TableError, Wanted
from laion_dask.download.url_tables import TextFormat
from laion_dask.images import tar_folders
from laion_dask.storage import embeddings

_SUFFIXES: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_TYPES: Final = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_(), "VARCHAR": pa.string()}
_SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a table that are read together: `rows` of them from row `first` on."""

    table: Path
    first: int
    rows: int


def find(place: Path) -> list[Path]:
    """Return the table at a path, or those of a folder and its subfolders, sorted; raises `TableError`.

    Of the folder that `laion-dask score DIR --out` wrote, these are the tables of its images. In a folder with Parquet
    files, as img2dataset writes them beside its tars, only these are read; without, all CSV, TSV and JSON lines.
    """
    if place.is_file():
        return [place] if _format(place) else _unknown(place)
    if not place.is_dir():
        raise TableError(f"{place}: no such file or folder. Remedy: give the path of an existing table")
    if (place / "score" / embeddings.STORE).exists():
        place = place / tar_folders.IMAGES
    found = sorted(
        path for path in place.rglob("*") if path.is_file() and _format(path) and not _is_hidden(path, place)
    )
    parquet = [path for path in found if _format(path) == "parquet"]
    if not found:
        raise TableError(f"{place} has no tables. Remedy: a folder with {', '.join(_SUFFIXES)} files")
    return parquet or found


def name(table: Path, place: Path) -> str:
    """Return the path of a table's result: that of the table within the place that was named, as Parquet."""
    relative = Path(table.name) if place.is_file() else table.relative_to(place)
    return _plain(relative).with_suffix(".parquet").as_posix()


def as_parquet(table: Path, out: Path, texts: Sequence[str]) -> Path:
    """Return a Parquet file with the rows and columns of a table: itself, or `out`; raises `TableError`.

    The columns `texts` are read as texts. A row that cannot be read has no values.
    """
    kind = _format(table)
    if kind == "parquet":
        return table
    names = _columns(table, cast("TextFormat", kind))
    wanted = Wanted((), tuple(one for one in names if kind != "jsonl" or one in texts), tuple(names))
    raw = out.with_suffix(".texts")
    read = url_tables.read(table, cast("TextFormat", kind), wanted, raw)
    # A column without any value is not in the file of texts.
    schema = pa.schema([(one, _TYPES[read.types[one]] if one in read.columns else pa.string()) for one in names])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in pq.ParquetFile(raw).iter_batches():
            arrays = [_typed(batch, read.columns.get(field.name), field.type) for field in schema]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
    raw.unlink()
    return out


def require(table: Path, parquet: Path, columns: Sequence[str], option: str) -> str:
    """Return the first of some columns that a table has, as Parquet here; `TableError` names the option."""
    schema = pq.read_schema(parquet)
    for one in columns:
        if one in schema.names:
            if pa.types.is_nested(schema.field(one).type) or pa.types.is_binary(schema.field(one).type):
                raise TableError(f"column {one} of {table} is {schema.field(one).type}. Remedy: one of texts, {option}")
            return one
    listed = ", ".join(schema.names[:_SHOWN]) + (", …" if len(schema.names) > _SHOWN else "")
    raise TableError(f"{table} has no column {' or '.join(columns)}, but {listed}. Remedy: name it with {option}")


def pieces(table: Path, rows: int) -> list[Piece]:
    """Cut a Parquet table into pieces; one without rows is one piece."""
    count = pq.ParquetFile(table).metadata.num_rows
    return [Piece(table, first, min(rows, count - first)) for first in range(0, max(count, 1), rows)]


def read(piece: Piece) -> pa.Table:
    """Read a piece of a Parquet table, in bounded memory."""
    file = pq.ParquetFile(piece.table)
    last = piece.first + piece.rows
    ends = list(accumulate(file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)))
    starts = [0, *ends[:-1]]
    groups = [group for group, end in enumerate(ends) if end > piece.first and starts[group] < last]
    batches = []
    at = starts[groups[0]] if groups else 0
    for batch in file.iter_batches(row_groups=groups) if groups else ():
        low, high = max(0, piece.first - at), min(len(batch), last - at)
        if low < high:
            batches.append(batch.slice(low, high - low))
        at += len(batch)
        if at >= last:
            break
    return pa.Table.from_batches(batches, schema=file.schema_arrow).replace_schema_metadata(None)


def _unknown(place: Path) -> list[Path]:
    raise TableError(f"{place}: what format is it? Remedy: a name that ends in {', '.join(_SUFFIXES)}, also with .gz")


def _format(path: Path) -> str | None:
    return _SUFFIXES.get(_plain(path).suffix.lower())


def _plain(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in url_tables.PACKED else path


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _columns(table: Path, kind: TextFormat) -> list[str]:
    """Return the names of all columns of a table that is text, in the order in which they first occur."""
    names: list[str] = []
    try:
        with pa.input_stream(str(table), compression=url_tables.PACKED.get(table.suffix.lower())) as stream:
            # Bytes that are no UTF-8 are refused where the rows are read.
            raw = io.BufferedReader(cast("io.RawIOBase", stream), 2**20)
            text = io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="")
            if kind == "jsonl":
                names = [*dict.fromkeys(key for line in text if line.strip(BLANK) for key in _keys(line))]
            else:
                rows = csv.reader(text, delimiter="\t" if kind == "tsv" else ",")
                names = next((row for row in rows if "".join(row).strip(BLANK)), [])
    except (OSError, EOFError, csv.Error) as error:
        raise TableError(f"{table} cannot be read: {error}. Remedy: fix the file") from error
    if not names:
        raise TableError(f"{table} has no rows that can be read. Remedy: give a table with at least one row")
    return names


def _keys(line: str) -> list[str]:
    """Return the keys of an object; none where a line is no object."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [*found] if isinstance(found, dict) else []


def _typed(batch: pa.RecordBatch, column: str | None, kind: pa.DataType) -> pa.Array:
    """Return a column of texts with its type; nulls where there is none."""
    if column is None:
        return pa.nulls(len(batch), kind)
    return batch[column] if kind == pa.string() else batch[column].cast(kind)
