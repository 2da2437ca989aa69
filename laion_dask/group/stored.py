"""Read uids and embeddings of images by number from the files of earlier parts, and write tables of edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.group import clusters, numbering, slices
from laion_dask.group.part import VECTORS
from laion_dask.schema import groups
from laion_dask.storage.uids import hex_texts

_ROW_GROUP: Final = 100_000


class Images:
    """The images by number: their uids, and their embeddings from the shards' arrays.

    Files are mapped only while rows are read. Otherwise every shard would be an open file, and every page read would
    count as memory of the worker.
    """

    def __init__(self, numbered: Sequence[Path], parts: Sequence[Path]) -> None:
        self._numbered, self._parts = numbered, parts

    def uids(self, images: np.ndarray) -> pa.StringArray:
        """Return the uids of images, by number."""
        return hex_texts(self._of_ranges(numbering.UIDS, images))

    def placed(self, images: np.ndarray) -> np.ndarray:
        """Return where images are, by number: `slices.PLACED` (images,)."""
        return self._of_ranges(numbering.PLACES, images)

    def _of_ranges(self, name: str, images: np.ndarray) -> np.ndarray:
        place = images & ((1 << slices.RANGE_BITS) - 1)
        return _rows([folder / name for folder in self._numbered], images >> slices.RANGE_BITS, place)

    def stored(self, placed: np.ndarray) -> np.ndarray:
        """Return the stored embeddings, float16 (images, features)."""
        if not self._parts:
            return np.zeros((0, 0), np.float16)
        return _rows([part / VECTORS for part in self._parts], placed["shard"], placed["place"])

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (images, features), unit length, by number."""
        return clusters.unit(self.stored(self.placed(images)))


def _rows(paths: Sequence[Path], files: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return row rows[i] of the array in paths[files[i]]; all arrays have one dtype and width."""
    order = np.lexsort((rows, files))
    first, sizes = slices.runs(files[order])
    like = np.load(paths[int(files[order[0]]) if len(order) else 0], mmap_mode="r")
    found = np.empty((len(rows), *like.shape[1:]), like.dtype)
    del like
    for low, size in zip(first.tolist(), sizes.tolist(), strict=True):
        mine = order[low : low + size]
        found[mine] = np.load(paths[int(files[mine[0]])], mmap_mode="r")[rows[mine]]
    return found


def write_edges(path: Path, images: Images, found: Iterable[tuple[Any, Any, Any, Any]]) -> None:
    """Write edges as blocks of a, b (numbers of images), distance (or None) and cosine. Schema EDGES."""
    table = groups.EDGES
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for a, b, distance, cosine in found:
            if len(a) == 0:
                continue
            bits = pa.nulls(len(a), pa.int32()) if distance is None else pa.array(distance, pa.int32())
            columns = [images.uids(a), images.uids(b), bits, pa.array(cosine, pa.float32())]
            writer.write_table(table.check(pa.table(columns, names=table.names)), row_group_size=_ROW_GROUP)


def join_whole(paths: Iterable[Path], out: Path) -> None:
    """Join tables of edges in full row groups, so that the file does not depend on how edges were cut into tables."""
    with pq.ParquetWriter(out, groups.EDGES.schema, compression="zstd") as writer:
        for table in _full_groups(paths):
            writer.write_table(table.combine_chunks(), row_group_size=_ROW_GROUP)


def _full_groups(paths: Iterable[Path]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    rows = 0
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches():
            table = pa.Table.from_batches([batch])
            while rows + table.num_rows >= _ROW_GROUP:
                cut = _ROW_GROUP - rows
                yield pa.concat_tables([*waiting, table.slice(0, cut)])
                waiting, rows, table = [], 0, table.slice(cut)
            waiting.append(table)
            rows += table.num_rows
    if rows:
        yield pa.concat_tables(waiting)


def full(b: np.ndarray, neighbours: int) -> int:
    """Count the images with the maximum of recorded neighbours, which may have more."""
    return int((np.unique(b, return_counts=True)[1] >= neighbours).sum())
