"""Cut tables of URLs (Parquet, CSV, TSV, JSON lines, text) into work lists of one shard each, in bounded memory.

DuckDB reads Parquet, and sorts on disk if memory is too small; `url_tables` reads all other formats, strictly. Every
row gets into a work list: an invalid URL or row is a counted failure of the download. CSV and TSV are read as text, so
that 007 stays 007.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.download import url_tables
from laion_dask.download.url_rows import TableError, Wanted
from laion_dask.storage import duckdb_connection
from laion_dask.web.fetch import guard
from laion_dask.web.urls import spacing

__all__ = [
    "ColumnNames",
    "Format",
    "Order",
    "TableError",
    "WorkListRules",
    "as_expected",
    "cut",
    "format_of",
    "image_columns",
]

Format = Literal["parquet", "csv", "tsv", "jsonl", "txt"]
Order = Literal["spread", "given"]

EXPECTED_HASH: Final = "expected_hash"
"""Column of a work list: the digest that the original bytes must have, lower-case hex; null if unknown."""

FORMATS: Final[Mapping[str, Format]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "txt",
}
BOXES: Final = "blur_boxes"
"""Column of a work list: boxes to blur, x1, y1, x2, y2 each, as shares of width and height; null if unknown."""
FAULT: Final = "row_fault"
"""Column of a work list: why the row of the table cannot be used, with its line; null if it can."""
HASH_CHARS: Final = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}
URL_COLUMNS: Final = ("url", "URL")
CAPTION_COLUMNS: Final = ("text", "TEXT", "caption", "alt")
UID_COLUMNS: Final = ("uid",)

_OWN: Final = ("uid", "url", "text", "host")
# Columns for the download only, which its table does not have.
_INNER: Final = (EXPECTED_HASH, BOXES, FAULT)
# Names of columns that the download or the work list writes.
_RESERVED: Final = {*schema.IMAGES.names} - {*schema.WORK.names} | {*_OWN, *_INNER}
_MEMORY: Final = "1GB"
# Types of Parquet that cannot be converted to a text.
_NO_TEXT: Final = ("[", "STRUCT", "MAP", "UNION", "BLOB", "BIT")


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """Names of columns; None means the first usual name that the table has, if any."""

    url: str | None = None
    caption: str | None = None
    hash: str | None = None
    boxes: str | None = None
    extra: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkListRules:
    """Options of work lists: columns, rows of a shard, digits of its number.

    Order `spread` shuffles by a hash of the uid, and spaces the hosts evenly within a shard; `given` keeps that of the
    tables. `kind` is their format, if their names do not show it.
    """

    asked: ColumnNames
    shard_rows: int = 10_000
    digits: int = 5
    order: Order = "spread"
    kind: Format | None = None


def format_of(path: Path) -> Format:
    """Return the format of a table by its extension; `TableError` if that is unknown."""
    name = path.with_suffix("") if path.suffix.lower() in url_tables.PACKED else path
    format_ = FORMATS.get(name.suffix.lower())
    if format_ is None:
        raise TableError(f"{path}: what format is it? Remedy: --input-format parquet, csv, tsv, jsonl or txt")
    return format_


def cut(paths: Sequence[Path], out: Path, rules: WorkListRules) -> int:
    """Write the rows of all tables as work lists `<shard>.parquet` of `shard_rows` rows each, and return their number.

    Columns: uid (the table's, else md5 of text + url), url, text, host, `EXPECTED_HASH` and `BOXES` if such columns are
    named, the further columns with their types, and `FAULT`. The same tables give the same bytes. Raises `TableError`.
    """
    digits = rules.digits
    spill = out / "spill"
    spill.mkdir(parents=True)
    with duckdb.connect(config={"memory_limit": _MEMORY, "temp_directory": str(spill)}) as connection:
        _load(connection, paths, rules, spill)
        names = [name for name, *_ in connection.sql("describe work").fetchall()]
        in_turn = ", ".join(_quoted(name) for name in names)
        sort = f"order by md5(uid), {in_turn}" if rules.order == "spread" else ""
        rows = 0
        try:
            reader = connection.sql(f"select * from work {sort}").to_arrow_reader(rules.shard_rows)
            for number, table in enumerate(_pieces(reader, rules.shard_rows)):
                if number >= 10**digits:
                    raise TableError(f"more than {10**digits:,} shards. Remedy: more --shard-digits or --shard-rows")
                pq.write_table(_finished(table, rules.order), out / f"{number:0{digits}d}.parquet", compression="zstd")
                rows += table.num_rows
        except duckdb.Error as error:
            raise _read_error(paths, error) from error
    shutil.rmtree(spill)
    return rows


def places(work: pa.Table) -> Sequence[int]:
    """Return the place in the shard of each row of a work list; without a column of the catalog, its own place."""
    found: list[int] = work["place"].to_pylist() if work.schema.names == schema.WORK.names else [*range(work.num_rows)]
    return found


def image_columns(work: pa.Schema) -> pa.Schema:
    """Return the columns of a shard's table, for a work list of the catalog or one that `cut` wrote."""
    if work.names == schema.WORK.names:
        return schema.IMAGES.schema
    carried = {*schema.WORK.names} - {"uid", "url", "host"}
    own = [field for field in schema.IMAGES.schema if field.name not in carried]
    return pa.schema([*own, *(field for field in work if field.name not in {*_OWN, *_INNER})])


def as_expected(body: bytes, expected: str | None) -> bool:
    """Return whether the original bytes have the expected digest, whose length determines its kind."""
    if not expected:
        return True
    return hashlib.new(HASH_CHARS[len(expected)], body, usedforsecurity=False).hexdigest() == expected


class _InputTable(NamedTuple):
    """A table as DuckDB's SQL sees it."""

    path: Path
    source: str
    """The expression after FROM."""
    columns: Mapping[str, str]
    """By name: its expression."""
    types: Mapping[str, str]
    """By name: its type."""
    fault: Callable[[Sequence[str]], str]
    """Returns, for the names of used columns, an expression for the fault of a row, null if there is none."""
    seen: Collection[str]
    """Its columns, for error messages."""


def _load(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], rules: WorkListRules, spill: Path) -> None:
    """Create the view `work` over all tables."""
    names = rules.asked
    types: dict[str, tuple[str, Path]] = {}
    for number, path in enumerate(paths):
        if not path.is_file():
            raise TableError(f"{path}: no such file. Remedy: give the path of an existing table")
        kind = rules.kind or format_of(path)
        if kind == "parquet":
            table = _parquet(connection, path)
        else:
            table = _text_table(url_tables.read(path, kind, _wanted(names), spill / f"table-{number}.parquet"), path)
        for name in names.extra:
            first_type, where = types.setdefault(name, (table.types.get(name, ""), path))
            if name in table.types and table.types[name] != first_type:
                raise TableError(
                    f"column {name!r} is {first_type} in {where}, {table.types[name]} in {path}. Remedy: one type"
                )
        connection.execute(f"create view table_{number} as select {_columns(table, names)} from {table.source}")
        if kind != "parquet":
            _refuse_without_rows(connection, f"table_{number}", path)
        _refuse_wrong_hashes(connection, f"table_{number}", path, names.hash)
        _refuse_wrong_boxes(connection, f"table_{number}", path, names.boxes)
    union = " union all ".join(f"select * from table_{number}" for number in range(len(paths)))
    connection.execute(f"create view work as {union}")


def _wanted(asked: ColumnNames) -> Wanted:
    typed = [name for name in (asked.hash, asked.boxes, *asked.extra) if name is not None]
    texts = CAPTION_COLUMNS if asked.caption is None else (asked.caption,)
    return Wanted(URL_COLUMNS if asked.url is None else (asked.url,), (*texts, *UID_COLUMNS), tuple(typed))


def _rows(path: Path) -> str:
    return f"read_parquet({_text(*duckdb_connection.names([path]))}, hive_partitioning = false)"


def _parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> _InputTable:
    source = _rows(path)
    try:
        types = {name: str(type_) for name, type_, *_ in connection.sql(f"describe from {source}").fetchall()}
    except duckdb.Error as error:
        raise _read_error([path], error) from error
    return _InputTable(path, source, {name: _quoted(name) for name in types}, types, lambda _: "null::varchar", types)


def _text_table(table: url_tables.TextTable, path: Path) -> _InputTable:
    columns = {name: f"{mine}::{table.types[name]}" for name, mine in table.columns.items()}

    def fault(used: Sequence[str]) -> str:
        return f"coalesce({', '.join([url_tables.LINE_FAULT, *(table.faults[name] for name in used)])}, null)"

    return _InputTable(path, _rows(table.file), columns, table.types, fault, table.seen)


def _columns(table: _InputTable, asked: ColumnNames) -> str:
    path, expressions = table.path, table.columns
    url = _column(table, asked.url, URL_COLUMNS, "--url-col")
    if url is None:
        raise TableError(f"{path} has no column url, but {_listed(table.seen)}. Remedy: name it with --url-col")
    caption = _column(table, asked.caption, CAPTION_COLUMNS, "--caption-col")
    uid = _column(table, None, UID_COLUMNS, "")
    used = [name for name in (url, caption, uid) if name is not None]
    for name in used:
        _refuse_other_type(table, name, is_url=name == url)
    texts = {name: f"coalesce({expressions[name]}::varchar, '')" for name in used}
    text = texts.get(caption or "", "''")
    derived = f"md5({text} || {texts[url]})"
    own = [
        f"coalesce(nullif({texts[uid]}, ''), {derived}) as uid" if uid else f"{derived} as uid",
        f"{texts[url]} as url",
        f"{text} as text",
    ]
    if asked.hash is not None:
        _column(table, asked.hash, (), "--hash-col")
        _refuse_other_type(table, asked.hash, is_url=False)
        own.append(f"nullif(lower(trim({expressions[asked.hash]}::varchar)), '') as {EXPECTED_HASH}")
    if asked.boxes is not None:
        _column(table, asked.boxes, (), "--bbox-col")
        own.append(f"{expressions[asked.boxes]}::double[][] as {BOXES}")
    for name in asked.extra:
        # DuckDB treats names that differ only in case as equal, and would rename them.
        if [one.casefold() for one in asked.extra].count(name.casefold()) > 1:
            raise TableError(f"column {name!r} is named twice. Remedy: correct --save-additional-columns")
        if name.casefold() in _RESERVED:
            raise TableError(f"a column {name!r} is written by the download itself. Remedy: rename that of {path}")
        _column(table, name, (), "--save-additional-columns")
        own.append(f"{expressions[name]} as {_quoted(name)}")
    return ", ".join([*own, f"{table.fault(used)} as {FAULT}"])


def _column(table: _InputTable, name: str | None, usual: Iterable[str], option: str) -> str | None:
    if name is not None and name not in table.columns:
        raise TableError(f"{table.path} has no column {name!r}, but {_listed(table.seen)}. Remedy: correct {option}")
    return name if name is not None else next((name for name in usual if name in table.columns), None)


def _refuse_other_type(table: _InputTable, name: str, *, is_url: bool) -> None:
    """Refuse a column of another type than text; captions and uids may be any single value."""
    kind = table.types[name]
    text = kind == "VARCHAR" or kind.startswith("ENUM")
    if not text and (is_url or any(mark in kind for mark in _NO_TEXT)):
        raise TableError(f"{table.path}: column {name!r} is {kind}, not text. Remedy: write it as a column of texts")


def _refuse_without_rows(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> None:
    """Refuse a table without any usable row: its format is probably another one."""
    counts = connection.sql(f"select count(*), count({FAULT}), min({FAULT}) from {table}").fetchall()
    rows, faulty, fault = counts[0]
    if rows and faulty == rows:
        raise TableError(
            f"{path} cannot be read: none of its {rows:,} rows can; {fault}. Remedy: fix the file, or correct "
            "--input-format"
        )


def _refuse_wrong_hashes(connection: duckdb.DuckDBPyConnection, table: str, path: Path, column: str | None) -> None:
    if column is None:
        return
    lengths = ", ".join(map(str, HASH_CHARS))
    rule = f"length({EXPECTED_HASH}) not in ({lengths}) or not regexp_full_match({EXPECTED_HASH}, '[0-9a-f]+')"
    wrong = _first(connection, table, path, EXPECTED_HASH, rule)
    if wrong is not None:
        kinds = ", ".join(f"{kind} {chars}" for chars, kind in HASH_CHARS.items())
        raise TableError(
            f"{path}: column {column!r} holds {wrong[:140]!r}, {len(wrong)} characters, which is not a digest. "
            f"Remedy: hex digits ({kinds}), or none for a row without one"
        )


def _first(connection: duckdb.DuckDBPyConnection, table: str, path: Path, column: str, rule: str) -> Any:  # noqa: ANN401 - a value of any column
    """Return the first value of a column for which a rule holds; None if there is none."""
    try:
        rows = connection.sql(f"select {column} from {table} where {rule} limit 1").fetchall()
    except duckdb.Error as error:
        raise _read_error([path], error) from error
    return rows[0][0] if rows else None


def _refuse_wrong_boxes(connection: duckdb.DuckDBPyConnection, table: str, path: Path, column: str | None) -> None:
    """Refuse boxes of another form, which would leave the faces visible."""
    if column is None:
        return
    # In DuckDB indices of lists start at 1, and NaN is greater than every number.
    ordered = "box[1] between -1 and box[3] and box[2] between -1 and box[4] and greatest(box[3], box[4]) <= 2"
    right = f"lambda box: not coalesce(len(box) = 4 and {ordered}, false)"
    wrong = _first(connection, table, path, BOXES, f"coalesce(len(list_filter({BOXES}, {right})), 0) > 0")
    if wrong is not None:
        raise TableError(
            f"{path}: column {column!r} holds {str(wrong)[:140]}. Remedy: for each box x1, y1, x2, y2 as shares "
            "of width and height, 0 to 1; not the size of the box, and no px"
        )


def _pieces(reader: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield tables of exactly `rows` rows, the last one with the rest."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in reader:
        waiting.append(batch)
        count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, rows)
            rest = table.slice(rows)
            waiting, count = rest.to_batches(), rest.num_rows
    if count:
        yield pa.Table.from_batches(waiting)


def _finished(table: pa.Table, order: Order) -> pa.Table:
    """Add the hosts; with the order `spread`, space them evenly."""
    targets = [guard.parse(url) for url in table["url"].to_pylist()]
    hosts = pa.array([target.host if target else "" for target in targets], pa.string())
    table = table.add_column(3, "host", hosts)
    if order == "spread" and table.num_rows:
        numbers = hosts.dictionary_encode().indices.to_numpy()
        digests = [hashlib.md5(uid.encode()).digest()[:8] for uid in table["uid"].to_pylist()]
        table = table.take(pa.array(spacing.spaced(numbers, np.frombuffer(b"".join(digests), np.uint64))))
    return table


def _read_error(paths: Sequence[Path], error: duckdb.Error) -> TableError:
    line = str(error).strip().splitlines()[0]
    places = ", ".join(map(str, paths[:3])) + ("" if len(paths) <= 3 else f" and {len(paths) - 3} more")
    return TableError(f"{places} cannot be read: {line}. Remedy: fix the file, or correct --input-format")


def _listed(found: Collection[str]) -> str:
    return ", ".join(found) or "none at all"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
