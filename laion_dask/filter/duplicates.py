"""Decide which pairs are duplicates of a kept pair: same bytes, near-duplicates, or the same meaning.

Pairs are decided in the order of their uids, over all shards. A pair is dropped if an earlier kept pair has the same
image bytes, a near-duplicate image, or an image of the same meaning; otherwise it is kept. So every dropped pair is
within the threshold of a kept one, no two kept pairs are, and a chain of similar images is not dropped as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.params import filters
from laion_dask.storage import duckdb_connection
from laion_dask.storage.uids import rows_of

LOSERS: Final = pa.schema([("uid", pa.string()), ("reason", pa.string()), ("stays", pa.string())])
"""A pair that is dropped as a duplicate, the reason, and the kept pair."""

EDGES: Final = {"near_duplicate": "near.parquet", "semantic_duplicate": "semantic.parquet"}
"""The files of the stage group by reason, in the order of the reasons."""

Edges = dict[str, tuple[pa.ChunkedArray, pa.ChunkedArray]]
"""By reason: the two images of each edge, by the uids that represent them."""

Losers = Mapping[str, Mapping[str, tuple[list[str], list[str]]]]
"""By reason and name of the shard: the dropped uids, and those of the pairs kept instead."""

# Kept pairs whose image other pairs have too, or which is near another image, with the file of their verdict.
_CONCERNED: Final = """
with shared as (
        select hash(image) as short from read_parquet($groups, hive_partitioning = false)
        group by 1 having $equal and count(*) > 1
    ),
    concerned as (
        select uid, image from read_parquet($groups, hive_partitioning = false)
        where hash(image) in (select short from shared) or image in (select image from linked)
    ),
    passing as (
        select uid, filename from read_parquet($verdicts, filename = true, hive_partitioning = false) verdicts
        semi join concerned using (uid)
        where reason = 'keep'
    )
select uid, image, filename from concerned join passing using (uid)
"""


def reasons(settings: filters.Filter) -> list[str]:
    """Return the reasons of the enabled duplicate rules, in their order."""
    equal = ["duplicate_image"] if settings.duplicate_images == "drop" else []
    near = ["near_duplicate"] if settings.near_duplicates == "drop" else []
    return [*equal, *near, *(["semantic_duplicate"] if settings.semantic_duplicates is not None else [])]


def edges(folder: Path, settings: filters.Filter) -> Edges:
    """Read the pairs of images that are duplicates by the parameters' thresholds."""
    conditions_of = {}
    if settings.near_duplicates == "drop":
        confirmed = ("cosine", ">=", _single(settings.near_min_cosine))
        conditions_of["near_duplicate"] = [("distance", "<=", settings.near_max_distance), confirmed]
    if settings.semantic_duplicates is not None:
        conditions_of["semantic_duplicate"] = [("cosine", ">=", _single(1 - settings.semantic_duplicates))]
    edges_of = {}
    for reason, conditions in conditions_of.items():
        table = pq.read_table(folder / EDGES[reason], columns=["uid_a", "uid_b"], filters=conditions)
        edges_of[reason] = (table["uid_a"], table["uid_b"])
    return edges_of


def _single(value: float) -> pa.Scalar:
    # In the column's precision, so that a cosine of 0.9 is at least 0.9.
    return pa.scalar(value, pa.float32())


def find(verdicts: Sequence[Path], groups: Sequence[Path], folder: Path, settings: filters.Filter) -> Losers:
    """Find the duplicates among the pairs that the verdicts of all shards keep so far.

    `groups` are the tables of the stage group, `folder` its output with the edges. DuckDB finds the pairs whose images
    are equal or near to others, out of core; Python decides only over these.
    """
    near = edges(folder, settings)
    equal = settings.duplicate_images == "drop"
    if not verdicts or not (equal or near):
        return {}
    linked = pa.chunked_array(
        [chunk for sides in near.values() for side in sides for chunk in side.chunks], pa.string()
    )
    with duckdb_connection.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.register("linked", pa.table({"image": pc.unique(linked)}))
        files = {"groups": duckdb_connection.names(groups), "verdicts": duckdb_connection.names(verdicts)}
        passing = connection.sql(_CONCERNED, params={**files, "equal": equal}).to_arrow_table()
    dropped_pairs = losers(passing.select(["uid", "image"]), near, equal=equal)
    shards = passing["filename"].take(rows_of(dropped_pairs["uid"], passing))
    by_reason: dict[str, dict[str, tuple[list[str], list[str]]]] = {}
    for uid, reason, stays, file in zip(
        *(dropped_pairs[name].to_pylist() for name in LOSERS.names), shards.to_pylist(), strict=True
    ):
        dropped, instead = by_reason.setdefault(reason, {}).setdefault(Path(file).stem, ([], []))
        dropped.append(uid)
        instead.append(stays)
    return by_reason


def losers(passing: pa.Table, found: Edges, *, equal: bool) -> pa.Table:
    """Find the duplicates among pairs (`uid`, `image`) that pass every other rule. Schema LOSERS, sorted by uid.

    With `equal`, one of the pairs with the same image is kept; else all of them, if their image is kept.
    """
    passing = passing.sort_by("uid")
    uids = passing["uid"].to_pylist()
    encoded = passing["image"].combine_chunks().dictionary_encode()
    near = {reason: _adjacent(encoded.dictionary, *sides) for reason, sides in found.items()}
    keeper = [-1] * len(encoded.dictionary)  # the first kept pair of each image
    rows: list[tuple[str, str, str]] = []
    for pair, image in enumerate(encoded.indices.to_pylist()):
        if keeper[image] >= 0:
            if equal:
                rows.append((uids[pair], "duplicate_image", uids[keeper[image]]))
            continue
        for reason, (starts, others) in near.items():
            keepers = [keeper[other] for other in others[starts[image] : starts[image + 1]] if keeper[other] >= 0]
            if keepers:
                rows.append((uids[pair], reason, uids[min(keepers)]))
                break
        else:
            keeper[image] = pair
    return pa.table(dict(zip(LOSERS.names, zip(*rows, strict=True), strict=True)) if rows else [[]] * 3, schema=LOSERS)


def _adjacent(images: pa.Array, one: pa.ChunkedArray, other: pa.ChunkedArray) -> tuple[list[int], list[int]]:
    """Return the adjacency of the images in CSR form: the start of each image's neighbours, and all neighbours."""
    a, b = (pc.index_in(side, value_set=images) for side in (one, other))
    both = pc.and_(a.is_valid(), b.is_valid())
    a, b = (side.filter(both).to_numpy() for side in (a, b))
    source, target = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.argsort(source, kind="stable")
    starts = np.searchsorted(source[order], np.arange(len(images) + 1))
    return starts.tolist(), target[order].tolist()
