"""Scores in, a verdict for every pair of the catalog out: a task for each shard, then what only all shards can say."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.blocklists import known_content, known_lists, removal_ledger
from laion_dask.filter import duplicates, filter_checks, pool, rules, takedown, uid_sets
from laion_dask.filter import part as filter_part
from laion_dask.filter.rules import Files
from laion_dask.params import Params, filters
from laion_dask.runner.part import Done, Part
from laion_dask.schema.ledger import Ledger, LedgerError
from laion_dask.storage import embeddings
from laion_dask.storage.files import digest, link, sha256
from workflow.stage import Resources, Run, Stage, data, home, main, metrics

PLAN: Final = "filter-plan"
"""Folder beside the parts: prepared sets of uids, random batches, chances."""

Decisions = Mapping[str, filter_part.Decision]
"""What was decided over all shards, by the name of the shard."""


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; files are read and batches are drawn first."""
    wanted = settings.filter
    images = sorted(data("download").glob("*.parquet"))
    scores, groups = ([data(stage) / path.name for path in images] for stage in ("score", "group"))
    columns = filter_checks.joined(pq.read_schema(scores[0])) if scores else None
    if columns is not None:
        filter_checks.check(wanted, columns)
    plan = home() / "parts" / PLAN
    shutil.rmtree(plan, ignore_errors=True)
    files = read_files(settings, plan)
    batches = {
        one.column: pool.draw(one, scores, plan / one.column) for one in wanted.computed if one.kind == "negcliploss"
    }
    drawn = [path for one in batches.values() for path in sorted(one.folder.glob("*.npy"))]
    common = digest(wanted, files.digest, *drawn)
    asked = rules.columns(wanted, columns.names, files) if columns is not None else []
    # What duplicates are is asked of the groups later, over all shards.
    grouped = not rules.GROUPED.isdisjoint(asked)
    tables = zip(images, scores, groups, strict=True) if grouped else zip(images, scores, strict=True)
    read = [[*of_shard, *_arrays(wanted, place)] for place, of_shard in enumerate(tables)]
    with ThreadPoolExecutor() as threads:
        keys = threads.map(lambda paths: digest(*paths, common), read)
    todo = []
    for path, score, group, key in zip(images, scores, groups, keys, strict=True):
        args = {
            "name": path.stem,
            "images": path,
            "scores": score,
            "groups": group if grouped else None,
            "columns": asked,
            "settings": wanted,
            "files": files,
            "batches": batches,
        }
        todo.append(Part(path.stem, key, args, weight=path.stat().st_size))
    return todo


def _arrays(wanted: filters.Filter, place: int) -> list[Path]:
    """List the files with the embeddings of a shard that rules read; one without any image may have none."""
    store = data("score") / embeddings.STORE
    files = [embeddings.shard_file(store, name, place) for name in filter_part.arrays(wanted)]
    return [file for file in files if file.exists()]


def read_files(settings: Params, plan: Path) -> Files:
    """Prepare what the rules read beside the tables."""
    wanted = settings.filter
    ledger = Path(settings.catalog.removals)
    hashes = [removal for removal in removal_ledger.read(ledger) if removal.kind in {"md5", "sha256"}]
    gone = {kind: frozenset(removal.value for removal in hashes if removal.kind == kind) for kind in ("md5", "sha256")}
    removed = [known_lists.of_digests(kind, values, plan / "removed") for kind, values in gone.items() if values]
    listed = tuple(
        entry for entry in known_lists.compiled(settings.catalog.lists, home() / "lists") if not entry.of_urls
    )
    keep, drop = (
        tuple(uid_sets.prepare(Path(path), plan / "uids") for path in paths)
        for paths in (wanted.keep_uids, wanted.drop_uids)
    )
    others = [Path(path) for key, path, _ in wanted.files() if key.partition(".")[0] not in {"keep_uids", "drop_uids"}]
    # Not of the whole ledger: a removal by address takes out of judged shards what it names (takedown).
    hashed = {kind: sorted(values) for kind, values in gone.items()}
    return Files(digest(hashed, known_lists.about(listed), *others, *keep, *drop), keep, drop, tuple(removed), listed)


def decide_over_all(settings: Params, _: Resources, done: Sequence[Done], run: Run) -> Sequence[Done]:
    """Add the rules that need all shards, one after another: each sees what those before have kept."""
    wanted, first = settings.filter, {part.part.name: part.folder for part in done}
    bits = rules.bits(wanted)
    done = _take_out(settings, done, run)
    for step in _steps(wanted):
        judged = [_judged(part, first) for part in done]
        decisions = step(judged)
        todo = []
        for part, shard in zip(done, judged, strict=True):
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
                    "counts": part.counts["rules"],
                }
                key = digest(part.folder.name, [[rule, *_plain(decision)] for rule, decision in decided])
                todo.append(Part(shard.name, key, args, weight=part.part.weight))
        settled = {part.part.name: part for part in run(filter_part.settle, todo, {})} if todo else {}
        done = [_settled(settled.get(part.part.name, part), part) for part in done]
    return done


def _settled(part: Done, before: Done) -> Done:
    """Return a part with what was counted by list of known content, which no later rule changes."""
    return replace(part, counts={**part.counts, "listed": before.counts["listed"]})


def _take_out(settings: Params, done: Sequence[Done], run: Run) -> Sequence[Done]:
    """Take out what the ledger of removals names and the work list still had; only shards that have any are touched."""
    catalog = settings.catalog
    # Those before were left out of the work list: to look for them in every shard once more would find nothing.
    later = removal_ledger.after(removal_ledger.read(Path(catalog.removals)), catalog.removals_until)
    named = takedown.by_shard(
        takedown.matched(
            [line for line in later if line.kind in takedown.LATER],
            [data("download") / f"{part.part.name}.parquet" for part in done],
        )
    )
    todo = []
    for part in done:
        name = part.part.name
        if name in named:
            args = {
                "name": name,
                "verdicts": part.folder / f"{name}.parquet",
                "uids": named[name],
                "counts": part.counts["rules"],
                "bits": rules.bits(settings.filter),
            }
            key = digest(part.folder.name, "removed_later", named[name])
            todo.append(Part(name, key, args, weight=part.part.weight))
    settled = {part.part.name: part for part in run(takedown.take_out, todo, {})} if todo else {}
    return [_settled(settled.get(part.part.name, part), part) for part in done]


def _steps(wanted: filters.Filter) -> Iterator[Callable[[Sequence[pool.JudgedShard]], Mapping[str, Decisions]]]:
    """Yield what decides over all shards, in the order of the rules: decisions by the name of the rule."""
    for rule in wanted.top:
        yield functools.partial(_below, rule)
    if duplicates.reasons(wanted):
        yield functools.partial(_alike, wanted)
    if wanted.balance is not None:
        yield functools.partial(_unbalanced, wanted.balance)


def _below(rule: filters.Top, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    return {f"top_{rule.name}": _all(judged, pool.cut(rule, judged))}


def _all(judged: Sequence[pool.JudgedShard], decision: filter_part.Decision) -> Decisions:
    return {shard.name: decision for shard in judged}


def _alike(wanted: filters.Filter, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    groups = [data("group") / f"{shard.name}.parquet" for shard in judged]
    found = duplicates.find([shard.verdicts for shard in judged], groups, data("group"), wanted)
    return {
        reason: {name: filter_part.Losers(*lost) for name, lost in found.get(reason, {}).items()}
        for reason in duplicates.reasons(wanted)
    }


def _unbalanced(rule: filters.Balance, judged: Sequence[pool.JudgedShard]) -> Mapping[str, Decisions]:
    path = home() / "parts" / PLAN / "chances.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    pool.write_chances(rule, judged, path)
    return {"unbalanced": _all(judged, filter_part.Coins(path, rule.seed))}


def _judged(part: Done, first: Mapping[str, Path]) -> pool.JudgedShard:
    name = part.part.name
    return pool.JudgedShard(
        name, part.folder / f"{name}.parquet", first[name] / filter_part.PENDING / f"{name}.parquet"
    )


def _plain(decision: filter_part.Decision) -> list[object]:
    return list(vars(decision).values())


def add_removed(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add the pairs that were removed before download, and prove that every pair of the catalog has a verdict."""
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
        "rules": _rules(settings, done),
        "files": _digests(settings),
        **_listed(settings, [part.counts["listed"] for part in done]),
    }


def _listed(settings: Params, counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count what each list of images has that came after the download, and say what all lists are."""
    every = known_lists.compiled(settings.catalog.lists, home() / "lists")
    images = [entry for entry in every if not entry.of_urls]
    return {"listed": known_content.total(images, counts), "lists": known_lists.about(every)}


def _rules(settings: Params, done: Sequence[Done]) -> dict[str, dict[str, int | str]]:
    """Count what each rule drops, alone (own) and as the first, in the order of the bits."""
    found: dict[str, dict[str, int | str]] = {}
    for name, (reason, bit) in rules.bits(settings.filter).items():
        counts = [count for part in done for count in part.counts["rules"] if count[0] == name]
        own, first = (sum(count[place] for count in counts) for place in (2, 3))
        found[name] = {"reason": reason, "bit": bit, "own": own, "first": first}
    return found


def _digests(settings: Params) -> dict[str, str]:
    """Return the digest of each file that a rule reads, for the manifest; of lists of known content never an entry."""
    named = sorted({Path(path) for _, path, _ in settings.filter.files()})
    files = [file for path in named for file in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]
    return {file.as_posix(): sha256(file) for file in files}


STAGE = Stage(
    name="filter",
    unit="pairs",
    find_parts=shards,
    function=filter_part.judge,
    further=decide_over_all,
    publish=add_removed,
    follows=("pairs", "group", "images"),
)

if __name__ == "__main__":
    main(STAGE)
