"""Stage catalog: merge pairs by bucket, load them into PostgreSQL, write the work list by wave and bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask.blocklists import known_content, known_lists, removal_ledger
from laion_dask.catalog import database, merge_plan, merged_pairs, pair_manifest, publish, reach
from laion_dask.catalog import part as catalog
from laion_dask.params import Params
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Run, Stage, data, home
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


def merge(settings: Params, run: Run) -> Resources:
    """Merge the pairs of crawls of many WATs by bucket; return what buckets read of each crawl.

    These are the crawls in their order, manifests of files, and digests of their pairs, which do not depend on how the
    files are merged.
    """
    work, rules = home() / "parts", settings.catalog
    waves = merge_plan.by_crawl(merge_plan.listed(data("extract"), work / "extract"))
    publish.check_that_buckets_fit([sum(file.pairs for file in files) for files in waves.values()], rules.buckets)
    groups = {crawl: merge_plan.groups(files, rules.buckets) for crawl, files in waves.items()}
    todo = [part for of_crawl in groups.values() for part in merge_plan.parts(of_crawl, rules.buckets)]
    merged = run(merged_pairs.merge, todo, {}) if todo else []
    folder = work / "catalog" / "manifests"
    manifests = [pair_manifest.write(folder, merge_plan.entries(of_crawl, merged)) for of_crawl in groups.values()]
    contents = [digest(*(file.sha256 for file in files)) for files in waves.values()]
    return {"crawls": [*waves], "manifests": manifests, "contents": contents}


def buckets(settings: Params, resources: Resources) -> list[Part]:
    """One part for each wave and bucket; it runs again when the database does not hold its rows any more."""
    rules, crawls = settings.catalog, resources["crawls"]
    ledger = removal_ledger.read(Path(rules.removals))
    taken = digest([[line.kind, line.value] for line in ledger if line.kind in catalog.KINDS])
    # Not by read_table: it imports pandas, which takes longer than a small run of this stage.
    wats = pq.ParquetFile(data("extract") / "reads.parquet").read(["order", "crawl", "wat"])
    listed = [entry for entry in known_lists.compiled(rules.lists, home() / "lists") if entry.of_urls]
    held = database.prepare(resources["dsn"], rules.buckets, ledger, wats, len(crawls))
    todo = []
    for bucket in range(rules.buckets):
        load_digests = publish.load_digests(resources["contents"], [bucket, rules.buckets, known_lists.about(listed)])
        for number, crawl in enumerate(crawls):
            args = {
                "bucket": bucket,
                "buckets": rules.buckets,
                "waves": resources["manifests"][: number + 1],
                "shard_rows": rules.shard_rows,
                "seed": rules.seed,
                "load_digests": load_digests[: number + 1],
                "lists": listed,
            }
            key = digest(load_digests[number], rules.shard_rows, rules.seed, taken)
            redo = held.get((bucket, number)) != load_digests[number]
            todo.append(Part(publish.name(crawl, number, bucket), key, args, redo=redo))
    return todo


def number_shards(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the work list, and count the pairs of each crawl and those in each list of known content."""
    shards = publish.number_shards(done, out)
    listed = [entry for entry in known_lists.compiled(settings.catalog.lists, home() / "lists") if entry.of_urls]
    counts = known_content.total(listed, (part.counts["listed"] for part in done))
    return {"waves": publish.by_wave(done), "shards": shards, "listed": counts, "lists": known_lists.about(listed)}


STAGE = Stage(
    name="catalog",
    unit="pairs",
    before=merge,
    find_parts=buckets,
    function=catalog.catalog,
    publish=number_shards,
    resources=postgresql,
    follows=("pairs", "extract", "links"),
)

if __name__ == "__main__":
    main(STAGE)
