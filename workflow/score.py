"""Shards of images in, embeddings and scores out: one task for each shard, on GPUs where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import dask
import zarr

from laion_dask import params
from laion_dask.clip import weights
from laion_dask.params import Params
from laion_dask.runner import cluster, code_digest, parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.score import faces, heads, score_columns, tar_folders
from laion_dask.score import part as score
from laion_dask.storage import embeddings
from laion_dask.storage.files import digest, link
from workflow.extract import remove
from workflow.stage import Resources, Stage, StageError, alone, data, main, total

OUTS: Final = (tar_folders.IMAGES, "score")
"""What `score_folder` leaves in its folder; the last one says that all are there."""
WORK: Final = ".score"
"""Finished tars of a scoring that is not complete."""


def check_models(settings: Params) -> None:
    """Find or fetch what all models need, before a cluster starts; `ModelError` where it is missing."""
    find(settings.score)


def find(rules: params.Score) -> None:
    """Find or fetch the weights of all models, and the tokenizers that do not come with open_clip; try all else."""
    for spec in rules.models:
        weights.find(spec)
        weights.fetch_tokenizer(spec)
    for head in rules.heads or ():
        heads.load(head)
    if rules.faces is not None:
        faces.load(rules.faces)


def _decided(rules: params.Score) -> list[Path | str]:
    """Return digests and files that decide the scores beside the pictures; `ModelError` where one is refused."""
    beside = [path for spec in rules.models for path in weights.files(spec)]
    return [*(weights.identify(spec) for spec in rules.models), *beside, *score_columns.files(rules)]


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; its key holds the images, the models and the heads."""
    rules = settings.score
    # Here, before any worker: a model is refused once.
    decided = _decided(rules)
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
        key = digest(images, tar, settings.catalog.shard_rows, rules, decided)
        todo.append(Part(images.stem, key, args, weight=tar.stat().st_size))
    return todo


def join_arrays(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the scores and the arrays of all shards."""
    return join(settings.catalog.shard_rows, done, out)


def join(rows: int, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Join the arrays of shards of so many rows into one store: each part's Zarr shard becomes the one at its place."""
    tables = [path for part in done for path in part.folder.glob("*.parquet")]
    for path in tables:
        link(path, out / path.name)
    if not done:
        return {"slots": 0}
    store = out / embeddings.STORE
    first = done[0].folder / embeddings.STORE
    dimensions, about = embeddings.dimensions(first), embeddings.about(first)
    embeddings.create(store, about, shards=len(done), shard_rows=rows, dimensions=dimensions)
    arrays = embeddings.names(store)
    for place, part in enumerate(done):
        for name in arrays:
            source = embeddings.shard_file(part.folder / embeddings.STORE, name, 0)
            link(source, embeddings.shard_file(store, name, place))
    group = zarr.open_group(store, mode="r")
    found = {name: embeddings.array(group, name) for name in arrays}
    missing = {name: array.nchunks - array.nchunks_initialized for name, array in found.items()}
    if any(missing.values()):
        message = f"{store}: chunks are missing: {missing}. Remedy: remove .laion_dask/parts/score and run again"
        raise StageError(message)
    return {
        "slots": len(done) * rows,
        "dimensions": dimensions,
        "weights_sha256": {name: of["weights_sha256"] for name, of in about.items()},
        **score_columns.merged(about),
    }


STAGE = Stage(
    name="score",
    unit="images",
    find_parts=shards,
    function=score.score,
    publish=join_arrays,
    check=check_models,
    follows=("images", "download", "images"),
    gpu=True,
)


def score_folder(
    folder: Path, out: Path, rules: params.Score, progress: Progress, workers: int | None = None
) -> dict[str, Any]:
    """Score the tars of a folder that others made into `OUTS` of another, without a project; return the counts.

    Tars that an interrupted run has scored by the same rules are not read again; what the folder holds of an earlier
    run is replaced at the end. Raises what `parts.run` and `folders.find` raise, and `StageError` where another run
    writes there too.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    tars = tar_folders.find(folder)
    # Before the tars are read: what is missing is told at once.
    find(rules)
    decided = _decided(rules)
    rows = max(1, *tar_folders.counts(tars))
    code = code_digest.of_stage(STAGE.name)
    todo = []
    for place, tar in enumerate(tars):
        # Path, size and time stand for a tar: its bytes would have to be read twice before the first image.
        identity = [str(tar.resolve()), tar.stat().st_size, tar.stat().st_mtime_ns]
        name = f"{place:05d}"
        args = {"name": name, "tar": tar, "shard_rows": rows, "settings": rules}
        key = digest(identity, name, rows, rules, decided, code)
        todo.append(Part(name, key, args, weight=tar.stat().st_size))
    # More processes than tars would only start and end.
    asked = min(workers or cluster.workers(), len(tars))
    with alone(work), dask.config.set({"laion-dask.cluster.workers": asked}):
        with cluster.open_client(gpu=True) as client:
            done = parts.undamaged(
                lambda: parts.run(tar_folders.score_tar, todo, work / "parts", client, progress=progress),
                client,
                progress,
            )
        counts = total(replace(STAGE, follows=None), done)
        fresh = work / "new"
        remove(fresh)
        for name in OUTS:
            (fresh / name).mkdir(parents=True)
        counts.update(join(rows, done, fresh / "score"))
        for part in done:
            for path in (part.folder / tar_folders.IMAGES).glob("*.parquet"):
                link(path, fresh / tar_folders.IMAGES / path.name)
        for name in OUTS:
            remove(out / name)
            (fresh / name).rename(out / name)
        remove(work)
    return counts


if __name__ == "__main__":
    main(STAGE)
