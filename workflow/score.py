"""Shards of images in, embeddings and scores out: one task for each shard, on GPUs where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

from laion_dask import embeddings, measures, models, parts, score
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from workflow.stage import Resources, Stage, StageError, data, main


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; its key holds the images, the models and the heads."""
    rules = settings.score
    # Here, before any worker: a model is fetched once, and refused once.
    decided = [*(models.identify(spec) for spec in rules.models), *measures.files(rules)]
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
        key = parts.digest(images, tar, settings.catalog.shard_rows, rules, decided)
        todo.append(Part(images.stem, key, args, weight=tar.stat().st_size))
    return todo


def join_arrays(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Join the shards' arrays into one store: each part's Zarr shard becomes the one at its place."""
    tables = [path for part in done for path in part.folder.glob("*.parquet")]
    for path in tables:
        parts.link(path, out / path.name)
    if not done:
        return {"slots": 0}
    rows, store = settings.catalog.shard_rows, out / embeddings.STORE
    first = done[0].folder / embeddings.STORE
    dimensions, about = embeddings.dimensions(first), embeddings.about(first)
    embeddings.create(store, about, shards=len(done), shard_rows=rows, dimensions=dimensions)
    arrays = embeddings.names(store)
    for place, part in enumerate(done):
        for name in arrays:
            source = embeddings.shard_file(part.folder / embeddings.STORE, name, 0)
            parts.link(source, embeddings.shard_file(store, name, place))
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
    }


STAGE = Stage(
    name="score",
    unit="images",
    find_parts=shards,
    function=score.score,
    publish=join_arrays,
    follows=("images", "download", "images"),
    gpu=True,
)

if __name__ == "__main__":
    main(STAGE)
