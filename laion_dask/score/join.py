"""Join the scores and the arrays of all shards of a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr

from laion_dask.runner.part import Done
from laion_dask.runner.stage import StageError
from laion_dask.score import score_columns
from laion_dask.storage import embeddings
from laion_dask.storage.files import link


def join(rows: int, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Link the tables and arrays of all parts into `out`: the n-th part's Zarr shard, of `rows` rows, becomes the n-th.

    Returns the counts of the arrays. Raises `StageError` where a chunk is missing.
    """
    for path in (path for part in done for path in part.folder.glob("*.parquet")):
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
    opened = {name: embeddings.array(group, name) for name in arrays}
    missing = {name: array.nchunks - array.nchunks_initialized for name, array in opened.items()}
    if any(missing.values()):
        message = f"{store}: chunks are missing: {missing}. Remedy: remove .laion_dask/parts/score and run again"
        raise StageError(message)
    return {
        "slots": len(done) * rows,
        "dimensions": dimensions,
        "weights_sha256": {name: attributes["weights_sha256"] for name, attributes in about.items()},
        **score_columns.merged(about),
    }
