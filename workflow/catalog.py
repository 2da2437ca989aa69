"""Stage catalog: load the pairs into PostgreSQL and write the work list in shards, one part for each bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.blocklists import known_content, known_lists, removal_ledger
from laion_dask.catalog import database, publish, reach
from laion_dask.catalog import part as catalog
from laion_dask.params import Params
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data, home
from laion_dask.storage.files import digest
from laion_dask.workers.pool import Pool
from workflow.program import main


@contextmanager
def postgresql(settings: Params, pool: Pool) -> Iterator[Resources]:
    """Open PostgreSQL: the one that LAION_DASK_DSN names, or the embedded one. All workers have to reach it."""

    def ask(addresses: list[str], function: Callable[..., object], *args: object) -> Mapping[str, object]:
        answers: Mapping[str, object] = pool.client.run(function, *args, workers=addresses, on_error="return")
        return answers

    with database.server(os.environ.get("LAION_DASK_DSN"), home() / "postgresql") as dsn:
        members = pool.settle()  # those that come later tell it with their first task
        reach.check_connections(dsn, min(pool.threads() if members else 0, settings.catalog.buckets))
        if members:
            reach.check_reach(dsn, {address: member.host for address, member in members.items()}, ask)
        yield {"dsn": dsn}


def buckets(settings: Params, resources: Resources) -> list[Part]:
    """One part for each bucket; it runs again when the database does not hold its rows any more."""
    rules = settings.catalog
    # Later removals are applied by the stage filter, so that the work list stays and nothing is downloaded again.
    ledger = removal_ledger.until(removal_ledger.read(Path(rules.removals)), rules.removals_until)
    taken = digest([[line.kind, line.value] for line in ledger if line.kind in catalog.KINDS])
    # Not by read_table: it imports pandas, which takes longer than a small run of this stage.
    wats = pq.ParquetFile(data("extract") / "reads.parquet").read(["order", "crawl", "wat", "pairs"])
    publish.check_that_buckets_fit(pc.sum(wats["pairs"]).as_py() or 0, rules.buckets)
    pairs = sorted((data("extract") / "pairs").glob("*.parquet"))
    pairs_digest = digest(*pairs)
    listed = [entry for entry in known_lists.compiled(rules.lists, home() / "lists") if entry.of_urls]
    held = database.prepare(resources["dsn"], rules.buckets, ledger, wats)
    todo = []
    for bucket in range(rules.buckets):
        load_digest = digest(pairs_digest, bucket, rules.buckets, known_lists.about(listed))
        args = {
            "bucket": bucket,
            "buckets": rules.buckets,
            "pairs": pairs,
            "shard_rows": rules.shard_rows,
            "seed": rules.seed,
            "load_digest": load_digest,
            "lists": listed,
        }
        key = digest(load_digest, rules.shard_rows, rules.seed, taken)
        todo.append(Part(f"{bucket:04d}", key, args, redo=held.get(bucket) != load_digest))
    return todo


def number_shards(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the work list, and count the pairs in each list of known content."""
    shards = publish.number_shards(done, out)
    listed = [entry for entry in known_lists.compiled(settings.catalog.lists, home() / "lists") if entry.of_urls]
    counts = known_content.total(listed, (part.counts["listed"] for part in done))
    return {"shards": shards, "listed": counts, "lists": known_lists.about(listed)}


STAGE = Stage(
    name="catalog",
    unit="pairs",
    find_parts=buckets,
    function=catalog.catalog,
    publish=number_shards,
    resources=postgresql,
    follows=("pairs", "extract", "links"),
)

if __name__ == "__main__":
    main(STAGE)
