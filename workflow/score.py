"""Stage score: embed images and texts and compute scores, one part for each shard, on GPUs where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.runner import takeover
from laion_dask.runner.ahead import Following
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data
from laion_dask.score import join, part, required_files
from laion_dask.storage.files import digest
from laion_dask.storage.numbered import tables
from laion_dask.workers import code_digest
from workflow.program import main


def find_weights(settings: Params) -> None:
    """Find or fetch what all models need, before a cluster starts."""
    required_files.find(settings.score)


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; its key holds the images, the models and the heads."""
    rules = settings.score
    # Read here, by the driver: a model that is refused ends the run once, not in every worker.
    deciding = required_files.deciding(rules)
    usable_by = digest(rules, deciding, code_digest.of_stage("score"))
    todo = [of_shard(settings, images, deciding, usable_by) for images in tables(data("download"))]
    return takeover.with_earlier("score", todo, [part.args["images"] for part in todo], usable_by)


def of_shard(settings: Params, images: Path, deciding: object, usable_by: str) -> Part:
    """Return the part of one shard, by its table of images."""
    tar = images.with_suffix(".tar")
    args = {
        "name": images.stem,
        "images": images,
        "tar": tar,
        "shard_rows": settings.catalog.shard_rows,
        "settings": settings.score,
        "rules": usable_by,
    }
    key = digest(images, tar, settings.catalog.shard_rows, settings.score, deciding)
    return Part(images.stem, key, args, weight=tar.stat().st_size)


def of_download(settings: Params, done: Done) -> Part | None:
    """Return the part of a shard that the stage download has finished; None while a further round may change it.

    A shard with rows of earlier versions is left to the stage score, which takes their scores over.
    """
    if "before" in done.part.args or done.counts[takeover.TAKEN]["taken_over"]:
        return None
    if "rounds" not in done.part.args and settings.download.rounds > 1 and done.counts["later"]:
        return None
    deciding = required_files.deciding(settings.score)
    usable_by = digest(settings.score, deciding, code_digest.of_stage("score"))
    return of_shard(settings, done.folder / f"{done.part.name}.parquet", deciding, usable_by)


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

AHEAD = Following(STAGE.name, STAGE.unit, STAGE.function, find_weights, of_download, gpu=True)

if __name__ == "__main__":
    main(STAGE)
