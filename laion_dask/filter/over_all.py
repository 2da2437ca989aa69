"""Decide the rules that need all shards: removals by picture, top fractions, duplicates, balancing, sampling.

Each step reads the verdicts of all shards, and runs a part for each shard in which it changes any.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from laion_dask.blocklists import removal_ledger
from laion_dask.filter import duplicates, part, pool, rules, takedown
from laion_dask.params import Params, filters
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Run, data
from laion_dask.schema.values import SAMPLED
from laion_dask.storage.files import digest, link

_BALANCE: Final = "balance.json"
_SAMPLE: Final = "sample.json"
Decisions = Mapping[str, part.Decision]
"""Decisions by the name of the shard."""
Step = Callable[[Sequence[pool.JudgedShard]], Mapping[str, Decisions]]
"""Takes all shards; returns decisions by the name of the rule."""


def take_out(settings: Params, done: Sequence[Done], run: Run) -> Sequence[Done]:
    """Drop the pairs whose picture a removal names; only shards with such a pair are written again."""
    ledger = removal_ledger.read(Path(settings.catalog.removals))
    uids = takedown.by_shard(
        takedown.matched(
            [line for line in ledger if line.kind in takedown.OF_THE_PICTURE],
            [data("download") / f"{one.part.name}.parquet" for one in done],
        )
    )
    todo = []
    for one in done:
        name = one.part.name
        if name in uids:
            args = {
                "name": name,
                "verdicts": one.folder / f"{name}.parquet",
                "uids": uids[name],
                "counts": one.counts["rules"],
                "bits": rules.bits(settings.filter),
            }
            key = digest(one.folder.name, "removed_later", uids[name])
            todo.append(Part(name, key, args, weight=one.part.weight))
    settled = {one.part.name: one for one in run(takedown.take_out, todo, {})} if todo else {}
    return [_settled(settled.get(one.part.name, one), one) for one in done]


def steps(wanted: filters.Filter, plan: Path) -> Iterator[Step]:
    """Yield the rules that need all shards, in the order of the rules; `plan` is a folder for their files."""
    for rule in wanted.top:
        yield functools.partial(_below, rule)
    if duplicates.reasons(wanted):
        yield functools.partial(_alike, wanted)
    if wanted.balance is not None:
        yield functools.partial(_unbalanced, wanted.balance, plan)
    if wanted.sample is not None:
        yield functools.partial(_not_drawn, wanted.sample, plan)


def apply(
    step: Step, wanted: filters.Filter, done: Sequence[Done], first: Mapping[str, Path], run: Run
) -> Sequence[Done]:
    """Run one step over all shards, and parts that add its decisions to the verdicts of earlier steps.

    `first` has the folder of each shard's first part, by name, with the values that only these steps need.
    """
    bits = rules.bits(wanted)
    judged = [_judged(one, first) for one in done]
    decisions = step(judged)
    todo = []
    for one, shard in zip(done, judged, strict=True):
        decided = [
            ((name, *bits[name]), by_shard[shard.name])
            for name, by_shard in decisions.items()
            if shard.name in by_shard
        ]
        if decided:
            args = {
                "name": shard.name,
                "verdicts": shard.verdicts,
                "pending": shard.pending,
                "decided": decided,
                "counts": one.counts["rules"],
            }
            key = digest(one.folder.name, [[rule, *_plain(decision)] for rule, decision in decided])
            todo.append(Part(shard.name, key, args, weight=one.part.weight))
    settled = {one.part.name: one for one in run(part.settle, todo, {})} if todo else {}
    return [_settled(settled.get(one.part.name, one), one) for one in done]


def _settled(done: Done, before: Done) -> Done:
    """Return a part with the previous part's counts by list of known content, which later rules do not change."""
    return replace(done, counts={**done.counts, "listed": before.counts["listed"]})


def _below(rule: filters.Top, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    return {f"top_{rule.name}": _all(judged, pool.cut(rule, judged))}


def _all(judged: Sequence[pool.JudgedShard], decision: part.Decision) -> Decisions:
    return {shard.name: decision for shard in judged}


def _alike(wanted: filters.Filter, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    groups = [data("group") / f"{shard.name}.parquet" for shard in judged]
    dropped = duplicates.find([shard.verdicts for shard in judged], groups, data("group"), wanted)
    return {
        reason: {name: part.Losers(*lost) for name, lost in dropped.get(reason, {}).items()}
        for reason in duplicates.reasons(wanted)
    }


def _unbalanced(rule: filters.Balance, plan: Path, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    path = plan / "chances.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = pool.write_chances(rule, judged, path)
    if found.tail is not None:
        text = json.dumps({"tail": found.tail, "t": found.t}, sort_keys=True)
        (plan / _BALANCE).write_text(text, encoding="utf-8")
    return {"unbalanced": _all(judged, part.Coins(path, rule.seed, found.first))}


def _not_drawn(rule: filters.Sample, plan: Path, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    counts = pool.write_sample(rule, judged, plan)
    (plan / _SAMPLE).write_text(json.dumps(counts), encoding="utf-8")
    drawn = plan / pool.DRAWN
    return {"not_sampled": _all(judged, part.Drawn(drawn, digest(drawn)))}


def publish(wanted: filters.Filter, plan: Path, out: Path) -> dict[str, Any]:
    """Publish what the steps wrote beside the verdicts: the sample of filter.sample; return counts for the metrics.

    These are the sample's, and the tail share and the thresholds of filter.balance.by_language.
    """
    counts: dict[str, Any] = {}
    if wanted.balance is not None and wanted.balance.by_language is not None:
        counts["balance"] = json.loads((plan / _BALANCE).read_text(encoding="utf-8"))
    if wanted.sample is not None:
        link(plan / SAMPLED, out / SAMPLED)
        counts["sample"] = json.loads((plan / _SAMPLE).read_text(encoding="utf-8"))
    return counts


def _judged(done: Done, first: Mapping[str, Path]) -> pool.JudgedShard:
    name = done.part.name
    return pool.JudgedShard(name, done.folder / f"{name}.parquet", first[name] / part.PENDING / f"{name}.parquet")


def _plain(decision: part.Decision) -> list[object]:
    return list(vars(decision).values())
