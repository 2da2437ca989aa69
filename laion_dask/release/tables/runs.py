"""Write the kept pairs of some shards as a run sorted by uid, and merge one range of uids out of all runs.

A run is cut where a split or a range of uids ends. Each piece is an Arrow stream of its own, and an index says where it
lies: so a reader of one range opens each run, and reads that range alone. Uids are digests, so ranges of equal width
have about equally many pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.release.tables import files, kept
from laion_dask.release.tables.kinds import Kind
from laion_dask.schema.values import SPLITS
from laion_dask.storage import uids

_ROWS: Final = "rows.arrows"
_INDEX: Final = "index.i64"
"""Where each piece begins and ends in the file of rows, by split and range: two integers of 64 bits."""
_ENTRY_BYTES: Final = 2 * 8
_COUNTS: Final = "counts.npy"
_PREFIX_BYTES: Final = 4


def range_of(table: pa.Table, ranges: int) -> npt.NDArray[np.int64]:
    """Return for each row of a table the number of the range that has its uid."""
    prefix = np.ascontiguousarray(uids.to_bytes(table["uid"])[:, :_PREFIX_BYTES]).view(">u4").ravel()
    return ((prefix.astype(np.uint64) * np.uint64(ranges)) >> np.uint64(8 * _PREFIX_BYTES)).astype(np.int64)


def write(out: Path, tables: Iterable[pa.Table], kinds: Sequence[Kind], ranges: int) -> int:
    """Write the pairs of `kept.read` as a run with its index and the counts of each kind; return their number."""
    counts = np.zeros((len(kinds), len(SPLITS), ranges), np.int64)
    index = np.zeros((len(SPLITS), ranges, 2), np.int64)
    with (out / _ROWS).open("wb") as stream:
        for table, (split, number) in _pieces(tables, ranges):
            counts[:, split, number] += [kind.count(table) for kind in kinds]
            # A piece that two batches have is two streams: they follow each other.
            began = stream.tell()
            _append(stream, table)
            index[split, number] = index[split, number, 0] if index[split, number, 1] else began, stream.tell()
    index.tofile(out / _INDEX)
    np.save(out / _COUNTS, counts, allow_pickle=False)
    return int(counts[0].sum())


def _pieces(tables: Iterable[pa.Table], ranges: int) -> Iterator[tuple[pa.Table, tuple[int, int]]]:
    """Cut sorted tables where a split or a range ends; yield each piece with the two numbers."""
    for table in tables:
        split, number = table[kept.SPLIT].to_numpy().astype(np.int64), range_of(table, ranges)
        borders = np.flatnonzero(np.diff(split * ranges + number)) + 1
        for start, stop in pairwise([0, *borders.tolist(), table.num_rows]):
            if stop > start:
                yield table.slice(start, stop - start), (int(split[start]), int(number[start]))


def _append(stream: IO[bytes], table: pa.Table) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(stream, table.schema, options=options) as writer:
        writer.write_table(table.combine_chunks())


def counts(runs: Iterable[Path]) -> npt.NDArray[np.int64]:
    """Return how many pairs each kind has in each split and each range, of all runs: (kinds, splits, ranges)."""
    found = (np.load(run / _COUNTS, allow_pickle=False) for run in runs)
    total = next(found)
    for one in found:
        total += one
    return np.asarray(total, np.int64)


def merged(
    runs: Iterable[Path], kind: Kind, split: str, number: int, first: int = 0, last: int | None = None
) -> Iterator[pa.Table]:
    """Yield the pairs that a kind has in one split and one range, sorted by uid, from row `first` up to `last`."""
    pieces = [piece for run in runs if (piece := _piece(run, SPLITS.index(split), number))]
    if not pieces:
        return
    stored = pa.ipc.open_stream(pieces[0]).schema.names
    fields = [stored.index(name) for name in kind.columns(stored)]
    options = pa.ipc.IpcReadOptions(included_fields=fields)
    whole = kind.rows(pa.concat_tables(table for piece in pieces for table in _tables(piece, options))).combine_chunks()
    del pieces
    order = pc.sort_indices(whole["uid"])[first:last]
    for start in range(0, len(order), files.ROW_GROUP):
        yield whole.take(order[start : start + files.ROW_GROUP])


def _piece(run: Path, split: int, number: int) -> bytes:
    """Return the streams of one piece of a run, empty where the run has no such pairs."""
    index = run / _INDEX
    ranges = index.stat().st_size // (len(SPLITS) * _ENTRY_BYTES)
    start, end = np.fromfile(index, np.int64, count=2, offset=(split * ranges + number) * _ENTRY_BYTES).tolist()
    with (run / _ROWS).open("rb") as stream:
        stream.seek(start)
        return stream.read(end - start)


def _tables(piece: bytes, options: pa.ipc.IpcReadOptions) -> Iterator[pa.Table]:
    body = pa.BufferReader(piece)
    while body.tell() < len(piece):
        with pa.ipc.open_stream(body, options=options) as reader:
            yield reader.read_all()
