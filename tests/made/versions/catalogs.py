"""Tables of pairs in, what the catalog makes of them out: every bucket through a real PostgreSQL."""

from __future__ import annotations

import hashlib
import itertools
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
from laion_dask.blocklists.known_index import Index
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import database, pair_manifest, part, publish
from laion_dask.catalog.pair_manifest import Listed
from laion_dask.schema.ledger import Ledger
from laion_dask.storage.files import digest


@dataclass(frozen=True)
class Built:
    """What the catalog made of all waves and buckets, in their order."""

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
    lists: Sequence[Index] = (),
    fresh: bool = True,
) -> Built:
    """Write the tables as extraction does, a file each, and run every bucket of every crawl that they have.

    Each table is of one crawl; crawls come in the order of their WATs.
    """
    if fresh:
        empty(dsn)
    with tempfile.TemporaryDirectory() as folder:
        paths = [tables.write(Path(folder) / f"{place}.parquet", table) for place, table in enumerate(found)]
        waves: dict[str, list[Path]] = {}
        first = [table["wat_order"][0].as_py() if table.num_rows else 0 for table in found]
        for _, path, table in sorted(zip(first, paths, found, strict=True), key=lambda one: (one[0], one[1].name)):
            waves.setdefault(table["crawl"][0].as_py() if table.num_rows else "", []).append(path)
        digests_ = publish.load_digests([digest(*files) for files in waves.values()], buckets)
        database.prepare(dsn, buckets, removals, wats(*found), len(waves))
        counts, work, removed = [], [], []
        for wave, bucket in itertools.product(range(len(waves)), range(buckets)):
            out = Path(folder) / f"{wave}-{bucket}"
            before = [*zip(waves.values(), digests_, strict=True)][:wave]
            shape = {"bucket": bucket, "buckets": buckets, "shard_rows": shard_rows, "seed": seed, "lists": lists}
            counts.append(run(dsn, out, [*waves.values()][wave], digests_[wave], before=before, **shape))
            shards = [pq.read_table(path) for path in sorted((out / "shards").iterdir())]
            work.append([schema.WORK.check(table) for table in shards])
            removed.append(schema.REMOVED.check(pq.read_table(out / "removed.parquet")))
    return Built(counts, work, pa.concat_tables([schema.REMOVED.schema.empty_table(), *removed]))


def run(
    dsn: str,
    out: Path,
    files: Sequence[Path],
    digest: str,
    *,
    before: Sequence[tuple[Sequence[Path], str]] = (),
    bucket: int = 0,
    buckets: int = 1,
    shard_rows: int = 100,
    seed: int = 7,
    lists: Sequence[Index] = (),
) -> dict[str, Any]:
    """Run one bucket of a wave into a new folder and return its counts; `before` has the waves before it."""
    out.mkdir(parents=True)
    return part.catalog(
        out,
        bucket=bucket,
        buckets=buckets,
        waves=[manifest(out.parent, one) for one in (*(earlier for earlier, _ in before), files)],
        shard_rows=shard_rows,
        seed=seed,
        load_digests=[*(loaded for _, loaded in before), digest],
        dsn=dsn,
        lists=lists,
    )


def manifest(folder: Path, files: Sequence[Path]) -> Path:
    """List files of pairs as the stage does when there are few, and return the manifest."""
    return pair_manifest.write(folder / "manifests", [Listed.of(path, merged=False) for path in files])


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
