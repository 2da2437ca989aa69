"""Embeddings in, scores out: small heads (linear or MLP) for aesthetics, unsafe and watermark, out of plain tensors.

A head file (.safetensors or .npz, never a pickle) holds `<head>.w0`, `<head>.b0`, `<head>.w1`, …: weights of shape
(out, in), with ReLU between the layers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from laion_dask.clip import DEMO_MODEL, ModelError

HEADS: Final = {"aesthetic": False, "punsafe": True, "pwatermark": True}
"""Every head by its column in the scores, and whether a sigmoid makes a probability of its output."""

_FILE_NAMES: Final = {"aesthetic": "aesthetics", "punsafe": "unsafe", "pwatermark": "watermark"}

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]


def path(heads: str | None) -> Path | None:
    """Return the file that `score.heads` names; `ModelError` when it is not there."""
    if heads is None:
        return None
    file = DEMO_MODEL / "heads.safetensors" if heads == "demo" else Path(heads)
    if not file.is_file():
        message = f"score.heads = {heads!r}: there is no such file. Remedy: a .safetensors or .npz file, demo or null"
        raise ModelError(message)
    return file


@functools.cache
def load(heads: str | None) -> Mapping[str, Layers]:
    """Return the layers of every head in the file; `demo` stands for this package's, None for no heads."""
    file = path(heads)
    if file is None:
        return {}
    tensors = _read(file)
    return {column: _layers(tensors, name) for column, name in _FILE_NAMES.items() if f"{name}.w0" in tensors}


def score(embeddings: np.ndarray, layers: Layers, *, probability: bool) -> np.ndarray:
    """Score unit embeddings (rows, features); returns float32 (rows,)."""
    from scipy.special import expit  # noqa: PLC0415

    values = embeddings.astype(np.float32)
    for number, (weight, bias) in enumerate(layers):
        values = values @ weight.T + bias
        if number + 1 < len(layers):
            values = np.maximum(values, 0)
    values = values[:, 0]
    # expit: the sigmoid that does not overflow where a head is very sure.
    return np.asarray(expit(values) if probability else values, np.float32)


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    from safetensors.numpy import load_file  # noqa: PLC0415

    return dict(load_file(path))


def _layers(tensors: Mapping[str, np.ndarray], name: str) -> Layers:
    layers: list[tuple[np.ndarray, np.ndarray]] = []
    while f"{name}.w{len(layers)}" in tensors:
        weight = np.atleast_2d(tensors[f"{name}.w{len(layers)}"]).astype(np.float32)
        layers.append((weight, np.atleast_1d(tensors[f"{name}.b{len(layers)}"]).astype(np.float32)))
    return tuple(layers)
