"""Compute filter columns from stored embeddings: negCLIPLoss, NormSim, and the cluster of an image.

negCLIPLoss and NormSim: arXiv 2405.19547, and ypwang61/negCLIPLoss_NormSim for its authors' parameters.
Image-based filtering: mlfoundations/datacomp, baselines/apply_filter.py and image_based_clustering.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask.filter.sampling.balance import mixed

# Rows of a block of similarities: with batches of 32,768 pairs, 64 MB of float32.
_BLOCK: Final = 512
_TARGETS_AT_ONCE: Final = 32_768


class EmbeddingsError(Exception):
    """A file of embeddings cannot be used; the message has the file and the remedy."""


def read(path: Path, features: int) -> np.ndarray:
    """Read a .npy of embeddings and return it as unit vectors, float32 (rows, features). Raises `EmbeddingsError`."""
    return unit(np.asarray(opened(path, features)))


def opened(path: Path, features: int | None = None) -> np.ndarray:
    """Open a .npy of embeddings without reading its rows; None: any number of features. Raises `EmbeddingsError`."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise EmbeddingsError(f"{path} cannot be read: {error}. Remedy: a .npy of floats (rows, features)") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise EmbeddingsError(f"{path} holds several arrays. Remedy: a .npy of floats (rows, features)")
    if array.ndim != 2 or features not in {None, array.shape[1]} or not len(array) or array.dtype.kind != "f":
        expected = features or "features"
        message = f"{path} holds {array.dtype} {array.shape}. Remedy: floats (rows, {expected}), of the same model"
        raise EmbeddingsError(message)
    return array


def unit(rows: np.ndarray) -> np.ndarray:
    """Normalise rows to unit length in float32: stored ones are rounded to half precision."""
    wide = np.asarray(rows, np.float32)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1e-12)))


# NormSim


def normsim(images: np.ndarray, targets: np.ndarray, norm: str | int) -> np.ndarray:
    """Return the norm of the similarities to all targets, float32 (rows,); NaN where there is no image.

    `images` (rows, features) and `targets` (targets, features) are unit vectors. "inf": the largest similarity; 2: the
    root of the sum of their squares.
    """
    if norm == 2:
        gram = targets.astype(np.float64).T @ targets.astype(np.float64)
        squares = np.einsum("ij,ij->i", images.astype(np.float64) @ gram, images.astype(np.float64))
        return np.asarray(np.sqrt(squares), np.float32)
    best = np.full(len(images), np.nan, np.float32)
    for rows in _blocks(len(images)):
        for begin in range(0, len(targets), _TARGETS_AT_ONCE):
            nearest_similarity = (images[rows] @ targets[begin : begin + _TARGETS_AT_ONCE].T).max(axis=1)
            best[rows] = np.fmax(best[rows], nearest_similarity)
    return best


# negCLIPLoss


class RandomSample:
    """Keeps the pairs of a pool with the smallest hashes: a random sample independent of the order of the shards."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, np.uint64(seed & ((1 << 64) - 1))
        self._keys, self.slots = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        """Rows of the store, in the order of their hashes."""

    def add(self, uids: np.ndarray, slots: np.ndarray) -> None:
        """Add pairs to the pool: uids from `uid_sets.halves`, and the slots of their embeddings, int64 (rows,)."""
        keys = np.concatenate([self._keys, mixed(mixed(uids["f0"] ^ mixed(self._seed.reshape(1))) ^ uids["f1"])])
        slots = np.concatenate([self.slots, slots])
        order = np.lexsort((slots, keys))[: self._size]
        self._keys, self.slots = keys[order], slots[order]


def negcliploss(
    images: np.ndarray,
    texts: np.ndarray,
    slots: np.ndarray,
    batches: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    temperature: float,
) -> np.ndarray:
    """Return the similarity less its normalizer, float32 (rows,): higher is better; NaN where an embedding is missing.

    The normalizer is half the temperature times the mean over batches of the log-sum-exp of the row's similarities to
    all texts of the batch, and of all images of the batch to its text. `batches` are (slots, images, texts) each; a row
    that is not in a batch is added to it. The paper splits the whole pool into batches repeatedly; here all rows use
    the same few random batches, so that shards can be judged separately.
    """
    own = np.einsum("ij,ij->i", images, texts)
    normalizer = np.zeros(len(images), np.float64)
    number = 0
    for batch_slots, batch_images, batch_texts in batches:
        number += 1
        member = np.isin(slots, batch_slots)
        for rows in _blocks(len(images)):
            for mine, theirs in ((images, batch_texts), (texts, batch_images)):
                logits = mine[rows] @ theirs.T
                logits /= np.float32(temperature)
                alone = np.where(member[rows], -np.inf, own[rows] / temperature)
                # A row without an embedding has NaN as result.
                with np.errstate(invalid="ignore"):
                    normalizer[rows] += np.logaddexp(_logsumexp(logits), alone)
    return np.asarray(own - temperature / 2 * normalizer / max(number, 1), np.float32)


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1)
    np.subtract(logits, highest[:, None], out=logits)
    np.exp(logits, out=logits)
    return np.asarray(highest + np.log(logits.sum(axis=1, dtype=np.float64)))


def _blocks(rows: int) -> Iterable[slice]:
    return (slice(begin, begin + _BLOCK) for begin in range(0, rows, _BLOCK))


# Clusters


@functools.lru_cache(maxsize=2)
def _index(path: Path, digest: str, features: int) -> Any:  # noqa: ANN401, ARG001 - faiss has no types; by its bytes
    import faiss  # noqa: PLC0415 - only this rule needs it

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(features)
    index.add(read(path, features))
    return index


def nearest(images: np.ndarray, centroids: Path, digest: str) -> np.ndarray:
    """Return the index of the centroid with the largest inner product, int64 (rows,); `images` must have no NaN."""
    if not len(images):
        return np.zeros(0, np.int64)
    _, places = _index(centroids, digest, images.shape[1]).search(np.ascontiguousarray(images, np.float32), 1)
    return np.asarray(places[:, 0], np.int64)


def on_target(images: np.ndarray, centroids: Path, targets: Path, digest: str) -> np.ndarray:
    """Return bool (rows,): whether the nearest centroid is also that of any target; false where there is no image."""
    target_clusters = _wanted(centroids, targets, digest, images.shape[1])
    has_image = ~np.isnan(images).any(axis=1)
    result = np.zeros(len(images), bool)
    result[has_image] = np.isin(nearest(images[has_image], centroids, digest), target_clusters)
    return result


@functools.lru_cache(maxsize=2)
def _wanted(centroids: Path, targets: Path, digest: str, features: int) -> np.ndarray:
    return np.unique(nearest(read(targets, features), centroids, digest))
