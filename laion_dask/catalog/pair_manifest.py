"""Write and read the manifest of a crawl's pairs: the files that every bucket reads, listed once for all tasks.

With a list of 90,000 paths in each of 4,096 tasks, the scheduler would hold 30 GB of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pyarrow as pa

from laion_dask.catalog import merged_pairs, pair_files
from laion_dask.storage.files import digest
from laion_dask.workers import checks


class Listed(NamedTuple):
    """A file of a manifest."""

    path: str
    merged: bool
    """It is of `merged_pairs`; the others are as the stage extract writes them."""
    bytes: int
    changed: float
    """Time of its last change, as the driver sees it."""

    @classmethod
    def of(cls, path: Path, *, merged: bool) -> Listed:
        """Return an entry for a file."""
        about = path.stat()
        return cls(str(path.absolute()), merged, about.st_size, about.st_mtime)


def write(folder: Path, files: Sequence[Listed]) -> Path:
    """Write a manifest under a digest of its content, and return its path: what a task has begun to read stays."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest(files)}.json"
    fresh = path.with_name(f"{path.stem}.{uuid4().hex}.new")
    fresh.write_text(json.dumps(files))
    fresh.replace(path)
    return path


def read(manifest: Path, bucket: int, buckets: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of one bucket from all files of a manifest: the table of `pair_files.read` for the same WATs.

    With `columns`, only these. Raises `schema.SchemaError` for other columns than schema.PAIRS, `CatalogError`, and
    `WorkerRefusedError` where a file is not what the driver has listed.
    """
    listed = [Listed(*entry) for entry in json.loads(manifest.read_bytes())]
    checks.check_inputs({Path(one.path): (one.bytes, one.changed) for one in listed})
    return pair_files.joined((piece for one in listed for piece in _pieces(one, bucket, buckets, columns)), columns)


def _pieces(one: Listed, bucket: int, buckets: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    if not one.merged:
        yield from pair_files.pieces(Path(one.path), *pair_files.uid_range(bucket, buckets), columns)
        return
    rows = merged_pairs.read(Path(one.path), bucket, buckets, columns)
    if rows.num_rows:
        yield rows
