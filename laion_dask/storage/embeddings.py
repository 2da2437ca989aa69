"""Write and read embeddings as Zarr arrays: one Zarr shard per shard of images, so that writers never share one.

A store has one group for each model, with the arrays of `schema.ARRAYS`: `<model>/image` and `<model>/text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from laion_dask import schema

STORE: Final = "embeddings.zarr"
# Maximum rows of a Zarr chunk, which a reader must decode to read one embedding.
_CHUNK_ROWS: Final = 1024

About = Mapping[str, Mapping[str, str]]
"""By the name of a model, the attributes of its group, which identify the embeddings."""


def write_shard(path: Path, arrays: Mapping[str, Mapping[str, np.ndarray]], about: About) -> None:
    """Write the arrays of one shard as a store with exactly one Zarr shard.

    `arrays` by model and name of `schema.ARRAYS`: float16 (rows, features) each.
    """
    first = schema.ARRAYS[0].name
    dimensions = {model: of[first].shape[1] for model, of in arrays.items()}
    rows = next(iter(arrays.values()))[first].shape[0]
    group = create(path, about, shards=1, shard_rows=rows, dimensions=dimensions)
    with empty_shards_written():
        for model, of in arrays.items():
            for name, values in of.items():
                array(group, f"{model}/{name}")[:] = values


@contextmanager
def empty_shards_written() -> Iterator[None]:
    """Also write shards without any image, so that a missing file always means a missing part."""
    # Arrays do not store this setting, so each write sets it.
    with zarr.config.set({"array.write_empty_chunks": True}):
        yield


def create(path: Path, about: About, *, shards: int, shard_rows: int, dimensions: Mapping[str, int]) -> zarr.Group:
    """Create the empty arrays for a number of shards; each Zarr shard is one shard of images."""
    group = zarr.create_group(store=path)
    # The largest divisor of the shard's rows that is small enough: chunks must fill a Zarr shard exactly.
    chunk = next(rows for rows in range(min(_CHUNK_ROWS, shard_rows), 0, -1) if shard_rows % rows == 0)
    for model, dimension in dimensions.items():
        of_model = group.create_group(model, attributes=dict(about[model]))
        for one in schema.ARRAYS:
            of_model.create_array(
                one.name,
                shape=(shards * shard_rows, dimension),
                shards=(shard_rows, dimension),
                chunks=(chunk, dimension),
                dtype=one.dtype,
                fill_value=float("nan"),
                dimension_names=one.dims,
                attributes={"meaning": one.meaning},
            )
    return group


def names(store: Path) -> list[str]:
    """Return the paths of all arrays of a store, `<model>/<array>`, sorted."""
    group = zarr.open_group(store, mode="r")
    return sorted(f"{model}/{name}" for model, of in group.groups() for name in of.array_keys())


def dimensions(store: Path) -> dict[str, int]:
    """Return the number of features of each model's embeddings."""
    group = zarr.open_group(store, mode="r")
    return {model: int(array(of, schema.ARRAYS[0].name).shape[1]) for model, of in sorted(group.groups())}


def array(group: zarr.Group, path: str) -> zarr.Array[Any]:
    """Return an array of a group, such as `demo/image` of a store."""
    found = group[path]
    if not isinstance(found, zarr.Array):
        message = f"{path} is no array. Remedy: see the names in `laion-dask columns`"
        raise TypeError(message)
    return found


def shard_file(store: Path, name: str, number: int) -> Path:
    """Return the file that holds one shard of an array (`<model>/<array>`), by the layout of Zarr 3."""
    return store / name / "c" / str(number) / "0"


def about(store: Path) -> dict[str, dict[str, str]]:
    """Return the attributes of each model in the store; empty without a store."""
    if not store.exists():
        return {}
    groups = sorted(zarr.open_group(store, mode="r").groups())
    return {model: {name: str(value) for name, value in of.attrs.items()} for model, of in groups}
