"""Tables of pairs in, what the catalog makes of them out: every bucket through a real PostgreSQL."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from made.versions import tables

from laion_dask import schema
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import database, part
from laion_dask.schema.ledger import Ledger
from laion_dask.storage.files import digest


@dataclass(frozen=True)
class Built:
    """What the catalog made of all buckets, in their order."""

    counts: list[dict[str, Any]]
    work: list[list[pa.Table]]
    removed: pa.Table

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for shards in self.work for table in shards for row in table.to_pylist()]

    @property
    def urls(self) -> list[str]:
        return [row["url"] for row in self.rows]

    @property
    def ledger(self) -> Ledger:
        return Ledger.total(counts["pairs"] for counts in self.counts)


def empty(dsn: str) -> None:
    """Drop all that the catalog has made."""
    with psycopg.connect(dsn) as connection:
        connection.execute("set client_min_messages = warning")
        connection.execute("drop schema if exists laion_dask cascade")


def build(
    dsn: str,
    *found: pa.Table,
    buckets: int = 1,
    shard_rows: int = 10_000,
    seed: int = 7,
    removals: Sequence[Removal] = (),
    fresh: bool = True,
) -> Built:
    """Write the tables as extraction does, a file each, and run every bucket."""
    if fresh:
        empty(dsn)
    with tempfile.TemporaryDirectory() as folder:
        paths = [tables.write(Path(folder) / f"{place}.parquet", table) for place, table in enumerate(found)]
        inputs = digest(*paths, buckets)
        database.prepare(dsn, buckets, removals, wats(*found))
        counts, work, removed = [], [], []
        for bucket in range(buckets):
            out = Path(folder) / f"bucket-{bucket}"
            counts.append(
                run(dsn, out, paths, inputs, bucket=bucket, buckets=buckets, shard_rows=shard_rows, seed=seed)
            )
            shards = [pq.read_table(path) for path in sorted((out / "shards").iterdir())]
            work.append([schema.WORK.check(table) for table in shards])
            removed.append(schema.REMOVED.check(pq.read_table(out / "removed.parquet")))
    return Built(counts, work, pa.concat_tables(removed))


def run(
    dsn: str,
    out: Path,
    files: Sequence[Path],
    digest: str,
    *,
    bucket: int = 0,
    buckets: int = 1,
    shard_rows: int = 100,
    seed: int = 7,
) -> dict[str, Any]:
    """Run one bucket into a new folder and return its counts."""
    out.mkdir(parents=True)
    return part.catalog(
        out,
        bucket=bucket,
        buckets=buckets,
        pairs=files,
        shard_rows=shard_rows,
        seed=seed,
        load_digest=digest,
        dsn=dsn,
    )


def wats(*found: pa.Table) -> pa.Table:
    """List the WATs that pairs come from, as schema.READS does."""
    names = ["wat_order", "crawl", "wat"]
    rows = pa.concat_tables([schema.PAIRS.schema.empty_table(), *found]).select(names)
    return rows.group_by(names).aggregate([]).rename_columns(["order", "crawl", "wat"])


def of_host(host: str, times: int) -> list[dict[str, Any]]:
    """Make pairs of one host, each with its own address."""
    return [{"host": host, "url": f"https://{host}/{place}.jpg"} for place in range(times)]


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every Parquet file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.parquet")
    }
