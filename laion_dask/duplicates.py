"""Pairs that pass every other rule and what the stage group recorded in, those that another one stands for out.

Pairs are taken in the order of their uids. One is dropped if a pair that was kept before it has the same image bytes,
a near-duplicate of the image, or one of the same meaning, and else it is kept. So every dropped pair has a kept one
within the threshold, no two kept pairs are within it, and chains of images that are each like the next drop none that
is like no kept one. The order is that of the uids alone, whatever shard a pair is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.verdict import KEEP

LOSERS: Final = pa.schema([("uid", pa.string()), ("reason", pa.string()), ("stays", pa.string())])
"""A pair that is dropped as a duplicate, why, and the kept pair that stays instead."""

EDGES: Final = {"near_duplicate": "near.parquet", "semantic_duplicate": "semantic.parquet"}
"""The files of the stage group by the reason that they give, in the order of the reasons."""

COLUMNS: Final = ["uid", "image", "evaluation_distance", "evaluation_cosine"]
"""What is read of the stage's table of a shard."""

Judge = Callable[[pa.Table, pa.Table], np.ndarray]
"""Rows of images tables and of scores tables in, a verdict for each out: what `select.judge` says before duplicates."""

Edges = dict[str, tuple[pa.ChunkedArray, pa.ChunkedArray]]
"""By reason: the images of each pair of images that is near enough, by the uids that stand for them."""

# Images of several pairs, and images that are near others.
_CONCERNED: Final = """
with grouped as (select uid, image from read_parquet($groups)),
    shared as (select image from grouped group by image having $equal and count(*) > 1)
select uid, image from grouped where image in (select image from shared) or image in (select image from linked)
"""


def edges(folder: Path, settings: params.Filter) -> Edges:
    """Read the pairs of images that the parameters call duplicates."""
    asked = {}
    if settings.near_duplicates == "drop":
        confirmed = ("cosine", ">=", _single(settings.near_min_cosine))
        asked["near_duplicate"] = [("distance", "<=", settings.near_max_distance), confirmed]
    if settings.semantic_duplicates is not None:
        asked["semantic_duplicate"] = [("cosine", ">=", _single(1 - settings.semantic_duplicates))]
    found = {}
    for reason, filters in asked.items():
        table = pq.read_table(folder / EDGES[reason], columns=["uid_a", "uid_b"], filters=filters)
        found[reason] = (table["uid_a"], table["uid_b"])
    return found


def _single(value: float) -> pa.Scalar:
    # In the column's own precision: a cosine of 0.9 is at least 0.9.
    return pa.scalar(value, pa.float32())


def find(
    images: Sequence[Path],
    scores: Sequence[Path],
    groups: Sequence[Path],
    found: Edges,
    settings: params.Filter,
    *,
    columns: Sequence[str],
    judge: Judge,
) -> pa.Table:
    """Find the pairs that another one stands for, in all shards. Schema LOSERS, sorted by uid.

    DuckDB finds the pairs whose images are equal or near to others, out of core; only those are judged here, on the
    `columns` of the images tables that `judge` asks for.
    """
    equal = settings.duplicate_images == "drop"
    if not images or not (equal or found):
        return LOSERS.empty_table()
    linked = pa.chunked_array(
        [chunk for sides in found.values() for side in sides for chunk in side.chunks], pa.string()
    )
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.register("linked", pa.table({"image": pc.unique(linked)}))
        concerned = connection.sql(
            _CONCERNED, params={"groups": [str(path) for path in groups], "equal": equal}
        ).to_arrow_table()
        connection.register("concerned", concerned)
        tables = {}
        for name, paths, chosen in (("images", images, columns), ("scores", scores, None), ("groups", groups, COLUMNS)):
            names = ", ".join(f"t.{column}" for column in chosen) if chosen else "t.*"
            tables[name] = connection.sql(
                f"select {names} from read_parquet($1) t semi join concerned using (uid) order by t.uid",
                params=[[str(path) for path in paths]],
            ).to_arrow_table()
    verdicts = judge(tables["images"], tables["scores"])
    passes = (verdicts == KEEP) & ~too_close(tables["groups"], settings)
    return losers(tables["groups"].select(["uid", "image"]).filter(pa.array(passes, pa.bool_())), found, equal=equal)


def too_close(groups: pa.Table, settings: params.Filter) -> np.ndarray:
    """Say which rows are as near to an evaluation set as the parameters refuse: bool (rows,)."""
    close = np.zeros(groups.num_rows, bool)
    if settings.evaluation_max_distance is not None:
        close |= groups["evaluation_distance"].to_numpy() <= settings.evaluation_max_distance
    if settings.evaluation_min_cosine is not None:
        close |= groups["evaluation_cosine"].to_numpy() >= np.float32(settings.evaluation_min_cosine)
    return close


def losers(passing: pa.Table, found: Edges, *, equal: bool) -> pa.Table:
    """Decide among pairs (`uid`, `image`) that pass every other rule. Schema LOSERS, sorted by uid.

    With `equal`, of pairs with the same image one stays; else all of them, if their image stays.
    """
    passing = passing.sort_by("uid")
    uids = passing["uid"].to_pylist()
    encoded = passing["image"].combine_chunks().dictionary_encode()
    near = {reason: _adjacent(encoded.dictionary, *sides) for reason, sides in found.items()}
    keeper = [-1] * len(encoded.dictionary)  # of an image, the first pair of it that was kept
    rows: list[tuple[str, str, str]] = []
    for pair, image in enumerate(encoded.indices.to_pylist()):
        if keeper[image] >= 0:
            if equal:
                rows.append((uids[pair], "duplicate_image", uids[keeper[image]]))
            continue
        for reason, (starts, others) in near.items():
            kept = [keeper[other] for other in others[starts[image] : starts[image + 1]] if keeper[other] >= 0]
            if kept:
                rows.append((uids[pair], reason, uids[min(kept)]))
                break
        else:
            keeper[image] = pair
    return pa.table(dict(zip(LOSERS.names, zip(*rows, strict=True), strict=True)) if rows else [[]] * 3, schema=LOSERS)


def _adjacent(images: pa.Array, one: pa.ChunkedArray, other: pa.ChunkedArray) -> tuple[list[int], list[int]]:
    """Return for each image where its neighbours start, and the neighbours of all: those among the images alone."""
    a, b = (pc.index_in(side, value_set=images) for side in (one, other))
    both = pc.and_(a.is_valid(), b.is_valid())
    a, b = (side.filter(both).to_numpy() for side in (a, b))
    source, target = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[order], np.arange(len(images) + 1))
    return starts.tolist(), target[order].tolist()


def decide(
    verdicts: np.ndarray, uids: pa.ChunkedArray, groups: pa.Table, lost: pa.Table, settings: params.Filter
) -> tuple[np.ndarray, pa.Array]:
    """Return the verdicts of a shard's rows with those of evaluation sets and duplicates, and who stays instead.

    `groups` has columns COLUMNS and is joined by uid. Raises `ValueError` when a passing row is missing in it.
    """
    verdicts = verdicts.copy()
    places = pc.index_in(uids, value_set=groups["uid"].combine_chunks())
    missing = int(((verdicts == KEEP) & places.is_null().to_numpy()).sum())
    if missing:
        message = f"{missing} pairs have no row in the groups: run the stage group again"
        raise ValueError(message)
    close = np.zeros(len(verdicts), bool)
    known = places.is_valid().to_numpy()
    close[known] = too_close(groups, settings)[places.drop_null().to_numpy()]
    verdicts[(verdicts == KEEP) & close] = "evaluation_set"
    place = pc.index_in(uids, value_set=lost["uid"].combine_chunks())
    loses = (verdicts == KEEP) & place.is_valid().to_numpy()
    verdicts = np.where(loses, np.array(lost["reason"].take(place).to_pylist(), object), verdicts)
    stays = pc.if_else(pa.array(loses), lost["stays"].take(place), pa.scalar(None, pa.string()))
    return verdicts, stays.combine_chunks() if isinstance(stays, pa.ChunkedArray) else stays
