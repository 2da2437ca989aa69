"""Merge the pairs of many WATs into one file with a batch for each bucket, so that a bucket's task opens few files.

A crawl of 90,000 WATs in 4,096 buckets would open files 370 million times, at 3 ms each. Merged, each bucket reads one
batch of each merged file. The file is in Arrow's IPC format, whose footer has 24 bytes for a batch. Parquet's footer
has 1.5 kB for a row group of these columns: with 1,024 of them it takes 9 ms to parse, as long as reading 20,000 pairs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.catalog import pair_files
from laion_dask.catalog.connections import CatalogError
from laion_dask.storage.uids import to_bytes

FILE: Final = "pairs.arrow"
"""The merged file in the folder of its part."""
STEP_ROWS: Final = 100_000
"""Rows that are put in the order of buckets at once, as long as one bucket has fewer; also of small files together."""

_NOT_SORTED: Final = "{} is not sorted by uid. Remedy: run the stage extract again; its files are not what it writes"

Places = npt.NDArray[np.int64]


def merge(out: Path, *, files: Sequence[Path], buckets: int) -> dict[str, Any]:
    """Merge files that are sorted by uid into `pairs.arrow`: batch n has the rows of bucket n, in the order of files.

    Each file is read once, row group by row group. Memory holds a row group of each file (at most 10,000 rows, as the
    stage extract writes them), and three times the rows of one step, with about 0.4 kB a row: `merge_plan` bounds the
    sum. Returns the count of rows. Raises `CatalogError` for a file that is not sorted by uid or has other uids, and
    `schema.SchemaError` for other columns.
    """
    with ExitStack() as opened:
        sources = list(_sources(files, buckets, opened))
        rows = sum(source.rows for source in sources)
        known = sources[0].no_rows()
        sink = opened.enter_context(pa.OSFile(str(out / FILE), "wb"))
        with pa.ipc.new_file(sink, known.schema, options=_written()) as writer:
            for step in _steps(rows, buckets):
                known = _write_step(writer, sources, step, known)
    return {"rows": rows}


def read(path: Path, bucket: int, buckets: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of one bucket from a merged file; `CatalogError` if it was merged for other buckets."""
    with pa.OSFile(str(path)) as source:
        options = pa.ipc.IpcReadOptions(use_threads=False)
        if columns is not None:
            with pa.ipc.open_file(source, options=options) as reader:
                options.included_fields = [reader.schema.get_field_index(name) for name in columns]
        with pa.ipc.open_file(source, options=options) as reader:
            if reader.num_record_batches != buckets:
                message = (
                    f"{path} has {reader.num_record_batches:,} buckets, not {buckets:,}. "
                    f"Remedy: remove the folder {path.parent} and run again; it is made again"
                )
                raise CatalogError(message)
            return pa.Table.from_batches([reader.get_batch(bucket)])


class _Source:
    """Pairs that are read once, in the order of buckets: of one file, of which it holds a row group, or of a table."""

    def __init__(self, buckets: int, table: pa.Table, places: Places, *, path: Path = Path(), file: Any = None) -> None:  # noqa: ANN401 - pyarrow has no types
        self._buckets = buckets
        self._rest, self._places = table, places
        self._path, self._file = path, file
        self._groups = deque(range(file.num_row_groups if file else 0))
        self._last = 0
        self.rows = int(file.metadata.num_rows) if file else len(places)

    def no_rows(self) -> pa.Table:
        """Return a table without rows, with the columns and types of those that are read."""
        return _without_rows(self._rest)

    def until(self, end: int) -> Iterator[tuple[pa.Table, Places]]:
        """Yield the next rows, those of buckets before `end`, with the bucket of each."""
        while len(self._places) or self._next():
            cut = int(np.searchsorted(self._places, end))
            if cut:
                rows = self._rest.slice(0, cut)
                # All files come to the ends of their row groups at about the same step: a slice would keep both.
                copied = cut == len(self._places) and bool(self._groups)
                yield rows.take(_numbers(np.arange(cut))) if copied else rows, self._places[:cut]
            self._rest, self._places = self._rest.slice(cut), self._places[cut:]
            if len(self._places):
                return

    def _next(self) -> bool:
        """Read the next row group, if there is one."""
        if not self._groups:
            return False
        self._rest = self._file.read_row_group(self._groups.popleft(), use_threads=False)
        self._places = _buckets_of(self._rest, self._buckets)
        if (np.diff(self._places, prepend=self._last) < 0).any():
            raise CatalogError(_NOT_SORTED.format(self._path))
        self._last = self._places[-1] if len(self._places) else self._last
        return True


def _sources(files: Sequence[Path], buckets: int, opened: ExitStack) -> Iterator[_Source]:
    """Yield the pairs of files in their order; those of one row group are joined: there may be thousands of them."""
    small: list[pa.Table] = []
    for path in files:
        file = pq.ParquetFile(path, read_dictionary=list(pair_files.REPEATED))
        if file.num_row_groups > 1:
            if small:
                yield _in_order(small, buckets)
                small = []
            none = file.schema_arrow.remove_metadata().empty_table()
            yield _Source(buckets, none, np.empty(0, np.int64), path=path, file=opened.enter_context(file))
            continue
        with file:
            small.append(file.read(use_threads=False).replace_schema_metadata(None))
        if sum(table.num_rows for table in small) >= STEP_ROWS:
            yield _in_order(small, buckets)
            small = []
    if small:
        yield _in_order(small, buckets)


def _in_order(tables: Sequence[pa.Table], buckets: int) -> _Source:
    """Return the rows of some tables in the order of buckets, then of the tables."""
    rows = pair_files.joined(tables)
    places = _buckets_of(rows, buckets)
    order = np.argsort(places, kind="stable")
    return _Source(buckets, rows.take(_numbers(order)), places[order])


def _buckets_of(rows: pa.Table, buckets: int) -> Places:
    """Return the bucket of each row, as `pair_files.uid_range` cuts them."""
    try:
        firsts = to_bytes(rows["uid"])[:, :4].astype(np.int64)
    except ValueError as error:
        raise CatalogError(pair_files.BAD_UID) from error
    number = firsts @ (1 << np.array([24, 16, 8, 0], np.int64))
    return np.asarray(np.minimum(number // (16**8 // buckets), buckets - 1), np.int64)


def _steps(rows: int, buckets: int) -> Iterator[range]:
    """Yield ranges of buckets that have about `STEP_ROWS` rows each."""
    at_once = max(buckets * STEP_ROWS // max(rows, 1), 1)
    for first in range(0, buckets, at_once):
        yield range(first, min(first + at_once, buckets))


def _write_step(
    writer: pa.ipc.RecordBatchFileWriter, sources: Sequence[_Source], step: range, known: pa.Table
) -> pa.Table:
    """Write a batch for each bucket of a step, its rows in the order of files; return `known` for the next step.

    `known` has no rows, but all values of dictionaries so far: those of a file may only grow.
    """
    pieces, of_pieces = [known], [np.empty(0, np.int64)]
    for source in sources:
        for piece, places in source.until(step.stop):
            pieces.append(piece)
            of_pieces.append(places)
    rows, places = pair_files.joined(pieces), np.concatenate(of_pieces)
    pieces.clear()
    rows = rows.take(_numbers(np.argsort(places, kind="stable")))
    ends = np.cumsum(np.bincount(places - step.start, minlength=len(step))).tolist()
    batch = _one_batch(rows)
    for start, end in pairwise([0, *ends]):
        writer.write_batch(batch.slice(start, end - start))
    return _without_rows(rows)


def _without_rows(table: pa.Table) -> pa.Table:
    """Return a table without rows but with the dictionaries of this one; a slice would keep all rows in memory."""
    return table.take(_numbers(np.empty(0, np.int64)))


def _numbers(values: Places) -> pa.Array:
    """Return integers as an Arrow array: pa.array would import pandas, 1.4 s in each worker."""
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def _written() -> pa.ipc.IpcWriteOptions:
    # Level 3 takes half as long again and saves 4 to 12 %. Deltas: values of a dictionary are found on the way.
    level = pa.Codec("zstd", compression_level=1)
    return pa.ipc.IpcWriteOptions(compression=level, use_threads=False, emit_dictionary_deltas=True)


def _one_batch(rows: pa.Table) -> pa.RecordBatch:
    columns = rows.combine_chunks().columns
    if any(column.num_chunks > 1 for column in columns):
        message = (
            f"some buckets have a column of more than 2 GiB in {rows.num_rows:,} rows. Remedy: more catalog.buckets"
        )
        raise CatalogError(message)
    return pa.RecordBatch.from_arrays([column.chunk(0) for column in columns], schema=rows.schema)
