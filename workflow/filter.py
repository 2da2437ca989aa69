"""Scores in, a verdict for every pair of the catalog out: one task for each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import keywords, known, lists, parts, removals, schema, select
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from laion_dask.verdict import Ledger, LedgerError
from workflow.stage import Resources, Stage, data, home, main, metrics


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; equal images are looked for over all of them first."""
    rules = settings.filter
    ledger = Path(settings.catalog.removals)
    hashes = [removal for removal in removals.read(ledger) if removal.kind in {"md5", "sha256"}]
    removed = {
        kind: frozenset(removal.value for removal in hashes if removal.kind == kind) for kind in ("md5", "sha256")
    }
    listed = [entry for entry in lists.compiled(settings.catalog.lists, home() / "lists") if not entry.of_urls]
    keywords.check(rules.keywords)
    images = sorted(data("download").glob("*.parquet"))
    scores = [data("score") / path.name for path in images]
    winners = home() / "parts" / "filter-winners.parquet"
    winners.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(select.winners(images, scores, rules, listed, removed), winners)
    common = parts.digest(rules, winners, ledger, lists.about(listed), *(Path(entry.file) for entry in rules.keywords))
    todo = []
    for path, score in zip(images, scores, strict=True):
        args = {
            "name": path.stem,
            "images": path,
            "scores": score,
            "settings": rules,
            "winners_file": winners,
            "listed": listed,
            "removed": removed,
        }
        todo.append(Part(path.stem, parts.digest(path, score, common), args, weight=path.stat().st_size))
    return todo


def add_removed(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add the pairs that were removed before download, and prove that every pair of the catalog has a verdict."""
    parts.publish_files(done, out)
    removed = pq.read_table(data("catalog") / "removed.parquet")
    shard = pa.array(np.full(removed.num_rows, -1, np.int32))
    rows = pa.table({"uid": removed["uid"], "shard": shard, "split": removed["split"], "reason": removed["reason"]})
    pq.write_table(schema.VERDICTS.check(rows), out / "removed.parquet", compression="zstd")
    pairs = Ledger.from_dict(metrics("catalog")["pairs"])
    verdicts = sum(part.counts["verdicts"] for part in done) + removed.num_rows
    if verdicts != pairs.seen - pairs.dropped["duplicate_pair"]:
        message = f"filter: {verdicts:,} verdicts for {pairs.seen - pairs.dropped['duplicate_pair']:,} unique pairs"
        raise LedgerError(message)
    listed = lists.compiled(settings.catalog.lists, home() / "lists")
    images = (entry for entry in listed if not entry.of_urls)
    by_list = known.total(images, (part.counts["listed"] for part in done))
    return {"verdicts": verdicts, "listed": by_list, "lists": lists.about(listed)}


STAGE = Stage(
    name="filter",
    unit="pairs",
    find_parts=shards,
    function=select.select,
    publish=add_removed,
    follows=("pairs", "score", "images"),
)

if __name__ == "__main__":
    main(STAGE)
