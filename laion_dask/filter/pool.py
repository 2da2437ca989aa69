"""Compute the inputs of rules over all shards: cuts of top fractions, probabilities of entries, random batches.

Each function reads one shard after another and keeps counts, not rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zarr

from laion_dask.filter import clip_losses, top_fraction, uid_sets
from laion_dask.filter.part import ENTRIES, LIST, Batches, Cut, read_file
from laion_dask.filter.sampling import balance, balance_lists, soft_cap
from laion_dask.params import filters
from laion_dask.schema.reasons import KEEP, RULE_BITS
from laion_dask.schema.values import SAMPLED, SPLITS
from laion_dask.storage import embeddings

# Rows with these bits are not in a published pool, so they are not ranked (DataComp, section 3.2).
_NEVER_IN_A_POOL: Final = np.uint64(
    sum(1 << RULE_BITS[rule] for rule in ("removed_later", "removed_hash", "listed_later", "unsafe", "unsafe_keyword"))
)


DRAWN: Final = "drawn.npy"


@dataclass(frozen=True)
class JudgedShard:
    """A judged shard: its verdicts so far, and `part.judge`'s inputs for rules over all shards."""

    name: str
    verdicts: Path
    pending: Path


def cut(rule: filters.Top, shards: Sequence[JudgedShard]) -> Cut:
    """Return the lowest kept value of a rule of filter.top, by split."""
    lowest: dict[str, float] = {}
    for split in SPLITS:
        if rule.by == "split" or not lowest:
            group = split if rule.by == "split" else None
            share = _Values(rule.column, shards, group, rule.share_of or rule.among)
            ranked = _Values(rule.column, shards, group, rule.among)
            value = top_fraction.cut(ranked, rule.fraction, top_fraction.count(share))
        lowest[split] = value
    return Cut(rule.column, lowest)


@dataclass(frozen=True)
class _Values:
    """The values of a column, one shard after another; every call reads them again."""

    column: str
    shards: Sequence[JudgedShard]
    split: str | None
    among: filters.Among

    def __call__(self) -> Iterator[np.ndarray]:
        for shard in self.shards:
            values = read_file(shard.pending, [self.column])[self.column].to_numpy()
            rows = np.ones(len(values), bool)
            verdicts = read_file(shard.verdicts, self._asked)
            if self.split is not None:
                rows &= pc.equal(verdicts["split"], self.split).to_numpy()
            if self.among == "passing":
                rows &= pc.equal(verdicts["reason"], KEEP).to_numpy()
            if self.among == "pool":
                rows &= (verdicts["rules"].to_numpy() & _NEVER_IN_A_POOL) == 0
            yield values[rows]

    @property
    def _asked(self) -> list[str]:
        of_rank = {"passing": ["reason"], "pool": ["rules"]}.get(self.among, [])
        return [*of_rank, *(["split"] if self.split is not None else [])]


@dataclass(frozen=True)
class Chances:
    """What `write_chances` found: the place of the first entry of each list, and the thresholds by language."""

    first: Mapping[str, int]
    """Empty for one list."""
    tail: float | None = None
    """Share of the matches in English that fall on entries of fewer than t pairs."""
    t: Mapping[str, int] = field(default_factory=dict)


def write_chances(rule: filters.Balance, shards: Sequence[JudgedShard], path: Path) -> Chances:
    """Count the kept pairs of each entry of filter.balance, and write its probability: .npy, float64 (entries,)."""
    one_list = rule.by_language is None
    files = {"": Path(str(rule.entries))} if one_list else balance_lists.files(Path(str(rule.by_language)))
    counts: dict[str, np.ndarray] = {}
    for shard in shards:
        searched = read_file(shard.pending, [ENTRIES] if one_list else [LIST, ENTRIES])
        searched = searched.filter(pc.equal(read_file(shard.verdicts, ["reason"])["reason"], KEEP))
        for name in [""] if one_list else sorted({*searched[LIST].to_pylist()} & {*files}):
            rows = searched if one_list else searched.filter(pc.equal(searched[LIST], name))
            if name not in counts:
                counts[name] = np.zeros(len(balance.read_entries(files[name])), np.int64)
            counts[name] += np.bincount(pc.list_flatten(rows[ENTRIES]).to_numpy(), minlength=len(counts[name]))
    ordered = dict(sorted(counts.items()))
    tail, t = (None, dict.fromkeys(ordered, rule.t)) if one_list else balance_lists.thresholds(ordered, rule.t)
    chances = [balance.chances(found, t[name]) for name, found in ordered.items()]
    np.save(path, np.concatenate(chances) if chances else np.zeros(0), allow_pickle=False)
    starts = np.cumsum([0, *map(len, chances)]).tolist()
    return Chances({}) if one_list else Chances(dict(zip(ordered, starts, strict=False)), tail, t)


def write_sample(rule: filters.Sample, shards: Sequence[JudgedShard], folder: Path) -> dict[str, int]:
    """Draw filter.sample from the kept pairs with a finite score; return counts of the sample.

    Writes two .npy of uids, dtype `uid_sets.HALVES`, sorted: `DRAWN`, each once, and `SAMPLED`, as often as drawn.
    """
    uids, scores = [np.zeros(0, uid_sets.HALVES)], [np.zeros(0)]
    for shard in shards:
        verdicts = read_file(shard.verdicts, ["uid", "reason"])
        values = read_file(shard.pending, [rule.column])[rule.column].to_numpy()
        rows = pc.equal(verdicts["reason"], KEEP).to_numpy() & np.isfinite(values)
        uids.append(uid_sets.halves(verdicts["uid"].filter(pa.array(rows))))
        scores.append(values[rows])
    every = np.concatenate(uids)
    values = np.concatenate(scores)
    times = soft_cap.draw(every, values, size=rule.size, batch=rule.batch, penalty=rule.penalty, seed=rule.seed)
    order = np.lexsort((every["f1"], every["f0"]))
    order = order[times[order] > 0]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / DRAWN, every[order], allow_pickle=False)
    np.save(folder / SAMPLED, np.repeat(every[order], times[order]), allow_pickle=False)
    return {"draws": int(times.sum()), "pairs": len(order), "most": int(times.max(initial=0))}


def draw(one: filters.Computed, scores: Sequence[Path], folder: Path) -> Batches:
    """Draw the random batches of a negCLIPLoss and write their embeddings: slots, image and text as .npy.

    If the pool has too few pairs, batches are smaller.
    """
    batches, batch = int(one.batches or 1), int(one.batch or 1)
    sample = clip_losses.RandomSample(batches * batch, int(one.seed or 0))
    column = f"similarity_{one.model}"
    for path in scores:
        table = read_file(path, ["uid", "slot", column])
        table = table.filter(pc.is_finite(table[column]))
        sample.add(uid_sets.halves(table["uid"]), table["slot"].to_numpy())
    size = len(sample.slots) // batches * batches
    # Dealt in turn, so that every batch is a random sample; sorted inside a batch, so that the store is read in order.
    dealt = sample.slots[:size].reshape(-1, batches).T
    slots = np.sort(dealt, axis=1).reshape(-1)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "slots.npy", slots, allow_pickle=False)
    group = zarr.open_group(scores[0].parent / embeddings.STORE, mode="r") if scores else None
    for kind in ("image", "text"):
        rows = np.zeros((0, 1), np.float16)
        if group is not None and size:
            rows = np.asarray(embeddings.array(group, f"{one.model}/{kind}").oindex[slots, slice(None)])
        np.save(folder / f"{kind}.npy", rows, allow_pickle=False)
    return Batches(folder, max(1, size // batches))
