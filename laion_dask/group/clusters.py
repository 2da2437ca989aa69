"""Cluster embeddings by faiss's k-means and find near ones within each cluster, as SemDeDup does.

SemDeDup: Abbas et al. 2023, arXiv 2303.09540, section 3: k-means on the embeddings, then cosines inside each cluster.
"""

from __future__ import annotations

import math
from typing import Final

import faiss
import numpy as np

_SAMPLE: Final = 64  # training embeddings of k-means for each centre
_ROUNDS: Final = 10  # iterations of k-means
_BLOCK: Final = 1024  # rows of a cluster that are compared with a tile at once
_TILE: Final = 4096
CROWD: Final = 20_000
"""Members of a cluster that others are compared with, the first ones; a larger cluster is counted as crowded."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return float32 (rows, features) of unit length; zeros stay zeros."""
    wide = vectors.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths > 0, lengths, 1)


def how_many(images: int, asked: int | None) -> int:
    """Return the number of clusters: `asked`, or the square root of the images, which balances both steps' costs."""
    return max(1, min(images, asked or round(math.sqrt(images))))


def sample(images: int, clusters: int, seed: int) -> np.ndarray:
    """Draw the rows to learn the centres from, 64 for each cluster, sorted."""
    rows = min(images, _SAMPLE * clusters)
    return np.sort(np.random.default_rng(seed).choice(images, rows, replace=False))


def centres(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Learn centres by spherical k-means: float32 (clusters, features), unit length."""
    faiss.omp_set_num_threads(1)  # sums in the same order on every machine
    means = faiss.Kmeans(
        vectors.shape[1],
        clusters,
        niter=_ROUNDS,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=_SAMPLE,
    )
    means.train(np.ascontiguousarray(vectors, np.float32))
    return unit(np.asarray(means.centroids))


def assign(vectors: np.ndarray, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest centre of each row: its number, int32 (rows,), and the cosine to it, float32 (rows,)."""
    if not len(vectors):
        return np.zeros(0, np.int32), np.zeros(0, np.float32)
    faiss.omp_set_num_threads(1)
    cosines, places = faiss.knn(vectors, means, 1, metric=faiss.METRIC_INNER_PRODUCT)
    return places[:, 0].astype(np.int32), cosines[:, 0]


def within(vectors: np.ndarray, floor: float, neighbours: int, crowd: int = CROWD) -> tuple[np.ndarray, ...]:
    """Return the pairs of rows a < b of a cluster with a cosine of at least `floor`: a, b (int64) and cosine (float32).

    For each b the nearest `neighbours` are returned, the first ones in a tie; rows after the first `crowd` are compared
    with those only.
    """
    blocks = []
    for begin in range(0, len(vectors), _BLOCK):
        block = vectors[begin : begin + _BLOCK]
        ends = min(begin + len(block), crowd)
        hits = []
        for low in range(0, ends, _TILE):
            cosines = block @ vectors[low : min(low + _TILE, ends)].T
            hit = cosines >= np.float32(floor)
            if begin < low + _TILE:
                hit &= np.arange(low, low + cosines.shape[1])[None] < np.arange(begin, begin + len(block))[:, None]
            for row in np.flatnonzero(hit.sum(axis=1) > neighbours):
                # Drops hits that cannot be among the nearest, to limit memory.
                places = np.flatnonzero(hit[row])
                hit[row, places[np.argsort(-cosines[row, places], kind="stable")[neighbours:]]] = False
            b, a = np.nonzero(hit)
            hits.append((a + low, b + begin, cosines[b, a]))
        if hits:
            a, b, cosine = (np.concatenate(column) for column in zip(*hits, strict=True))
            chosen = nearest(a, b, -cosine, neighbours)
            blocks.append((a[chosen], b[chosen], cosine[chosen]))
    if not blocks:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    return tuple(np.concatenate(column) for column in zip(*blocks, strict=True))


def nearest(a: np.ndarray, b: np.ndarray, distance: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of the `limit` nearest a of each b, in the order of b, distance and a."""
    order = np.lexsort((a, distance, b))
    ordered = b[order]
    first = np.r_[0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1] if len(ordered) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[first, len(ordered)])
    rank = np.arange(len(ordered)) - np.repeat(first, sizes)
    return np.asarray(order[rank < limit])
