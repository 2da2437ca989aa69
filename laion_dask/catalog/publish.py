"""Check that buckets fit into a worker's memory, and publish the shards of all buckets as one work list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.catalog import part
from laion_dask.runner.part import Done
from laion_dask.runner.stage import StageError
from laion_dask.storage.files import link


def check_that_buckets_fit(pairs: int, buckets: int) -> None:
    """Raise `StageError` if buckets are too large for a worker's memory, before any of them is loaded."""
    if pairs <= buckets * part.MAX_ROWS:
        return
    enough = 1 << (-(-pairs // part.MAX_ROWS) - 1).bit_length()
    message = (
        f"catalog.buckets = {buckets}: {pairs:,} pairs make buckets of more than {part.MAX_ROWS:,}, and a worker "
        f"needs about 1 kB for each. Remedy: {enough} or more; 500,000 pairs a bucket suit a worker of 1 GB"
    )
    raise StageError(message)


def number_shards(done: Sequence[Done], out: Path) -> int:
    """Link the shards of all buckets under consecutive numbers, join the removed pairs, and count the shards."""
    number = 0
    with pq.ParquetWriter(out / "removed.parquet", schema.REMOVED.schema, compression="zstd") as removed:
        for bucket in done:
            for path in sorted((bucket.folder / "shards").glob("*.parquet")):
                link(path, out / "shards" / f"{number:05d}.parquet")
                number += 1
            removed.write_table(schema.REMOVED.check(pq.ParquetFile(bucket.folder / "removed.parquet").read()))
    return number
