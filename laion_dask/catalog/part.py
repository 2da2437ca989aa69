"""The pairs of one bucket and wave in, their part of the work list out: unique, shuffled, cleared of removals.

A bucket has all pairs whose uid begins with the same bits, so equal pairs share a bucket, and buckets run in parallel.
A wave is a crawl: its work list has the pairs that no earlier crawl has. The rows of a wave are read once and loaded
into PostgreSQL after those of the waves before. It finds copies by uid, and removals by uid and domain, and returns row
numbers; the work list is written from the rows in memory: about 1 kB for each row of the bucket in the wave. Removals
by address are looked up in these rows by the key of the address (`removed_pairs`).
"""

from __future__ import annotations

from collections.abc import Sequence
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
from laion_dask.catalog import database, pair_files, pair_manifest, removed_pairs
from laion_dask.catalog.connections import CatalogError
from laion_dask.schema.ledger import Ledger
from laion_dask.storage.uids import to_bytes
from laion_dask.web.urls import spacing

MAX_ROWS: Final = 4_000_000
"""Most rows of a bucket in one wave: with more, a worker needs more than 4 GB, and a column more than Arrow's 2 GiB."""

KINDS: Final = (
    "url",
    "domain",
    "uid",
)  # kinds of removals that are known before the download; the first that matches a pair counts
_UNIQUE: Final = ("uid", "url", "text", "page_url", "language_confidence", "record_offset")
LISTED_URL: Final = "listed_url"
# Why a first pair is not in the work list: an index of KINDS, or
_LISTED: Final = len(KINDS)
_KEPT: Final = -1

Ints = npt.NDArray[np.int64]


def catalog(
    out: Path,
    *,
    bucket: int,
    buckets: int,
    waves: Sequence[Path],
    shard_rows: int,
    seed: int,
    load_digests: Sequence[str],
    dsn: str,
    lists: Sequence[Index] = (),
) -> dict[str, Any]:
    """Make the work list of one bucket and wave: keep the first of equal uids, shuffle, apply removals, cut shards.

    `waves` has a manifest of pairs (`pair_manifest`) for each crawl up to the one whose work list this is, the last;
    `load_digests` one digest for each of them, of its pairs and those before. The pairs of a wave are loaded into the
    database, unless the digest is loaded already. A pair that an earlier wave has is not in this one: so a wave's
    shards depend on its own pairs and those before. Pairs whose address is on one of `lists` are not loaded.

    Writes `shards/<n>.parquet` (schema WORK) and `removed.parquet` (schema REMOVED). A shard is cut from `shard_rows`
    pairs; what removals and lists take out leaves a gap in `place`, so that the others keep shard and place. Returns
    the ledger `pairs`, the pairs by list, and how many pairs are new, and repeated from an earlier wave. Raises
    `CatalogError`.
    """
    all_rows = pair_manifest.read(waves[-1], bucket, buckets)
    rows, listed, by_list = without_listed(all_rows, lists, before=(bucket, buckets, waves[:-1]))
    uids = uid_bytes(rows["uid"])
    in_order = first_to_last(rows)
    with database.opened(dsn, bucket) as cursor:
        for wave, manifest in enumerate(waves[:-1]):
            if not database.is_loaded(cursor, bucket, wave, load_digests[wave]):
                database.load(
                    cursor,
                    bucket,
                    wave,
                    _wave_to_load(pair_manifest.read(manifest, bucket, buckets), lists),
                    load_digests[wave],
                )
        wave = len(waves) - 1
        if not database.is_loaded(cursor, bucket, wave, load_digests[wave]):
            database.load(cursor, bucket, wave, _to_load(rows, uids, in_order), load_digests[wave])
        span = database.span(cursor, bucket, wave)
        loaded = database.held(cursor, bucket, span)
        copies = database.copies(cursor, bucket, span)
        matched = database.removed(cursor, bucket, KINDS, span)
        addresses = removed_pairs.addresses(cursor)
    if loaded != rows.num_rows or span.rows != rows.num_rows:
        message = (
            f"bucket {bucket} of the database holds other rows than its files, {rows.num_rows:,} of them. "
            "Remedy: `drop schema laion_dask cascade`, then run again: it is loaded from the files"
        )
        raise CatalogError(message)
    repeated = copies[:, 1] < span.first  # the first one with its uid is in an earlier wave
    copy_rows = in_order[copies[:, 0] - span.first]
    seen = np.ones(rows.num_rows, np.int32)
    seen[copy_rows] = 0
    np.add.at(seen, in_order[copies[~repeated, 1] - span.first], 1)
    kind = np.full(rows.num_rows, _KEPT)
    kind[in_order[matched[:, 0] - span.first]] = matched[:, 1]
    kind[addresses.rows(rows["url"])] = KINDS.index("url")
    firsts = np.flatnonzero(seen > 0)
    # Those that are taken out have their places too: so others keep theirs when a removal or a list grows.
    placed = pa.concat_tables([rows.take(_numbers(firsts)), listed]).unify_dictionaries().combine_chunks()
    by_uid = np.lexsort(uid_bytes(placed["uid"]).view(">u8").reshape(-1, 2).T[::-1])
    placed = placed.take(_numbers(by_uid)).combine_chunks()
    kinds = np.concatenate([kind[firsts], np.full(listed.num_rows, _LISTED)])[by_uid]
    counts_seen = np.concatenate([seen[firsts], np.ones(listed.num_rows, np.int32)])[by_uid]
    _write_shards(out / "shards", placed, kinds == _KEPT, counts_seen, shard_rows, seed)
    out_rows = np.flatnonzero(kinds != _KEPT)
    reasons = np.array([f"removed_{name}" for name in KINDS] + [LISTED_URL])[kinds[out_rows]].tolist()
    _write_removed(out / "removed.parquet", placed.take(_numbers(out_rows)), reasons)
    ledger = Ledger()
    ledger.keep(int((kinds == _KEPT).sum()))
    ledger.add(reasons)
    if same := all_rows.num_rows - placed.num_rows:
        ledger.drop("duplicate_pair", same)
    # Several copies in this wave of a pair of an earlier one are one repeated pair.
    again = len(np.unique(copies[repeated, 1]))
    return {"pairs": ledger.as_dict(), "listed": by_list, "new": placed.num_rows, "repeated": again}


def without_listed(
    rows: pa.Table, lists: Sequence[Index], before: tuple[int, int, Sequence[Path]] | None = None
) -> tuple[pa.Table, pa.Table, dict[str, int]]:
    """Return the rows on no list, one row for each listed uid, and how many of these each list has.

    With `before`, a bucket, the number of buckets and the manifests of earlier waves, listed uids that an earlier wave
    has are left out.
    """
    matches = known_content.of_urls(lists, rows["url"].to_pylist()) if any(entry.of_urls for entry in lists) else {}
    listed_mask = known_content.any_of(matches, rows.num_rows)
    listed_rows = np.flatnonzero(listed_mask)
    firsts = np.zeros(rows.num_rows, bool)
    if len(listed_rows):
        uids = uid_bytes(rows["uid"].take(_numbers(listed_rows)))
        found = listed_rows[np.unique(uids.view("V16").ravel(), return_index=True)[1]]
        firsts[found] = True
        if before is not None:
            firsts[found] = ~_in_earlier(rows["uid"].take(_numbers(found)), *before)
        rows, listed = (rows.take(_numbers(np.flatnonzero(which))).combine_chunks() for which in (~listed_mask, firsts))
    else:
        listed = rows.slice(0, 0)
    return rows, listed, known_content.count(matches, firsts)


def _in_earlier(uids: pa.ChunkedArray, bucket: int, buckets: int, waves: Sequence[Path]) -> npt.NDArray[np.bool_]:
    """Say of each uid whether an earlier wave has it; only their uids are read."""
    found = np.zeros(len(uids), bool)
    for manifest in waves:
        earlier = pair_manifest.read(manifest, bucket, buckets, ["uid"])["uid"].combine_chunks()
        found |= pc.is_in(uids, value_set=earlier).to_numpy()
    return found


def _wave_to_load(rows: pa.Table, lists: Sequence[Index]) -> pa.Table:
    """Return all that is loaded of an earlier wave."""
    unlisted, _, _ = without_listed(rows, lists)
    return _to_load(unlisted, uid_bytes(unlisted["uid"]), first_to_last(unlisted))


def uid_bytes(uids: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return uids of 32 hex digits as bytes (rows, 16); `CatalogError` for any other uid."""
    try:
        return to_bytes(uids)
    except ValueError as error:
        raise CatalogError(pair_files.BAD_UID) from error


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


def _write_shards(
    folder: Path, rows: pa.Table, kept: npt.NDArray[np.bool_], seen: npt.NDArray[np.int32], shard_rows: int, seed: int
) -> None:
    """Shuffle the rows with their hosts spaced apart, cut them into shards, and write the kept ones with places."""
    folder.mkdir()
    keys = spacing.shuffle_keys(uid_bytes(rows["uid"]).view(">u8")[:, 1].astype(np.uint64), seed)
    hosts = np.asarray(np.from_dlpack(rows["host"].combine_chunks().dictionary_encode().indices))
    order = spacing.spaced(hosts.astype(np.int32), keys)
    repeated = [name for name in schema.WORK.names if name not in _UNIQUE]
    for shard, start in enumerate(range(0, len(order), shard_rows)):
        chosen = order[start : start + shard_rows]
        places = np.flatnonzero(kept[chosen]).astype(np.int32)
        table = rows.take(_numbers(chosen[places])).append_column("seen", _numbers(seen[chosen[places]]))
        table = table.append_column("place", _numbers(places))
        pq.write_table(
            schema.WORK.check(pair_files.plain(table, schema.WORK)),
            folder / f"{shard:05d}.parquet",
            compression="zstd",
            # A dictionary of unique values would only take time and space.
            use_dictionary=repeated,
        )


def _write_removed(path: Path, rows: pa.Table, reasons: list[str]) -> None:
    """Write the pairs that are taken out; `reasons` has theirs, in the same order."""
    pairs = pair_files.plain(rows.select(["uid", "split"]), schema.REMOVED)
    table = pairs.append_column("reason", pa.array(reasons, pa.string()))
    pq.write_table(schema.REMOVED.check(table.sort_by("uid")), path, compression="zstd")
