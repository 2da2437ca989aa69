"""Find images with near embeddings within clusters, in parts by shard and by set of clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask.group import clusters, slices, stored
from laion_dask.group.part import VECTORS

SET: Final = 16
"""Clusters of one part: a few seconds for a million images."""
_ROWS: Final = 1 << 15  # embeddings that are read at once, unless one cluster has more


def centres(
    out: Path, *, numbered: Sequence[Path], sizes: Sequence[int], parts: Sequence[Path], asked: int | None, seed: int
) -> dict[str, Any]:
    """Learn the centres of the clusters from a sample of the images; `sizes` are the images of each range."""
    images = stored.Images(numbered, parts)
    total = sum(sizes)
    number = clusters.how_many(total, asked) if total else 0
    rows = clusters.sample(total, number, seed)
    starts = np.cumsum([0, *sizes])
    piece = np.searchsorted(starts, rows, side="right") - 1
    sample = images.vectors((piece << slices.RANGE_BITS) + rows - starts[piece])
    np.save(out / "centres.npy", clusters.centres(sample, number, seed) if number else sample)
    return {"clusters": number}


def assign(out: Path, *, part: Path, means: Path) -> dict[str, Any]:
    """Assign each image of a shard to the cluster with the nearest centre."""
    cluster, cosine = clusters.assign(clusters.unit(np.load(part / VECTORS)), np.load(means / "centres.npy"))
    np.savez(out / "clusters.npz", cluster=cluster, cosine=cosine)
    return {}


def gather(
    out: Path,
    *,
    numbered: Sequence[Path],
    united: Sequence[Path],
    assigned: Sequence[Path],
    first: int,
    piece: int,
    sets: int,
) -> dict[str, Any]:
    """Store the images of one group of shards, from `first` on, by set of clusters, and the copies there by shard."""
    cluster = []
    for folder in assigned:
        with np.load(folder / "clusters.npz") as arrays:
            cluster.append(arrays["cluster"])
    starts = np.cumsum([0, *map(len, cluster)])
    placed = slices.read(numbered, "placed", piece, slices.PLACED)
    found = np.zeros(len(placed), slices.CLUSTERED)
    for name in slices.PLACED.names or ():
        found[name] = placed[name]
    found["cluster"] = np.concatenate(cluster)[starts[placed["shard"] - first] + placed["place"]]
    slices.write(out / "images", found, found["cluster"] // SET, sets)
    copies = slices.read(united, "copies", piece, slices.COPY)
    slices.write(out / "copies", copies, copies["shard"] - first, len(assigned))
    return {}


def semantic(
    out: Path,
    *,
    numbered: Sequence[Path],
    parts: Sequence[Path],
    gathered: Sequence[Path],
    piece: int,
    floor: float,
    neighbours: int,
) -> dict[str, Any]:
    """Compare the images of each cluster of a set with each other: `semantic.parquet`."""
    images = stored.Images(numbered, parts)
    rows = slices.read(gathered, "images", piece, slices.CLUSTERED)
    rows = rows[np.lexsort((rows["image"], rows["cluster"]))]
    counts = {"semantic": 0, "full_semantic": 0, "crowded_clusters": 0}

    def found() -> Iterator[tuple[Any, Any, Any, Any]]:
        for numbers, vectors in _clusters(images, rows):
            a, b, cosine = clusters.within(clusters.unit(vectors), floor, neighbours)
            counts["crowded_clusters"] += len(numbers) > clusters.CROWD
            counts["semantic"] += len(a)
            counts["full_semantic"] += stored.full(b, neighbours)
            yield numbers[a], numbers[b], None, cosine

    stored.write_edges(out / "semantic.parquet", images, found())
    return counts


def _clusters(images: stored.Images, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the images of each cluster and their stored embeddings; each shard's file is opened for many clusters."""
    first, sizes = slices.runs(rows["cluster"])
    ends = first + sizes
    low = 0
    while low < len(first):
        high = max(low + 1, int(np.searchsorted(ends, first[low] + _ROWS, side="right")))
        begin = first[low]
        vectors = images.stored(rows[begin : ends[high - 1]])
        for start, end in zip(first[low:high], ends[low:high], strict=True):
            yield rows["image"][start:end], vectors[start - begin : end - begin]
        low = high
