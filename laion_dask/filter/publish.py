"""Publish the verdicts of all shards, and prove that every pair of the catalog has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.blocklists import known_content, known_lists
from laion_dask.filter import part as filter_part
from laion_dask.filter import rules
from laion_dask.filter.sampling import balance_lists
from laion_dask.params import Params
from laion_dask.runner.part import Done
from laion_dask.runner.stage import data, home, metrics
from laion_dask.schema.ledger import Ledger, LedgerError
from laion_dask.storage.files import link, sha256


def publish(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the verdicts with those of pairs removed before the download; return the counts of rules and lists.

    Raises `LedgerError` unless every pair of the catalog has a verdict.
    """
    for part in done:
        link(part.folder / f"{part.part.name}.parquet", out / f"{part.part.name}.parquet")
    removed = pq.read_table(data("catalog") / "removed.parquet")
    shard = pa.array(np.full(removed.num_rows, -1, np.int32))
    none = pa.array(np.zeros(removed.num_rows, np.uint64))
    rows = {
        "uid": removed["uid"],
        "shard": shard,
        "split": removed["split"],
        "reason": removed["reason"],
        "rules": none,
        "stays": pa.nulls(removed.num_rows, pa.string()),
    }
    filter_part.write_verdicts(pa.table(rows), out / "removed.parquet")
    pairs = Ledger.from_dict(metrics("catalog")["pairs"])
    verdicts = sum(part.counts["verdicts"] for part in done) + removed.num_rows
    if verdicts != pairs.seen - pairs.dropped["duplicate_pair"]:
        message = f"filter: {verdicts:,} verdicts for {pairs.seen - pairs.dropped['duplicate_pair']:,} unique pairs"
        raise LedgerError(message)
    return {
        "verdicts": verdicts,
        "rules": _count_rules(settings, done),
        "files": _digests(settings),
        **_listed(settings, [part.counts["listed"] for part in done]),
    }


def _listed(settings: Params, counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the pairs in each list of images that came after the download, and describe all lists."""
    every = known_lists.compiled(settings.catalog.lists, home() / "lists")
    images = [entry for entry in every if not entry.of_urls]
    return {"listed": known_content.total(images, counts), "lists": known_lists.about(every)}


def _count_rules(settings: Params, done: Sequence[Done]) -> dict[str, dict[str, int | str]]:
    """Count what each rule drops, alone (own) and as the first, in the order of the bits."""
    by_rule: dict[str, dict[str, int | str]] = {}
    for name, (reason, bit) in rules.bits(settings.filter).items():
        counts = [count for part in done for count in part.counts["rules"] if count[0] == name]
        own, first = (sum(count[place] for count in counts) for place in (2, 3))
        by_rule[name] = {"reason": reason, "bit": bit, "own": own, "first": first}
    return by_rule


def _digests(settings: Params) -> dict[str, str]:
    """Return the digest of each file that a rule reads, for the manifest; lists of known content are left out."""
    lists = [Path(path) for _, path, kind in settings.filter.files() if kind == "folder"]
    paths = sorted({Path(path) for _, path, kind in settings.filter.files() if kind != "folder"})
    files = [file for path in paths for file in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]
    files += [file for folder in lists for file in balance_lists.files(folder).values()]
    return {file.as_posix(): sha256(file) for file in files}
