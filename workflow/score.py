"""Stage score: embed images and texts and compute scores, one part for each shard, on GPUs where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data
from laion_dask.score import join, part, required_files
from laion_dask.storage.files import digest
from workflow.program import main


def find_weights(settings: Params) -> None:
    """Find or fetch what all models need, before a cluster starts."""
    required_files.find(settings.score)


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; its key holds the images, the models and the heads."""
    rules = settings.score
    # Read here, by the driver: a model that is refused ends the run once, not in every worker.
    deciding = required_files.deciding(rules)
    todo = []
    for images in sorted(data("download").glob("*.parquet")):
        tar = images.with_suffix(".tar")
        args = {
            "name": images.stem,
            "images": images,
            "tar": tar,
            "shard_rows": settings.catalog.shard_rows,
            "settings": rules,
        }
        key = digest(images, tar, settings.catalog.shard_rows, rules, deciding)
        todo.append(Part(images.stem, key, args, weight=tar.stat().st_size))
    return todo


def join_arrays(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the scores and the arrays of all shards."""
    return join.join(settings.catalog.shard_rows, done, out)


STAGE = Stage(
    name="score",
    unit="images",
    find_parts=shards,
    function=part.score,
    publish=join_arrays,
    check=find_weights,
    follows=("images", "download", "images"),
    gpu=True,
)

if __name__ == "__main__":
    main(STAGE)
