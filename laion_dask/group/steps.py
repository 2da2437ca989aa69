"""The steps of the stage group after its shards are read: which parts each has, and how results are joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask.group import part
from laion_dask.images import pdq_index
from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Run
from laion_dask.schema import groups
from laion_dask.storage.files import digest, link

_CLUSTERS: Final = 16  # clusters of one part: a few seconds for a million images


def compare(settings: Params, read: Sequence[Done], run: Run) -> Sequence[Done]:
    """Find images that are near each other, by hash and by embedding, and write the groups of every shard.

    `read` are the parts of the shards. Returns the shards' parts, and the parts that `join_edges` reads.
    """
    rules = settings.group
    folders = [done.folder for done in read]
    every = digest([done.part.key for done in read])

    def step(function: PartFunction, *todo: tuple[str, Mapping[str, Any]], shape: object) -> list[Done]:
        function_name = function.__name__
        keyed = [Part(name, digest(function_name, name, every, shape), args) for name, args in todo]
        return run(function, keyed, {})

    (united,) = step(part.unite, ("unite", {"parts": folders}), shape=None)
    common = {"united": united.folder}
    bands = [
        (
            f"band-{number:02d}",
            {**common, "number": number, "radius": rules.pdq_distance, "neighbours": rules.neighbours},
        )
        for number in range(pdq_index.BANDS)
    ]
    banded = step(part.band, *bands, shape=[rules.pdq_distance, rules.neighbours])
    args = {**common, "bands": [done.folder for done in banded], "parts": folders, "neighbours": rules.neighbours}
    near = step(part.near, ("near", args), shape=[rules.pdq_distance, rules.neighbours])
    shape = [rules.clusters, rules.seed]
    args = {**common, "parts": folders, "asked": rules.clusters, "seed": rules.seed}
    (means,) = step(part.centres, ("centres", args), shape=shape)
    shard_args = [(done.part.name, {"part": done.folder, "means": means.folder}) for done in read]
    assigned = [done.folder for done in step(part.assign, *shard_args, shape=shape)]
    args = {**common, "assigned": assigned, "means": means.folder}
    (ordered,) = step(part.order, ("order", args), shape=shape)
    args = {**common, "parts": folders, "ordered": ordered.folder, "floor": rules.semantic_floor}
    sets = [
        (
            f"clusters-{first:07d}",
            {
                **args,
                "neighbours": rules.neighbours,
                "first": first,
                "last": min(first + _CLUSTERS, means.counts["clusters"]),
            },
        )
        for first in range(0, means.counts["clusters"], _CLUSTERS)
    ]
    semantic = step(part.semantic, *sets, shape=[*shape, rules.semantic_floor, rules.neighbours])
    files = [Path(path) for path in rules.evaluation]
    shards = [
        (
            done.part.name,
            {
                **common,
                "name": done.part.name,
                "part": done.folder,
                "assigned": place,
                "evaluation_files": files,
                "radius": rules.pdq_distance,
            },
        )
        for done, place in zip(read, assigned, strict=True)
    ]
    described = step(part.describe, *shards, shape=[*shape, *files, rules.pdq_distance])
    return [*described, united, means, *banded, *near, *semantic]


def join_edges(done: Sequence[Done], out: Path) -> None:
    """Publish a table for each shard, and join the edges of all parts in two tables."""
    semantic = []
    for one in done:
        if "images" in one.counts:
            parts.publish_files([one], out)
        elif "near" in one.counts:
            link(one.folder / "near.parquet", out / "near.parquet")
        elif "semantic" in one.counts:
            semantic.append(one.folder / "semantic.parquet")
    with pq.ParquetWriter(out / "semantic.parquet", groups.EDGES.schema, compression="zstd") as writer:
        for path in semantic:
            for batch in pq.ParquetFile(path).iter_batches():
                writer.write_batch(batch)
