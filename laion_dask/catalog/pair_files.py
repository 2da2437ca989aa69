"""Read the pairs of one bucket out of files that the stage extract has sorted by uid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.catalog.connections import CatalogError

REPEATED: Final = ("language", "split", "license", "crawl", "wat", "page_signals")
"""Columns of few values and many rows: as dictionaries they take four bytes a row."""
BAD_UID: Final = "a uid is not 32 hex digits. Remedy: run the stage extract again; its files are not what it writes"

_BATCH_ROWS: Final = 4096


def uid_range(bucket: int, buckets: int) -> tuple[str, str]:
    """Return the first uid of a bucket and the first one after it, as hex strings that compare like uids."""
    width = 16**8 // buckets
    after = "g" if bucket + 1 == buckets else f"{(bucket + 1) * width:08x}"
    return f"{bucket * width:08x}", after


def read(pairs: Sequence[Path], bucket: int, buckets: int) -> pa.Table:
    """Return the rows of one bucket from files that are sorted by uid, in the order of the files.

    Columns of schema.PAIRS, those with few values as dictionaries. Raises `schema.SchemaError` for other columns.
    """
    return joined(piece for path in pairs for piece in pieces(path, *uid_range(bucket, buckets)))


def joined(found: Iterable[pa.Table], columns: Sequence[str] | None = None) -> pa.Table:
    """Return tables as one, each column in one chunk; an empty one where there is none.

    They have these columns of schema.PAIRS, or all of them: then others raise `schema.SchemaError`.
    """
    tables = list(found)
    if not tables:
        return schema.PAIRS.schema.empty_table().select(columns or schema.PAIRS.names)
    rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    if columns is None:
        schema.PAIRS.check(plain(rows.slice(0, 0), schema.PAIRS))
    return rows


def pieces(path: Path, first: str, after: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of a range of uids from each row group, with these columns or all.

    Row groups outside the range are not read.
    """
    with pq.ParquetFile(path, read_dictionary=list(REPEATED)) as file:
        place = file.schema_arrow.get_field_index("uid")
        for group in range(file.num_row_groups):
            stats = file.metadata.row_group(group).column(place).statistics
            if stats is not None and stats.has_min_max and (stats.max < first or stats.min >= after):
                continue
            uids = fixed_width(file.read_row_group(group, columns=["uid"], use_threads=False)["uid"])
            start, end = np.searchsorted(uids, [first.encode(), after.encode()]).tolist()
            batches, done = [], 0
            if start >= end:
                continue
            for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                if done + batch.num_rows > start:
                    batches.append(batch.slice(max(start - done, 0), end - max(start, done)))
                done += batch.num_rows
                if done >= end:
                    break
            if batches:
                # A copy: a slice would keep its whole batch in memory.
                yield pa.Table.from_batches(batches).combine_chunks()


def fixed_width(uids: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """Return uids (rows,) as 32 bytes each, without a copy; `CatalogError` where one has another length."""
    if len(uids) == 0:
        return np.empty(0, "S32")
    array = uids.chunk(0) if uids.num_chunks == 1 else pa.concat_arrays(uids.chunks)
    ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    if array.null_count or (np.diff(ends) != 32).any():
        raise CatalogError(BAD_UID)
    return np.frombuffer(array.buffers()[2], "S32", len(array), int(ends[0]))


def plain(table: pa.Table, kind: schema.Table) -> pa.Table:
    """Return the columns of a schema, in its order and with dictionaries decoded; its check finds missing ones."""
    columns = {name: table[name] for name in kind.names if name in table.column_names}
    return pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in columns.items()
        }
    )
