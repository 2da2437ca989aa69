"""Stage group: find images that are near each other, by parts for each shard, band of hashes and set of clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.group import evaluation_sets as evaluation
from laion_dask.group import part, steps
from laion_dask.params import Params
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Run, Stage, data
from laion_dask.storage import embeddings
from laion_dask.storage.files import digest
from laion_dask.storage.numbered import tables
from workflow.program import main


def evaluation_sets(settings: Params) -> None:
    """Read the files of the evaluation sets; `EvaluationError` where one is missing or is not as it should be."""
    evaluation.read([Path(path) for path in settings.group.evaluation])


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard: what the later steps need of it."""
    rules = settings.group
    model = rules.model or settings.score.models[0].name
    store = data("score") / embeddings.STORE
    todo = []
    for place, images in enumerate(tables(data("download"))):
        scores = data("score") / images.name
        array = embeddings.shard_file(store, f"{model}/image", place)
        # Zarr writes no file for a shard without any image.
        key = digest("read", images, scores, array if array.exists() else None, model, rules.min_quality)
        args = {"images": images, "scores": scores, "store": store, "model": model, "min_quality": rules.min_quality}
        todo.append(Part(images.stem, key, args, weight=images.stat().st_size))
    return todo


def compare(settings: Params, _: Resources, read: Sequence[Done], run: Run) -> Sequence[Done]:
    """Compare the hashes and embeddings of all shards, step after step."""
    return steps.compare(settings, read, run)


def join_edges(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish a table for each shard, and the edges between images."""
    steps.join_edges(done, out)
    return {}


STAGE = Stage(
    name="group",
    unit="images",
    find_parts=shards,
    function=part.read,
    check=evaluation_sets,
    further=compare,
    publish=join_edges,
    follows=("images", "score", "images"),
)

if __name__ == "__main__":
    main(STAGE)
