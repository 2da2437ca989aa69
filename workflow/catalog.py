"""Pairs in, the work list in shards out: one task for each bucket, all inside PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from laion_dask import catalog, parts, removals, schema
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from workflow.stage import Resources, Stage, data, home, main


@contextmanager
def database(_: Params, __: Client) -> Iterator[Resources]:
    """Open PostgreSQL: the one that LAION_DASK_DSN names, or the embedded one."""
    with catalog.server(os.environ.get("LAION_DASK_DSN"), home() / "postgresql") as dsn:
        yield {"dsn": dsn}


def buckets(settings: Params, resources: Resources) -> list[Part]:
    """One part for each bucket; it runs again when the database does not hold its rows any more."""
    rules = settings.catalog
    ledger = removals.read(Path(rules.removals))
    pairs = sorted(data("extract").glob("*.parquet"))
    pairs_digest = parts.digest(*pairs)
    held = catalog.prepare(resources["dsn"], rules.buckets, ledger)
    todo = []
    for bucket in range(rules.buckets):
        load_digest = parts.digest(pairs_digest, bucket, rules.buckets)
        args = {
            "bucket": bucket,
            "buckets": rules.buckets,
            "pairs": pairs,
            "shard_rows": rules.shard_rows,
            "seed": rules.seed,
            "load_digest": load_digest,
        }
        key = parts.digest(load_digest, rules.shard_rows, rules.seed, Path(rules.removals))
        todo.append(Part(f"{bucket:04d}", key, args, redo=held.get(bucket) != load_digest))
    return todo


def number_shards(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Give the shards of all buckets numbers without gaps, and join what was removed."""
    shards = [path for part in done for path in sorted((part.folder / "shards").glob("*.parquet"))]
    for number, path in enumerate(shards):
        parts.link(path, out / "shards" / f"{number:05d}.parquet")
    removed = pa.concat_tables(pq.read_table(part.folder / "removed.parquet") for part in done)
    pq.write_table(schema.REMOVED.check(removed), out / "removed.parquet", compression="zstd")
    return {"shards": len(shards)}


STAGE = Stage(
    name="catalog",
    unit="pairs",
    find_parts=buckets,
    function=catalog.catalog,
    publish=number_shards,
    resources=database,
    follows=("pairs", "extract", "links"),
)

if __name__ == "__main__":
    main(STAGE)
