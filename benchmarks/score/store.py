"""Slots in, what the store of embeddings costs out: bytes a pair, rates of writing and reading, memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import zarr

from benchmarks.bars import Bar, BenchError
from benchmarks.memory import peak_mb
from benchmarks.score.shards import KB

_ROWS: Final = 10_000
_DIMENSION: Final = 512
_WRITTEN: Final = 4


def bars(work: Path, *, slots: int) -> list[Bar]:
    """Write a few whole shards of ViT-B/32 embeddings, read them, and join them into a store of so many slots.

    The store is made as the stage makes it: each part writes one Zarr shard, the shards are linked to their places.
    Here the same few stand at all places, so that 10 million slots need no 20 GB.
    """
    from laion_dask.storage import embeddings  # noqa: PLC0415
    from laion_dask.storage.files import link  # noqa: PLC0415

    rng = np.random.default_rng(5)
    about = {"b32": {"model": "ViT-B-32"}}
    seconds, folders = 0.0, []
    for number in range(_WRITTEN):
        arrays = {"b32": {name: _unit(rng, _ROWS) for name in ("image", "text")}}
        folders.append(work / f"part-{number}" / embeddings.STORE)
        began = time.perf_counter()
        embeddings.write_shard(folders[-1], arrays, about)
        seconds += time.perf_counter() - began
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    pairs = _WRITTEN * _ROWS
    began = time.perf_counter()
    for folder in folders:
        found = [np.asarray(zarr.open_group(folder, mode="r")[f"b32/{name}"][:]) for name in ("image", "text")]
    reading = time.perf_counter() - began
    if not all(
        np.array_equal(array, arrays["b32"][name]) for array, name in zip(found, ("image", "text"), strict=True)
    ):
        raise BenchError("what was read is not what was written")
    raw = 2 * _DIMENSION * 2
    print(f"\nembeddings of ViT-B/32: {size / pairs:,.0f} bytes a pair on disk, {raw:,} in memory")
    print(f"written {pairs / seconds:,.0f} pairs/s ({pairs * raw / seconds / KB**2:,.0f} MB/s), ", end="")
    print(f"read {pairs / reading:,.0f} pairs/s ({pairs * raw / reading / KB**2:,.0f} MB/s)")
    shards = slots // _ROWS
    store = work / "joined.zarr"
    before, began = peak_mb(), time.perf_counter()
    group = embeddings.create(store, about, shards=shards, shard_rows=_ROWS, dimensions={"b32": _DIMENSION})
    for place in range(shards):
        for name in embeddings.names(store) if place == 0 else ("b32/image", "b32/text"):
            source = embeddings.shard_file(folders[place % _WRITTEN], name, 0)
            link(source, embeddings.shard_file(store, name, place))
    grown, joining = peak_mb() - before, time.perf_counter() - began
    array = embeddings.array(group, "b32/image")
    files = sum(1 for path in (store / "b32" / "image" / "c").rglob("*") if path.is_file())
    last = np.asarray(array[-_ROWS:])
    if not np.array_equal(last, found[0]) and (shards - 1) % _WRITTEN == _WRITTEN - 1:
        raise BenchError("the last shard is not the one that was put there")
    print(f"{slots:,} slots: {shards:,} whole shards joined in {joining:.1f} s, memory grew by {grown:.0f} MB")
    return [
        Bar("bytes on disk a pair, share of the bytes in memory", size / pairs / raw, 1.0, at_most=True),
        Bar(f"memory that joining {slots:,} slots takes, MB", grown, 100, at_most=True),
        Bar("files of an array, for each shard that was written", files / shards, 1.0, at_most=True),
    ]


def _unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    values = rng.standard_normal((rows, _DIMENSION), np.float32)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float16)
