"""Hashes and embeddings in, images that are near each other out: one task for each shard, band and set of clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask.group import evaluation_sets as evaluation
from laion_dask.group import part as group_part
from laion_dask.images import pdq_index
from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.tasks import PartFunction
from laion_dask.schema import groups
from laion_dask.storage import embeddings
from laion_dask.storage.files import digest, link
from workflow.stage import Resources, Run, Stage, data, main

_CLUSTERS: Final = 16  # of one task: a few seconds for a million images


def evaluation_sets(settings: Params) -> None:
    """Read the files of the evaluation sets; `EvaluationError` where one is missing or is not as it should be."""
    evaluation.read([Path(path) for path in settings.group.evaluation])


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard: what the later steps need of it."""
    rules = settings.group
    model = rules.model or settings.score.models[0].name
    store = data("score") / embeddings.STORE
    todo = []
    for place, images in enumerate(sorted(data("download").glob("*.parquet"))):
        scores = data("score") / images.name
        array = embeddings.shard_file(store, f"{model}/image", place)
        # Zarr writes no file for a shard without any image.
        key = digest("read", images, scores, array if array.exists() else None, model, rules.min_quality)
        args = {"images": images, "scores": scores, "store": store, "model": model, "min_quality": rules.min_quality}
        todo.append(Part(images.stem, key, args, weight=images.stat().st_size))
    return todo


def compare(settings: Params, _: Resources, read: Sequence[Done], run: Run) -> Sequence[Done]:
    """Find images that are near each other, by hash and by embedding, and describe every shard by what was found."""
    rules = settings.group
    folders = [part.folder for part in read]
    every = digest([part.part.key for part in read])

    def step(function: PartFunction, *todo: tuple[str, Mapping[str, Any]], shape: object) -> list[Done]:
        named = function.__name__
        keyed = [Part(name, digest(named, name, every, shape), args) for name, args in todo]
        return run(function, keyed, {})

    (united,) = step(group_part.unite, ("unite", {"parts": folders}), shape=None)
    common = {"united": united.folder}
    bands = [
        (
            f"band-{number:02d}",
            {**common, "number": number, "radius": rules.pdq_distance, "neighbours": rules.neighbours},
        )
        for number in range(pdq_index.BANDS)
    ]
    found = step(group_part.band, *bands, shape=[rules.pdq_distance, rules.neighbours])
    args = {**common, "bands": [part.folder for part in found], "parts": folders, "neighbours": rules.neighbours}
    near = step(group_part.near, ("near", args), shape=[rules.pdq_distance, rules.neighbours])
    shape = [rules.clusters, rules.seed]
    args = {**common, "parts": folders, "asked": rules.clusters, "seed": rules.seed}
    (means,) = step(group_part.centres, ("centres", args), shape=shape)
    given = [(part.part.name, {"part": part.folder, "means": means.folder}) for part in read]
    assigned = [part.folder for part in step(group_part.assign, *given, shape=shape)]
    args = {**common, "assigned": assigned, "means": means.folder}
    (ordered,) = step(group_part.order, ("order", args), shape=shape)
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
    semantic = step(group_part.semantic, *sets, shape=[*shape, rules.semantic_floor, rules.neighbours])
    files = [Path(path) for path in rules.evaluation]
    told = [
        (
            part.part.name,
            {
                **common,
                "name": part.part.name,
                "part": part.folder,
                "assigned": place,
                "evaluation_files": files,
                "radius": rules.pdq_distance,
            },
        )
        for part, place in zip(read, assigned, strict=True)
    ]
    described = step(group_part.describe, *told, shape=[*shape, *files, rules.pdq_distance])
    return [*described, united, means, *found, *near, *semantic]


def join_edges(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish a table for each shard, and the edges of all tasks in two."""
    semantic = []
    for part in done:
        if "images" in part.counts:
            parts.publish_files([part], out)
        elif "near" in part.counts:
            link(part.folder / "near.parquet", out / "near.parquet")
        elif "semantic" in part.counts:
            semantic.append(part.folder / "semantic.parquet")
    with pq.ParquetWriter(out / "semantic.parquet", groups.EDGES.schema, compression="zstd") as writer:
        for path in semantic:
            for batch in pq.ParquetFile(path).iter_batches():
                writer.write_batch(batch)
    return {}


STAGE = Stage(
    name="group",
    unit="images",
    find_parts=shards,
    function=group_part.read,
    check=evaluation_sets,
    further=compare,
    publish=join_edges,
    follows=("images", "score", "images"),
)

if __name__ == "__main__":
    main(STAGE)
