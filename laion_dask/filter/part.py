"""Scores in, verdicts out: the only place where a number meets a threshold.

`judge` applies the rules that need one row only to a shard; `settle` adds a rule that was decided over all shards: a
top fraction, duplicates, balancing. Rules apply in the order of `REASONS["filter"]`; the first that drops a pair is its
reason, and the column `rules` has a bit for every rule that would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

from laion_dask import schema
from laion_dask.blocklists import known_content
from laion_dask.filter import clip_losses, given_scores, rules, uid_sets
from laion_dask.filter.rules import Files, Rule
from laion_dask.filter.sampling import balance, balance_lists
from laion_dask.params import filters
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, REASONS
from laion_dask.schema.values import SPLITS
from laion_dask.storage import embeddings
from laion_dask.storage.uids import rows_of

PENDING: Final = "pending"
"""Folder of a part with the inputs of rules over all shards: values of filter.top, entries of filter.balance."""
ENTRIES: Final = "entries"
LIST: Final = "list"
"""Column of the pending file: the list that a text was searched with, if there are several."""
_OURS: Final = pa.array(list(REASONS["filter"]), pa.string())


@dataclass(frozen=True)
class Batches:
    """Random batches of a pool for negCLIPLoss: three arrays in a folder, row i of each for one pair."""

    folder: Path
    batch: int
    """Pairs of one batch."""

    def read(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return (slots, images, texts) of each batch, as unit vectors."""
        slots, images, texts = (
            np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ("slots", "image", "text")
        )
        places = range(0, len(slots), self.batch)
        cut = [slice(place, place + self.batch) for place in places]
        return [
            (np.asarray(slots[rows]), clip_losses.unit(images[rows]), clip_losses.unit(texts[rows])) for rows in cut
        ]


@dataclass(frozen=True)
class Cut:
    """A rule of filter.top, with the lowest kept value, by split."""

    column: str
    lowest: Mapping[str, float]


@dataclass(frozen=True)
class Losers:
    """Duplicates in the shard, by uid, and the pairs that are kept instead."""

    uids: Sequence[str]
    stays: Sequence[str]


@dataclass(frozen=True)
class Coins:
    """MetaCLIP's balancing: a .npy with the probability with which each entry is sampled, and the seed."""

    chances: Path
    seed: int
    first: Mapping[str, int] = field(default_factory=dict)
    """The place in `chances` of the first entry of each list; empty for one list."""


@dataclass(frozen=True)
class Drawn:
    """FLYT's soft cap sampling: a .npy with the uids that were drawn, sorted, and a digest of its content."""

    uids: Path
    digest: str


Decision = Cut | Losers | Coins | Drawn
"""The decision of a rule over all shards."""

Decided = tuple[tuple[str, str, int], Decision]
"""Name, reason and bit of a rule, and its decision."""


def judge(
    out: Path,
    *,
    name: str,
    images: Path,
    scores: Path,
    groups: Path | None,
    columns: Sequence[str],
    settings: filters.Filter,
    files: Files,
    batches: Mapping[str, Batches],
) -> dict[str, Any]:
    """Judge one shard; write `<name>.parquet` (schema VERDICTS): a row for every attempt, failed ones included.

    `columns` are those that the rules read (`rules.columns`); `groups` is the shard's table of the stage group;
    `batches` has batches by column of filter.computed. Counts: the ledger `pairs`, `verdicts`, in `rules` for each
    applied rule [name, reason, own count, count as the first], and in `listed` matches by list.
    """
    pairs = read(images, scores, groups, columns)
    judged = pc.equal(pairs["reason"], KEEP).to_numpy()
    embedded = _embedded(scores.parent / embeddings.STORE, pairs, settings)
    for one in settings.computed:
        column = _computed(one, embedded, pairs, batches.get(one.column), files)
        pairs = pairs.append_column(one.column, pa.array(column, pa.float32()))
    images_of = {model: image for (model, kind), image in embedded.items() if kind == "image"}
    listed = known_content.of_rows(files.listed, pairs)
    reasons, mask, counts = decide(rules.local(pairs, settings, files, images_of, listed), judged, settings)
    verdicts = pc.if_else(pa.array(judged), reasons, pairs["reason"])
    shard = pa.array(np.full(pairs.num_rows, int(name), np.int32))
    rows = {"uid": pairs["uid"], "shard": shard, "split": pairs["split"], "reason": verdicts, "rules": mask}
    rows["stays"] = pa.nulls(pairs.num_rows, pa.string())
    write_verdicts(pa.table(rows), out / f"{name}.parquet")
    if settings.top or settings.balance or settings.sample:
        (out / PENDING).mkdir()
        pending = _pending(pairs, judged, pc.equal(verdicts, KEEP).to_numpy(), settings, files)
        # Uncompressed: temporary, and read several times soon.
        pq.write_table(pending, out / PENDING / f"{name}.parquet", compression="none", use_dictionary=False)
    first = pc.equal(verdicts, rules.LISTED_LATER).to_numpy()
    return _counts(verdicts, counts) | {"listed": known_content.count(listed, first)}


def settle(
    out: Path,
    *,
    name: str,
    verdicts: Path,
    pending: Path,
    decided: Sequence[Decided],
    counts: Sequence[Sequence[Any]],
) -> dict[str, Any]:
    """Add rules to the verdicts of a shard, one after another; writes and counts as `judge` does.

    `counts` are those of earlier rules.
    """
    table = read_file(verdicts)
    all_counts = [list(count) for count in counts]
    for (name_of_rule, reason, bit), decision in decided:
        keeps = pc.equal(table["reason"], KEEP).to_numpy()
        drops = _drops(decision, table, keeps, pending)
        first = keeps & drops
        rows = {
            **{column: table[column] for column in ("uid", "shard", "split")},
            "reason": pc.if_else(pa.array(first), reason, table["reason"]),
            "rules": table["rules"].to_numpy() | (drops.astype(np.uint64) << np.uint64(bit)),
            "stays": _instead(table, first, decision) if isinstance(decision, Losers) else table["stays"],
        }
        table = pa.table(rows)
        all_counts.append([name_of_rule, reason, int(drops.sum()), int(first.sum())])
    write_verdicts(table, out / f"{name}.parquet")
    return _counts(table["reason"], all_counts)


def write_verdicts(table: pa.Table, path: Path) -> None:
    """Write the verdicts of a shard, schema VERDICTS.

    The column uid is not compressed: that would halve it, but take as long as all other writing of the stage.
    """
    kinds = {name: "none" if name == "uid" else "zstd" for name in schema.VERDICTS.names}
    repeating = [name for name in schema.VERDICTS.names if name not in {"uid", "stays"}]
    pq.write_table(schema.VERDICTS.check(table), path, compression=kinds, use_dictionary=repeating)


def read_file(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read columns of one file, without the millisecond that `pyarrow.parquet.read_table` takes to open a dataset."""
    with pq.ParquetFile(path) as file:
        return file.read(columns=columns if columns is None else list(columns), use_threads=False)


def read(images: Path, scores: Path, groups: Path | None, columns: Sequence[str]) -> pa.Table:
    """Return columns of a shard, with scores and groups joined to the images by uid, in any order.

    `reason` is that of the download, or of the scoring. Raises `ValueError` if a row has no scores.
    """
    own = [column for column in columns if column in schema.IMAGES.names]
    grouped = [column for column in columns if column in rules.GROUPED]
    others = [column for column in columns if column not in {*own, *grouped}]
    joined = join(read_file(images, own), read_file(scores, ["uid", "reason", *others]))
    if grouped and groups is not None:
        group = read_file(groups, ["uid", *grouped])
        places = rows_of(joined["uid"], group)
        lost = int(pc.sum(pc.and_(places.is_null(), pc.equal(joined["reason"], KEEP))).as_py() or 0)
        if lost:
            raise ValueError(f"{lost} pairs have no row in the groups: run the stage group again")
        for column in grouped:
            joined = joined.append_column(column, group[column].take(places))
    return joined


def join(images: pa.Table, scores: pa.Table) -> pa.Table:
    """Join the columns of the scores to the images table; see `read`."""
    if not scores["uid"].equals(images["uid"]):
        places = rows_of(images["uid"], scores)
        if places.null_count:
            message = f"{places.null_count} pairs have no row in the scores: run the stage score again"
            raise ValueError(message)
        scores = scores.take(places)
    reason = pc.if_else(pc.equal(images["reason"], KEEP), scores["reason"], images["reason"])
    table = images.set_column(images.schema.get_field_index("reason"), "reason", reason)
    for column in scores.column_names:
        if column not in {"uid", "reason"}:
            table = table.append_column(column, scores[column])
    return table


def decide(
    found: Iterable[Rule],
    judged: np.ndarray,
    settings: filters.Filter,
) -> tuple[pa.Array, np.ndarray, list[list[Any]]]:
    """Return the first reason of each judged row, the mask of all rules, and [name, reason, own, first] of each."""
    bits = rules.bits(settings)
    codes = np.zeros(len(judged), np.int8)
    mask = np.zeros(len(judged), np.uint64)
    names, counts = [KEEP], []
    for name, reason, would in found:
        drops = would & judged
        first = drops & (codes == 0)
        codes[first] = len(names)
        mask |= drops.astype(np.uint64) << np.uint64(bits[name][1])
        names.append(reason)
        counts.append([name, reason, int(drops.sum()), int(first.sum())])
    return pa.array(names, pa.string()).take(pa.array(codes)), mask, counts


def _drops(decision: Decision, table: pa.Table, keeps: np.ndarray, pending: Path) -> np.ndarray:
    if isinstance(decision, Losers):
        return np.asarray(pc.is_in(table["uid"], value_set=pa.array(decision.uids, pa.string())).to_numpy())
    if isinstance(decision, Cut):
        values = read_file(pending, [decision.column])[decision.column].to_numpy()
        splits = pc.index_in(table["split"], value_set=pa.array(SPLITS)).to_numpy()
        lowest = np.array([decision.lowest.get(split, -np.inf) for split in SPLITS])
        judged = keeps | pc.is_in(table["reason"], value_set=_OURS).to_numpy()
        # Negated, so that NaN drops the pair.
        return np.asarray(judged & ~(values >= lowest[splits]))
    if isinstance(decision, Drawn):
        return np.asarray(keeps & ~uid_sets.contains(decision.uids, uid_sets.halves(table["uid"]), decision.digest))
    searched = read_file(pending, [ENTRIES, *([LIST] if decision.first else [])])
    entries = searched[ENTRIES].combine_chunks()
    lists = entries if isinstance(entries, pa.ListArray) else pa.concat_arrays(entries.chunks)
    first = None
    if decision.first:
        # A list that no kept pair was searched with has no place, and its rows have no entries.
        first = np.array([decision.first.get(name, 0) for name in searched[LIST].to_pylist()], np.int64)
    stays = balance.falls(uid_sets.halves(table["uid"]), lists, np.load(decision.chances), decision.seed, first)
    return np.asarray(keeps & ~stays)


def _instead(table: pa.Table, loses: np.ndarray, decision: Losers) -> pa.Array:
    """Return the column `stays` with the pairs that are kept instead of the newly dropped ones."""
    places = pc.index_in(table["uid"], value_set=pa.array(decision.uids, pa.string()))
    stays = pa.array(decision.stays, pa.string()).take(places.combine_chunks())
    return pc.if_else(pa.array(loses), stays, table["stays"])


def _pending(
    pairs: pa.Table, judged: np.ndarray, keeps: np.ndarray, settings: filters.Filter, files: Files
) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in {one.column: None for one in (*settings.top, settings.sample) if one is not None}:
        # float64 represents every column exactly; rows that are not judged are NaN.
        values = pc.fill_null(pairs[name].cast(pa.float64()), float("nan")).to_numpy()
        columns[name] = np.where(judged, values, np.nan)
    if settings.balance is not None:
        texts = [text if keep else "" for text, keep in zip(pairs["caption"].to_pylist(), keeps, strict=True)]
        if settings.balance.by_language is not None:
            folder, languages = Path(settings.balance.by_language), pairs["language"].to_pylist()
            columns[LIST], columns[ENTRIES] = balance_lists.find(folder, files.digest, texts, languages)
        else:
            columns[ENTRIES] = balance.matcher(Path(str(settings.balance.entries)), files.digest).find(texts)
    return pa.table(columns)


def _counts(reasons: pa.ChunkedArray, counts: list[list[Any]]) -> dict[str, Any]:
    ledger = Ledger()
    for entry in pc.value_counts(reasons).to_pylist():
        reason, rows = entry["values"], entry["counts"]
        if reason == KEEP:
            ledger.keep(rows)
        elif reason in REASONS["filter"]:
            # Reasons of earlier stages were counted there.
            ledger.drop(reason, rows)
    return {"pairs": ledger.as_dict(), "verdicts": len(reasons), "rules": counts}


def arrays(settings: filters.Filter) -> list[str]:
    """Name the arrays of stored embeddings that the rules read: `<model>/<kind>`, sorted."""
    return [f"{model}/{kind}" for model, kind in _read_arrays(settings)]


def _read_arrays(settings: filters.Filter) -> list[tuple[str, str]]:
    needed = {(model, "image") for _, model in settings.models()}
    needed |= {(str(one.model), "text") for one in settings.computed if one.kind == "negcliploss"}
    return sorted(needed)


def _embedded(store: Path, pairs: pa.Table, settings: filters.Filter) -> dict[tuple[str, str], np.ndarray]:
    """Return the stored embeddings that the rules read: by model and kind, unit vectors (rows, features)."""
    needed = _read_arrays(settings)
    if not needed or not pairs.num_rows:
        return {key: np.zeros((0, 1), np.float32) for key in needed}
    group = zarr.open_group(store, mode="r")
    slots = pairs["slot"].to_numpy()
    first, last = int(slots.min()), int(slots.max())
    vectors = {}
    for model, kind in needed:
        rows = np.asarray(embeddings.array(group, f"{model}/{kind}")[first : last + 1])
        vectors[model, kind] = clip_losses.unit(rows[slots - first])
    return vectors


def _computed(
    one: filters.Computed,
    embedded: Mapping[tuple[str, str], np.ndarray],
    pairs: pa.Table,
    batches: Batches | None,
    files: Files,
) -> np.ndarray:
    if one.kind == "scores":
        return given_scores.of_rows(files.given[one.column], pairs["uid"], files.digest)
    images = embedded[str(one.model), "image"]
    if not len(images):
        return np.zeros(0, np.float32)
    if one.kind == "normsim":
        return clip_losses.normsim(images, clip_losses.read(Path(str(one.targets)), images.shape[1]), one.norm or "inf")
    if batches is None:
        message = f"no batches were drawn for {one.column}. Remedy: run the stage filter from its beginning"
        raise ValueError(message)
    texts, slots = embedded[str(one.model), "text"], pairs["slot"].to_numpy()
    return clip_losses.negcliploss(images, texts, slots, batches.read(), float(one.temperature or 1))
