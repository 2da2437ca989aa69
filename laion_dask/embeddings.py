"""Embeddings in, Zarr arrays out: one Zarr shard for each shard of images, so that no two writers share one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import zarr

from laion_dask import schema

STORE: Final = "embeddings.zarr"
# Rows of one Zarr chunk at most: what a reader decodes to see one embedding.
_CHUNK_ROWS: Final = 1024


def write_shard(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
    """Write the arrays of one shard, float16 (rows, features) each, as a store that holds exactly one Zarr shard."""
    rows, dimension = arrays[schema.ARRAYS[0].name].shape
    group = create(path, about, shards=1, shard_rows=rows, dimension=dimension)
    for name, array in group.arrays():
        array[:] = arrays[name]


def create(path: Path, about: Mapping[str, str], *, shards: int, shard_rows: int, dimension: int) -> zarr.Group:
    """Create the empty arrays for so many shards; a Zarr shard is a shard of images, so no two writers share one."""
    group = zarr.create_group(store=path, attributes=dict(about))
    # The largest divisor of the shard's rows that is small enough: chunks must fill a Zarr shard exactly.
    chunk = next(rows for rows in range(min(_CHUNK_ROWS, shard_rows), 0, -1) if shard_rows % rows == 0)
    for array in schema.ARRAYS:
        group.create_array(
            array.name,
            shape=(shards * shard_rows, dimension),
            shards=(shard_rows, dimension),
            chunks=(chunk, dimension),
            dtype=array.dtype,
            fill_value=float("nan"),
            dimension_names=array.dims,
            attributes={"meaning": array.meaning},
            # A shard without any image is written too: a missing file then always means a missing part.
            config={"write_empty_chunks": True},
        )
    return group


def shard_file(store: Path, array: str, number: int) -> Path:
    """Return the file that holds one shard of an array, by the layout of Zarr 3."""
    return store / array / "c" / str(number) / "0"


def about(store: Path) -> dict[str, str]:
    """Return what the store says of the model; empty where there is no store."""
    if not store.exists():
        return {}
    return {name: str(value) for name, value in zarr.open_group(store, mode="r").attrs.items()}
