"""Score embeddings with heads: published ones for aesthetics, unsafe images and violence, or any linear one or MLP.

All read image embeddings of unit length and compute in double precision, so that the order of sums, which differs
between machines, does not show in the float32 that they return.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from laion_dask.clip import tensors
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.params import heads

Tensors = Mapping[str, np.ndarray]
Layers = tuple[tuple[np.ndarray, np.ndarray], ...]
"""Weights (out, in) and biases (out,), float64, in the order in which they are applied."""

_DEMO_FILE: Final = DEMO_MODEL / "heads.safetensors"
# Columns of this package's heads: the name in their file, and whether a sigmoid makes a probability of the output.
_DEMO: Final = {"aesthetic": ("aesthetics", False), "punsafe": ("unsafe", True), "pwatermark": ("watermark", True)}
# Keras guards its division with this.
_LEAST_DEVIATION: Final = 1e-7


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A loaded head: the column that it fills, the features that it reads, and its function."""

    column: str
    features: int
    function: Callable[[np.ndarray], np.ndarray]

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Score unit embeddings (rows, features) of any precision; returns float32 (rows,)."""
        return self.function(embeddings.astype(np.float64)).astype(np.float32)


def file(spec: heads.Head) -> Path:
    """Return the file of a head; `ModelError` where it is not there."""
    path = Path(spec.file) if spec.file is not None else _DEMO_FILE
    if not path.is_file():
        message = f"score.heads, kind {spec.kind}: {path}: there is no such file. Remedy: the path of its weights"
        raise ModelError(f"{message}, see docs/heads.md")
    return path


@functools.cache
def load(spec: heads.Head) -> tuple[LoadedHead, ...]:
    """Load what one entry of `score.heads` names, once for each process: a head for each of its columns.

    Raises `ModelError` where the file is missing, refused, or not of the entry's kind.
    """
    path = file(spec)
    found = tensors.read(path)
    try:
        if spec.kind == "demo":
            return demo(found)
        return (_HEADS[spec.kind](spec.columns[0], found, spec),)
    except (KeyError, ValueError) as error:
        message = (
            f"score.heads: {path} is no file of kind {spec.kind}: {error}. Remedy: see its format in docs/heads.md"
        )
        raise ModelError(message) from error


def demo(found: Tensors) -> tuple[LoadedHead, ...]:
    """Return the heads of this package: a file with the layers of several, `<head>.w0`, `<head>.b0` and so on."""
    return tuple(
        _mlp(
            column,
            layers({key.removeprefix(f"{name}."): array for key, array in found.items() if key.startswith(f"{name}.")}),
            probability=probability,
        )
        for column, (name, probability) in _DEMO.items()
    )


def run(values: np.ndarray, of: Layers) -> np.ndarray:
    """Return the output (rows,) of layers with ReLU between them, for float64 (rows, features)."""
    for number, (weight, bias) in enumerate(of):
        values = values @ weight.T + bias
        if number + 1 < len(of):
            values = np.maximum(values, 0)
    return np.asarray(values[:, 0])


def layers(found: Tensors) -> Layers:
    """Return the linear layers of a file: `w0`, `b0`, `w1`, …; `weight`, `bias`; or a state dict, `<name>.weight`, ….

    Weights are (out, in), as torch has them. Raises `ValueError` where the layers do not follow each other down to one
    output, and for layers of other kinds.
    """
    if "w0" in found:
        pairs = [(found[f"w{number}"], found[f"b{number}"]) for number in range(sum(name[0] == "w" for name in found))]
    else:
        names = sorted((name for name in found if re.search(r"(^|\.)weight$", name)), key=_by_number)
        pairs = [(found[name], found[f"{name.removesuffix('weight')}bias"]) for name in names]
    of = tuple(
        (np.atleast_2d(weight).astype(np.float64), np.atleast_1d(bias).astype(np.float64)) for weight, bias in pairs
    )
    if not of:
        message = f"it has {', '.join(sorted(found)[:8])}, but no weight"
        raise ValueError(message)
    sizes = [of[0][0].shape[-1], *(len(bias) for _, bias in of)]
    wanted = [(out, into) for into, out in itertools.pairwise(sizes)]
    shapes = [weight.shape for weight, _ in of]
    if len(found) != 2 * len(of) or shapes != wanted or sizes[-1] != 1:
        message = f"weights of shapes {shapes} are no linear layers, one behind the other, down to one output"
        raise ValueError(message)
    return of


def _mlp(column: str, of: Layers, *, probability: bool) -> LoadedHead:
    def function(rows: np.ndarray) -> np.ndarray:
        return _sigmoid(run(rows, of)) if probability else run(rows, of)

    return LoadedHead(column, of[0][0].shape[1], function)


def _any(column: str, found: Tensors, spec: heads.Head) -> LoadedHead:
    return _mlp(column, layers(found), probability=spec.output == "probability")


def _affine(column: str, found: Tensors, _: heads.Head) -> LoadedHead:
    """Aesthetics predictor of LAION, version 1: one linear layer."""
    return _mlp(column, _one(layers(found)), probability=False)


def _collapsed(column: str, found: Tensors, _: heads.Head) -> LoadedHead:
    """Improved aesthetics predictor, version 2: linear layers without activation, which are one affine map."""
    weight, bias = (layers_ := layers(found))[0]
    for further, offset in layers_[1:]:
        weight, bias = further @ weight, further @ bias + offset
    return _mlp(column, ((weight, bias),), probability=False)


def _simulacra(column: str, found: Tensors, _: heads.Head) -> LoadedHead:
    """Heads of simulacra-aesthetic-models: they read embeddings of the length sqrt(features)."""
    ((weight, bias),) = _one(layers(found))
    return _mlp(column, ((weight * np.sqrt(weight.shape[1]), bias),), probability=False)


def _violence(column: str, found: Tensors, _: heads.Head) -> LoadedHead:
    """Two prompts of clip-retrieval's back end: above 0 the second, violent one, is more similar than the first."""
    prompts = found[tensors.ONLY].astype(np.float64)
    if prompts.ndim != 2 or len(prompts) != 2:
        message = f"an array of shape {prompts.shape}, not of two prompts, (2, features)"
        raise ValueError(message)
    direction = prompts[1] - prompts[0]
    return LoadedHead(column, len(direction), lambda rows: rows @ direction)


def _nsfw(column: str, found: Tensors, spec: heads.Head) -> LoadedHead:
    """LAION's CLIP-based NSFW detector: some features are categories, by the six decimals that they print with.

    `as-trained` looks them up in the vocabularies of the training, as the released model does; `plain` scales them like
    the others, as ports to other frameworks do.
    """
    mean, deviation = found["mean"].astype(np.float64), np.sqrt(found["variance"].astype(np.float64))
    deviation = np.maximum(deviation, _LEAST_DEVIATION)
    count = sum(bool(re.fullmatch(r"w\d+", name)) for name in found)
    # Keras keeps weights as (in, out).
    of = layers({f"{kind}{n}": found[f"{kind}{n}"].T for n in range(count) for kind in "wb"})
    places = {
        int(column): {str(word): place for place, word in enumerate(found[f"vocab_{column}"], start=1)}
        for column in found["categorical_columns"]
    }

    def function(rows: np.ndarray) -> np.ndarray:
        # The released embeddings were half precision: unrounded values would miss every word of a vocabulary.
        values = rows.astype(np.float16).astype(np.float64)
        if spec.mode != "plain":
            for feature, place in places.items():
                values[:, feature] = [place.get(f"{value:.6f}", 0) for value in values[:, feature]]
        return _sigmoid(run((values - mean) / deviation, of))

    return LoadedHead(column, len(mean), function)


_HEADS: Final[Mapping[str, Callable[[str, Tensors, heads.Head], LoadedHead]]] = {
    "aesthetic_v1": _affine,
    "aesthetic_v2": _collapsed,
    "nsfw_laion": _nsfw,
    "violence": _violence,
    "simulacra": _simulacra,
    "layers": _any,
}


def _one(of: Layers) -> Layers:
    if len(of) != 1:
        message = f"{len(of)} layers, not one"
        raise ValueError(message)
    return of


def _sigmoid(values: np.ndarray) -> np.ndarray:
    from scipy.special import expit  # noqa: PLC0415

    # The sigmoid that does not overflow where a head is very sure.
    return np.asarray(expit(values))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Order `layers.10` behind `layers.2`."""
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in name.split(".")]
