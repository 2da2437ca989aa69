"""Measure how near each image is to images of evaluation sets, by hash or by embedding.

Pictures that a release shares with a benchmark's test set would inflate the scores of models trained on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import faiss
import numpy as np

from laion_dask.group import clusters
from laion_dask.images import pdq_index
from laion_dask.storage import strict_rows

_ARRAYS: Final = frozenset({".npy", ".npz"})
_PDQ_CHARS: Final = 64


class EvaluationError(Exception):
    """A file of an evaluation set cannot be read, or does not fit the images; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Sets:
    """The content of all files: hashes uint8 (rows, 32) and embeddings float32 (rows, features), unit length."""

    hashes: np.ndarray
    vectors: np.ndarray | None


def read(paths: Sequence[Path]) -> Sets:
    """Read text files of PDQ hashes, 64 hex digits a line, `#` for comments, and .npy and .npz files of embeddings.

    Raises `EvaluationError`.
    """
    hashes: list[str] = []
    arrays: list[np.ndarray] = []
    for path in paths:
        if not path.is_file():
            message = f"group.evaluation names {path}, which is missing. Remedy: correct the path or take it out"
            raise EvaluationError(message)
        if path.suffix in _ARRAYS:
            arrays += list(_embeddings(path))
        else:
            hashes += list(_hashes(path))
    widths = {array.shape[1] for array in arrays}
    if len(widths) > 1:
        message = f"group.evaluation has embeddings of {sorted(widths)} features. Remedy: all by group.model"
        raise EvaluationError(message)
    distinct = np.unique(pdq_index.unpack(hashes), axis=0)
    return Sets(distinct, clusters.unit(np.concatenate(arrays)) if arrays else None)


def _embeddings(path: Path) -> Iterator[np.ndarray]:
    try:
        loaded = np.load(path)
        arrays = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in sorted(loaded.files)]
    except ValueError as error:
        message = f"{path} has no readable arrays: {error}. Remedy: numpy.save of the embeddings, without objects"
        raise EvaluationError(message) from error
    for array in arrays:
        if array.ndim != 2 or array.dtype.kind != "f" or not np.isfinite(array).all():
            message = (
                f"{path} has an array of {array.dtype} {array.shape}. Remedy: embeddings as finite floats, "
                "(rows, features)"
            )
            raise EvaluationError(message)
        yield array


def _hashes(path: Path) -> Iterator[str]:
    try:
        for number, line in strict_rows.values(path):
            entry = line.split("#", 1)[0].strip().lower()
            if len(entry) != _PDQ_CHARS or not set(entry) <= set("0123456789abcdef"):
                message = f"{path}:{number}: no PDQ hash. Remedy: 64 hex digits a line, or .npy for embeddings"
                raise EvaluationError(message)
            yield entry
    except strict_rows.RowsError as error:
        raise EvaluationError(str(error)) from None


def distances(hashes: np.ndarray, sets: Sets, radius: int) -> np.ndarray:
    """Return the PDQ distance of hashes, uint8 (rows, 32), to the nearest one: float32 (rows,), NaN above `radius`."""
    return pdq_index.nearest(hashes, sets.hashes, radius)


def cosines(vectors: np.ndarray, sets: Sets) -> np.ndarray:
    """Return the largest cosine of vectors, float32 (rows, features), to the sets: float32 (rows,), NaN if empty.

    Every row is compared with every embedding. Raises `EvaluationError` if the numbers of features differ.
    """
    if sets.vectors is None or not len(sets.vectors) or not len(vectors):
        return np.full(len(vectors), np.nan, np.float32)
    if sets.vectors.shape[1] != vectors.shape[1]:
        message = (
            f"group.evaluation has embeddings of {sets.vectors.shape[1]} features, the images have "
            f"{vectors.shape[1]}. Remedy: embed the evaluation set with the model of group.model"
        )
        raise EvaluationError(message)
    faiss.omp_set_num_threads(1)
    best, _ = faiss.knn(vectors, sets.vectors, 1, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(best[:, 0], np.float32)
