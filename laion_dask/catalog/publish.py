"""Check that buckets fit into a worker's memory, and publish the shards of all waves and buckets as one work list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.catalog import part
from laion_dask.runner.part import Done
from laion_dask.runner.stage import StageError
from laion_dask.storage import numbered
from laion_dask.storage.files import digest, link


def load_digests(contents: Sequence[str], shape: object) -> list[str]:
    """Return for each wave a digest of its content and of those before; `shape` is what else determines the rows."""
    found: list[str] = []
    for content in contents:
        found.append(digest(found[-1] if found else None, content, shape))
    return found


def name(crawl: str, wave: int, bucket: int) -> str:
    """Return the name of a part: parts are published in the order of their names, wave by wave."""
    return f"{wave:04d}-{bucket:05d}-{crawl}"


def check_that_buckets_fit(pairs: Sequence[int], buckets: int) -> None:
    """Raise `StageError` if buckets of a wave are too large for a worker's memory, before any of them is loaded.

    `pairs` are those of each wave.
    """
    largest = max(pairs, default=0)
    if largest <= buckets * part.MAX_ROWS:
        return
    enough = 1 << (-(-largest // part.MAX_ROWS) - 1).bit_length()
    message = (
        f"catalog.buckets = {buckets}: {largest:,} pairs of a crawl make buckets of more than {part.MAX_ROWS:,}, and a "
        f"worker needs about 1 kB for each. Remedy: {enough} or more; 500,000 pairs a bucket suit a worker of 1 GB"
    )
    raise StageError(message)


def number_shards(done: Sequence[Done], out: Path) -> int:
    """Link the shards of all buckets under consecutive numbers, join the pairs taken out, and count the shards.

    `done` is in the order of the parts' names: a further wave leaves the numbers of those before.
    """
    found = [path for bucket in done for path in numbered.tables(bucket.folder / "shards")]
    for number, path in enumerate(found):
        link(path, out / "shards" / f"{numbered.name(number, len(found))}.parquet")
    with pq.ParquetWriter(out / "removed.parquet", schema.REMOVED.schema, compression="zstd") as removed:
        for bucket in done:
            removed.write_table(schema.REMOVED.check(pq.ParquetFile(bucket.folder / "removed.parquet").read()))
    return len(found)


def by_wave(done: Sequence[Done]) -> dict[str, dict[str, Any]]:
    """Return by crawl: pairs found, how many of these are new, how many pairs an earlier crawl had, and shards."""
    found: dict[str, dict[str, Any]] = {}
    for one in done:
        crawl = one.part.name.split("-", 2)[2]
        counts = found.setdefault(crawl, {"pairs": 0, "new": 0, "repeated": 0, "shards": 0})
        counts["pairs"] += one.counts["pairs"]["seen"]
        counts["new"] += one.counts["new"]
        counts["repeated"] += one.counts["repeated"]
        counts["shards"] += len(numbered.tables(one.folder / "shards"))
    return found
