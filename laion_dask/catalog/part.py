"""The pairs of one bucket in, its part of the work list out: unique, cleared of removals, hosts spaced apart.

A bucket has all pairs whose uid begins with the same bits, so equal pairs share a bucket, and buckets run in parallel.
Its rows are read once and loaded into PostgreSQL, which finds copies by uid and removals by uid and domain. It returns
row numbers, and the work list is written from the rows in memory: about 1 kB for each row of the bucket. Removals by
address are looked up in these rows by the key of the address (`removed_pairs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.blocklists import known_content
from laion_dask.blocklists.known_index import Index
from laion_dask.catalog import database, removed_pairs
from laion_dask.catalog.connections import CatalogError
from laion_dask.schema.ledger import Ledger
from laion_dask.storage.uids import to_bytes
from laion_dask.web.urls import spacing

MAX_ROWS: Final = 4_000_000
"""Most rows of a bucket: with more, a worker needs more than 4 GB, and a column more than Arrow's 2 GiB."""

KINDS: Final = (
    "url",
    "domain",
    "uid",
)  # kinds of removals that are known before the download; the first that matches a pair counts
# Few values, many rows: as dictionaries they take four bytes a row.
_REPEATED: Final = ("language", "split", "license", "crawl", "wat", "page_signals")
_UNIQUE: Final = ("uid", "url", "text", "page_url", "language_confidence", "record_offset")
_BATCH_ROWS: Final = 4096
LISTED_URL: Final = "listed_url"
_BAD_UID: Final = "a uid is not 32 hex digits. Remedy: run the stage extract again; its files are not what it writes"

Ints = npt.NDArray[np.int64]


def catalog(
    out: Path,
    *,
    bucket: int,
    buckets: int,
    pairs: Sequence[Path],
    shard_rows: int,
    seed: int,
    load_digest: str,
    dsn: str,
    lists: Sequence[Index] = (),
) -> dict[str, Any]:
    """Load one bucket, keep the first of equal uids, apply removals, shuffle; write its work list in shards.

    Pairs whose address is on one of `lists` are dropped first, and are not loaded into the database.

    Writes `shards/<n>.parquet` (schema WORK, at most `shard_rows` rows each) and `removed.parquet` (schema REMOVED).
    Raises `CatalogError`.
    """
    all_rows = read(pairs, bucket, buckets)
    rows, listed, by_list = without_listed(all_rows, lists)
    uids = uid_bytes(rows["uid"])
    in_order = first_to_last(rows)
    with database.opened(dsn, bucket) as cursor:
        database.load(cursor, bucket, _to_load(rows, uids, in_order), load_digest)
        loaded = database.held(cursor, bucket)
        copies = in_order[database.copies(cursor, bucket)]
        matched = database.removed(cursor, bucket, KINDS)
        addresses = removed_pairs.addresses(cursor)
    if loaded != rows.num_rows:
        message = (
            f"bucket {bucket} of the database holds other rows than its files, {rows.num_rows:,} of them. "
            "Remedy: `drop schema laion_dask cascade`, then run again: it is loaded from the files"
        )
        raise CatalogError(message)
    seen = np.ones(rows.num_rows, np.int32)
    seen[copies[:, 0]] = 0
    np.add.at(seen, copies[:, 1], 1)
    kind = np.full(rows.num_rows, -1)
    kind[in_order[matched[:, 0]]] = matched[:, 1]
    kind[addresses.rows(rows["url"])] = KINDS.index("url")
    removed_rows, kept_rows = np.flatnonzero((seen > 0) & (kind >= 0)), np.flatnonzero((seen > 0) & (kind < 0))
    keys = spacing.shuffle_keys(uids.view(">u8")[:, 1].astype(np.uint64), seed)[kept_rows]
    kept_hosts = rows["host"].take(_numbers(kept_rows)).combine_chunks()
    hosts = np.asarray(np.from_dlpack(kept_hosts.dictionary_encode().indices))
    _write_shards(out / "shards", rows, kept_rows[spacing.spaced(hosts.astype(np.int32), keys)], seen, shard_rows)
    reasons = np.array([f"removed_{name}" for name in KINDS])[kind[removed_rows]].tolist()
    reasons += [LISTED_URL] * listed.num_rows
    _write_removed(out / "removed.parquet", [rows.take(_numbers(removed_rows)), listed], reasons)
    ledger = Ledger()
    ledger.keep(len(kept_rows))
    ledger.add(reasons)
    if same := len(copies) + all_rows.num_rows - rows.num_rows - listed.num_rows:
        ledger.drop("duplicate_pair", same)
    return {"pairs": ledger.as_dict(), "listed": by_list}


def without_listed(rows: pa.Table, lists: Sequence[Index]) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Return the rows on no list, one row for each listed uid, and how many of these each list has."""
    matches = known_content.of_urls(lists, rows["url"].to_pylist()) if any(entry.of_urls for entry in lists) else {}
    listed_mask = known_content.any_of(matches, rows.num_rows)
    listed_rows = np.flatnonzero(listed_mask)
    firsts = np.zeros(rows.num_rows, bool)
    if len(listed_rows):
        uids = uid_bytes(rows["uid"].take(_numbers(listed_rows)))
        firsts[listed_rows[np.unique(uids.view("V16").ravel(), return_index=True)[1]]] = True
        rows, listed = (rows.take(_numbers(np.flatnonzero(which))).combine_chunks() for which in (~listed_mask, firsts))
    else:
        listed = rows.slice(0, 0)
    return rows, listed, known_content.count(matches, firsts)


def uid_range(bucket: int, buckets: int) -> tuple[str, str]:
    """Return the first uid of a bucket and the first one after it, as hex strings that compare like uids."""
    width = 16**8 // buckets
    after = "g" if bucket + 1 == buckets else f"{(bucket + 1) * width:08x}"
    return f"{bucket * width:08x}", after


def read(pairs: Sequence[Path], bucket: int, buckets: int) -> pa.Table:
    """Return the rows of one bucket from files that are sorted by uid, in the order of the files.

    Columns of schema.PAIRS, those with few values as dictionaries. Raises `schema.SchemaError` for other columns.
    """
    pieces = [piece for path in pairs for piece in _pieces(path, *uid_range(bucket, buckets))]
    if not pieces:
        return schema.PAIRS.schema.empty_table()
    rows = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
    schema.PAIRS.check(_plain(rows.slice(0, 0), schema.PAIRS))
    return rows


def _pieces(path: Path, first: str, after: str) -> Iterator[pa.Table]:
    """Yield the rows of a range of uids from each row group; groups outside the range are not read."""
    with pq.ParquetFile(path, read_dictionary=list(_REPEATED)) as file:
        place = file.schema_arrow.get_field_index("uid")
        for group in range(file.num_row_groups):
            stats = file.metadata.row_group(group).column(place).statistics
            if stats is not None and stats.has_min_max and (stats.max < first or stats.min >= after):
                continue
            uids = _fixed_width(file.read_row_group(group, columns=["uid"], use_threads=False)["uid"])
            start, end = np.searchsorted(uids, [first.encode(), after.encode()]).tolist()
            batches, done = [], 0
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False) if start < end else ():
                if done + batch.num_rows > start:
                    batches.append(batch.slice(max(start - done, 0), end - max(start, done)))
                done += batch.num_rows
                if done >= end:
                    break
            if batches:
                # A copy: a slice would keep its whole batch in memory.
                yield pa.Table.from_batches(batches).combine_chunks()


def _fixed_width(uids: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """Return uids (rows,) as 32 bytes each, without a copy; `CatalogError` where one has another length."""
    if len(uids) == 0:
        return np.empty(0, "S32")
    array = uids.chunk(0) if uids.num_chunks == 1 else pa.concat_arrays(uids.chunks)
    ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    if array.null_count or (np.diff(ends) != 32).any():
        raise CatalogError(_BAD_UID)
    return np.frombuffer(array.buffers()[2], "S32", len(array), int(ends[0]))


def uid_bytes(uids: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return uids of 32 hex digits as bytes (rows, 16); `CatalogError` for any other uid."""
    try:
        return to_bytes(uids)
    except ValueError as error:
        raise CatalogError(_BAD_UID) from error


def first_to_last(rows: pa.Table) -> Ints:
    """Return row numbers in the order of the crawls: by WAT, record and link."""
    if rows.num_rows == 0:
        return np.empty(0, np.int64)
    # to_numpy would import pandas, 1.4 s in each worker.
    return np.lexsort([np.from_dlpack(rows[name].chunk(0)) for name in ("link_index", "record_offset", "wat_order")])


def _to_load(rows: pa.Table, uids: npt.NDArray[np.uint8], in_order: Ints) -> pa.Table:
    """Return the rows for the database: numbered in the fixed order, uids as 16 bytes."""
    number = np.empty(len(in_order), np.int32)
    number[in_order] = np.arange(len(in_order), dtype=np.int32)
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(uids), [None, pa.py_buffer(uids)])
    columns = {name: _without_nul(rows[name]) for name in rows.column_names if name != "uid"}
    return pa.table(columns | {"uid": packed, "number": number})


def _without_nul(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace U+0000, which PostgreSQL's text type cannot hold, by U+FFFD; the work list keeps the original."""
    texts = [chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk for chunk in column.chunks]
    bodies = [text.buffers()[2] for text in texts if pa.types.is_string(text.type)]
    if all(np.frombuffer(body, np.uint8).all() for body in bodies if body is not None):
        return column
    return pc.replace_substring(column.cast(pa.string()), "\0", "\ufffd")


def _numbers(values: npt.NDArray[Any]) -> pa.Array:
    """Return integers as an Arrow array: pa.array would import pandas, 1.4 s in each worker."""
    kind = pa.int32() if values.dtype == np.int32 else pa.int64()
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def _write_shards(folder: Path, rows: pa.Table, order: Ints, seen: npt.NDArray[np.int32], shard_rows: int) -> None:
    folder.mkdir()
    repeated = [name for name in schema.WORK.names if name not in _UNIQUE]
    for shard, start in enumerate(range(0, len(order), shard_rows)):
        chosen = order[start : start + shard_rows]
        table = rows.take(_numbers(chosen)).append_column("seen", _numbers(seen[chosen]))
        pq.write_table(
            schema.WORK.check(_plain(table, schema.WORK)),
            folder / f"{shard:05d}.parquet",
            compression="zstd",
            # A dictionary of unique values would only take time and space.
            use_dictionary=repeated,
        )


def _write_removed(path: Path, rows: Sequence[pa.Table], reasons: list[str]) -> None:
    """Write the removed pairs of all tables; `reasons` has theirs, in the same order."""
    pairs = pa.concat_tables(_plain(table.select(["uid", "split"]), schema.REMOVED) for table in rows)
    table = pairs.append_column("reason", pa.array(reasons, pa.string()))
    pq.write_table(schema.REMOVED.check(table.sort_by("uid")), path, compression="zstd")


def _plain(table: pa.Table, kind: schema.Table) -> pa.Table:
    """Return the columns of a schema, in its order and with dictionaries decoded; its check finds missing ones."""
    columns = {name: table[name] for name in kind.names if name in table.column_names}
    return pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in columns.items()
        }
    )
