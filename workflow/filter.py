"""Scores in, a verdict for every pair of the catalog out: one task for each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import duplicates, parts, removals, schema, select
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from laion_dask.verdict import Ledger, LedgerError
from workflow.stage import Resources, Stage, data, home, main, metrics


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; duplicates are looked for over all of them first."""
    rules = settings.filter
    ledger = Path(settings.catalog.removals)
    hashes = [removal for removal in removals.read(ledger) if removal.kind in {"md5", "sha256"}]
    removed = {
        kind: frozenset(removal.value for removal in hashes if removal.kind == kind) for kind in ("md5", "sha256")
    }
    listed = select.read_hash_lists(Path(path) for path in rules.hash_lists)
    images = sorted(data("download").glob("*.parquet"))
    scores = [data("score") / path.name for path in images]
    groups = [data("group") / path.name for path in images]
    losers = home() / "parts" / "filter-losers.parquet"
    losers.parent.mkdir(parents=True, exist_ok=True)
    near = duplicates.edges(data("group"), rules)
    judge = partial(select.judge, settings=rules, listed=listed, removed=removed)
    lost = duplicates.find(images, scores, groups, near, rules, columns=select.IMAGE_COLUMNS, judge=judge)
    pq.write_table(lost, losers)
    common = parts.digest(rules, losers, ledger, *(Path(path) for path in rules.hash_lists))
    todo = []
    for path, score, group in zip(images, scores, groups, strict=True):
        args = {
            "name": path.stem,
            "images": path,
            "scores": score,
            "groups": group,
            "settings": rules,
            "losers_file": losers,
            "listed": listed,
            "removed": removed,
        }
        todo.append(Part(path.stem, parts.digest(path, score, group, common), args, weight=path.stat().st_size))
    return todo


def add_removed(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add the pairs that were removed before download, and prove that every pair of the catalog has a verdict."""
    parts.publish_files(done, out)
    removed = pq.read_table(data("catalog") / "removed.parquet")
    shard = pa.array(np.full(removed.num_rows, -1, np.int32))
    stays = pa.nulls(removed.num_rows, pa.string())
    columns = [removed["uid"], shard, removed["split"], removed["reason"], stays]
    rows = pa.table(columns, names=schema.VERDICTS.names)
    pq.write_table(schema.VERDICTS.check(rows), out / "removed.parquet", compression="zstd")
    pairs = Ledger.from_dict(metrics("catalog")["pairs"])
    verdicts = sum(part.counts["verdicts"] for part in done) + removed.num_rows
    if verdicts != pairs.seen - pairs.dropped["duplicate_pair"]:
        message = f"filter: {verdicts:,} verdicts for {pairs.seen - pairs.dropped['duplicate_pair']:,} unique pairs"
        raise LedgerError(message)
    return {"verdicts": verdicts}


STAGE = Stage(
    name="filter",
    unit="pairs",
    find_parts=shards,
    function=select.select,
    publish=add_removed,
    follows=("pairs", "group", "images"),
)

if __name__ == "__main__":
    main(STAGE)
