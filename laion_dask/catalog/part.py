"""The pairs of one bucket in, its part of the work list out: unique, cleared of removals, hosts spaced apart.

A bucket has all pairs whose uid begins with the same bits, so equal pairs meet, and buckets are worked on side by side.
Its rows are read once. All of them go into PostgreSQL, which decides over uid and host what stays; what it answers are
numbers of rows, and the work list is written from the rows in memory: about 1 kB for each row of the bucket. Removals
by address are looked up in the same rows, by the key of the address (`removed_pairs`).
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
from laion_dask.catalog.database import CatalogError
from laion_dask.schema.ledger import Ledger
from laion_dask.storage.uids import to_bytes
from laion_dask.web.urls import spacing

MAX_ROWS: Final = 4_000_000
"""Rows of a bucket: above, a worker would need more than 4 GB, and a column more than Arrow's 2 GiB."""

KINDS: Final = (
    "url",
    "domain",
    "uid",
)  # of removals that are known before the download; the first that names a pair counts
# Few values, many rows: read as dictionaries, and as such they cost four bytes a row.
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
    """Load one bucket, keep the first of equal uids, apply removals, shuffle; write its work list cut into shards.

    Pairs whose address is on one of `lists` end here before all else: not even the database gets them.

    Writes `shards/<n>.parquet` (schema WORK, at most `shard_rows` rows each) and `removed.parquet` (schema REMOVED).
    Raises `CatalogError`.
    """
    found = read(pairs, bucket, buckets)
    rows, listed, by_list = without_listed(found, lists)
    uids = uid_bytes(rows["uid"])
    in_order = first_to_last(rows)
    with database.opened(dsn, bucket) as cursor:
        database.load(cursor, bucket, _to_load(rows, uids, in_order), load_digest)
        held = database.held(cursor, bucket)
        copies = in_order[database.copies(cursor, bucket)]
        named = database.removed(cursor, bucket, KINDS)
        addresses = removed_pairs.addresses(cursor)
    if held != rows.num_rows:
        message = (
            f"bucket {bucket} of the database holds other rows than its files, {rows.num_rows:,} of them. "
            "Remedy: `drop schema laion_dask cascade`, then run again: it is filled from the files"
        )
        raise CatalogError(message)
    seen = np.ones(rows.num_rows, np.int32)
    seen[copies[:, 0]] = 0
    np.add.at(seen, copies[:, 1], 1)
    kind = np.full(rows.num_rows, -1)
    kind[in_order[named[:, 0]]] = named[:, 1]
    kind[addresses.rows(rows["url"])] = KINDS.index("url")
    gone, kept = np.flatnonzero((seen > 0) & (kind >= 0)), np.flatnonzero((seen > 0) & (kind < 0))
    keys = spacing.shuffle_keys(uids.view(">u8")[:, 1].astype(np.uint64), seed)[kept]
    hosts = np.asarray(np.from_dlpack(rows["host"].take(_numbers(kept)).combine_chunks().dictionary_encode().indices))
    _write_shards(out / "shards", rows, kept[spacing.spaced(hosts.astype(np.int32), keys)], seen, shard_rows)
    reasons = np.array([f"removed_{name}" for name in KINDS])[kind[gone]].tolist() + [LISTED_URL] * listed.num_rows
    _write_removed(out / "removed.parquet", [rows.take(_numbers(gone)), listed], reasons)
    ledger = Ledger()
    ledger.keep(len(kept))
    ledger.add(reasons)
    if same := len(copies) + found.num_rows - rows.num_rows - listed.num_rows:
        ledger.drop("duplicate_pair", same)
    return {"pairs": ledger.as_dict(), "listed": by_list}


def without_listed(rows: pa.Table, lists: Sequence[Index]) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Return the rows whose address is on no list, one for each uid that lists have, and how many of these each has."""
    found = known_content.of_urls(lists, rows["url"].to_pylist()) if any(entry.of_urls for entry in lists) else {}
    named = known_content.any_of(found, rows.num_rows)
    gone = np.flatnonzero(named)
    firsts = np.zeros(rows.num_rows, bool)
    if len(gone):
        uids = uid_bytes(rows["uid"].take(_numbers(gone)))
        firsts[gone[np.unique(uids.view("V16").ravel(), return_index=True)[1]]] = True
        rows, listed = (rows.take(_numbers(np.flatnonzero(which))).combine_chunks() for which in (~named, firsts))
    else:
        listed = rows.slice(0, 0)
    return rows, listed, known_content.count(found, firsts)


def uid_range(bucket: int, buckets: int) -> tuple[str, str]:
    """Return the first uid of a bucket and the first one after it, as hex strings that compare like uids."""
    width = 16**8 // buckets
    after = "g" if bucket + 1 == buckets else f"{(bucket + 1) * width:08x}"
    return f"{bucket * width:08x}", after


def read(pairs: Sequence[Path], bucket: int, buckets: int) -> pa.Table:
    """Return the rows of one bucket out of files that are sorted by uid, in the order of the files.

    Columns of schema.PAIRS, those with few values as dictionaries. Raises `schema.SchemaError` for another table.
    """
    pieces = [piece for path in pairs for piece in _pieces(path, *uid_range(bucket, buckets))]
    if not pieces:
        return schema.PAIRS.schema.empty_table()
    rows = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
    schema.PAIRS.check(_plain(rows.slice(0, 0), schema.PAIRS))
    return rows


def _pieces(path: Path, first: str, after: str) -> Iterator[pa.Table]:
    """Yield what each row group has of a range of uids; those outside it are not touched, and none to its end."""
    with pq.ParquetFile(path, read_dictionary=list(_REPEATED)) as file:
        place = file.schema_arrow.get_field_index("uid")
        for group in range(file.num_row_groups):
            known = file.metadata.row_group(group).column(place).statistics
            if known is not None and known.has_min_max and (known.max < first or known.min >= after):
                continue
            uids = _fixed_width(file.read_row_group(group, columns=["uid"], use_threads=False)["uid"])
            start, end = np.searchsorted(uids, [first.encode(), after.encode()]).tolist()
            found, done = [], 0
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False) if start < end else ():
                if done + batch.num_rows > start:
                    found.append(batch.slice(max(start - done, 0), end - max(start, done)))
                done += batch.num_rows
                if done >= end:
                    break
            if found:
                # A copy: a slice would hold all rows of its batch.
                yield pa.Table.from_batches(found).combine_chunks()


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
    """Return uids of 32 hex digits as bytes (rows, 16); `CatalogError` where one is something else."""
    try:
        return to_bytes(uids)
    except ValueError as error:
        raise CatalogError(_BAD_UID) from error


def first_to_last(rows: pa.Table) -> Ints:
    """Return the rows (as numbers from 0) in the order of the crawls: by WAT, record and link. The first wins."""
    if rows.num_rows == 0:
        return np.empty(0, np.int64)
    # to_numpy would import pandas for it, 1.4 s in each worker.
    return np.lexsort([np.from_dlpack(rows[name].chunk(0)) for name in ("link_index", "record_offset", "wat_order")])


def _to_load(rows: pa.Table, uids: npt.NDArray[np.uint8], in_order: Ints) -> pa.Table:
    """Return the rows as the database holds them: numbered in the fixed order, uids as 16 bytes."""
    number = np.empty(len(in_order), np.int32)
    number[in_order] = np.arange(len(in_order), dtype=np.int32)
    packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(uids), [None, pa.py_buffer(uids)])
    columns = {name: _without_nul(rows[name]) for name in rows.column_names if name != "uid"}
    return pa.table(columns | {"uid": packed, "number": number})


def _without_nul(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace U+0000, which text in PostgreSQL cannot hold, by U+FFFD; the work list keeps what was found."""
    texts = [chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk for chunk in column.chunks]
    bodies = [text.buffers()[2] for text in texts if pa.types.is_string(text.type)]
    if all(np.frombuffer(body, np.uint8).all() for body in bodies if body is not None):
        return column
    return pc.replace_substring(column.cast(pa.string()), "\0", "\ufffd")


def _numbers(values: npt.NDArray[Any]) -> pa.Array:
    """Return whole numbers as Arrow has them: pa.array would import pandas for it, 1.4 s in each worker."""
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
            # Looking for repetitions among values that have none only costs.
            use_dictionary=repeated,
        )


def _write_removed(path: Path, rows: Sequence[pa.Table], reasons: list[str]) -> None:
    """Write what ends here; `reasons` has those of all tables, one after the other."""
    pairs = pa.concat_tables(_plain(table.select(["uid", "split"]), schema.REMOVED) for table in rows)
    table = pairs.append_column("reason", pa.array(reasons, pa.string()))
    pq.write_table(schema.REMOVED.check(table.sort_by("uid")), path, compression="zstd")


def _plain(table: pa.Table, kind: schema.Table) -> pa.Table:
    """Return the columns of the vocabulary, in its order, dictionaries written out; others are left for its check."""
    columns = {name: table[name] for name in kind.names if name in table.column_names}
    return pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in columns.items()
        }
    )
