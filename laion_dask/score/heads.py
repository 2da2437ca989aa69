"""Score embeddings with heads: published ones for aesthetics, unsafe images and violence, or any linear one or MLP.

All read image embeddings of unit length and compute in double precision, so that the order of sums, which differs
between machines, does not change the float32 results.
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
# Columns of the demo's heads: the name in their file, and whether a sigmoid turns the output into a probability.
_DEMO: Final = {"aesthetic": ("aesthetics", False), "punsafe": ("unsafe", True), "pwatermark": ("watermark", True)}
# Keras divides by at least this.
_LEAST_DEVIATION: Final = 1e-7


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A loaded head: its column, its number of input features, and its function."""

    column: str
    features: int
    function: Callable[[np.ndarray], np.ndarray]

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Score unit embeddings (rows, features) of any precision; returns float32 (rows,)."""
        return self.function(embeddings.astype(np.float64)).astype(np.float32)


def file(spec: heads.Head) -> Path:
    """Return the file of a head; `ModelError` where it is missing."""
    path = Path(spec.file) if spec.file is not None else _DEMO_FILE
    if not path.is_file():
        message = f"score.heads, kind {spec.kind}: {path} does not exist. Remedy: give the path of its weights"
        raise ModelError(f"{message}, see docs/heads.md")
    return path


@functools.cache
def load(spec: heads.Head) -> tuple[LoadedHead, ...]:
    """Load an entry of `score.heads`, once for each process: one head for each of its columns.

    Raises `ModelError` where the file is missing, refused, or not of the entry's kind.
    """
    path = file(spec)
    arrays = tensors.read(path)
    try:
        if spec.kind == "demo":
            return demo(arrays)
        return (_HEADS[spec.kind](spec.columns[0], arrays, spec),)
    except (KeyError, ValueError) as error:
        message = (
            f"score.heads: {path} is not a file of kind {spec.kind}: {error}. Remedy: see its format in docs/heads.md"
        )
        raise ModelError(message) from error


def demo(found: Tensors) -> tuple[LoadedHead, ...]:
    """Return the demo's heads from a file with the layers of all of them: `<head>.w0`, `<head>.b0` and so on."""
    return tuple(
        _mlp(
            column,
            layers({key.removeprefix(f"{name}."): array for key, array in found.items() if key.startswith(f"{name}.")}),
            probability=probability,
        )
        for column, (name, probability) in _DEMO.items()
    )


def run(values: np.ndarray, of: Layers) -> np.ndarray:
    """Apply layers, with ReLU between them, to float64 (rows, features); returns (rows,)."""
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
    linear = tuple(
        (np.atleast_2d(weight).astype(np.float64), np.atleast_1d(bias).astype(np.float64)) for weight, bias in pairs
    )
    if not linear:
        message = f"it has {', '.join(sorted(found)[:8])}, but no weight"
        raise ValueError(message)
    sizes = [linear[0][0].shape[-1], *(len(bias) for _, bias in linear)]
    expected = [(out, into) for into, out in itertools.pairwise(sizes)]
    shapes = [weight.shape for weight, _ in linear]
    if len(found) != 2 * len(linear) or shapes != expected or sizes[-1] != 1:
        message = f"weights of shapes {shapes} are not consecutive linear layers with one output"
        raise ValueError(message)
    return linear


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
    """Heads of simulacra-aesthetic-models: their inputs have the length sqrt(features)."""
    ((weight, bias),) = _one(layers(found))
    return _mlp(column, ((weight * np.sqrt(weight.shape[1]), bias),), probability=False)


def _violence(column: str, found: Tensors, _: heads.Head) -> LoadedHead:
    """Two prompts of clip-retrieval's back end: above 0 the image is closer to the second, violent one."""
    prompts = found[tensors.ONLY].astype(np.float64)
    if prompts.ndim != 2 or len(prompts) != 2:
        message = f"an array of shape {prompts.shape}, not of two prompts, (2, features)"
        raise ValueError(message)
    direction = prompts[1] - prompts[0]
    return LoadedHead(column, len(direction), lambda rows: rows @ direction)


def _nsfw(column: str, found: Tensors, spec: heads.Head) -> LoadedHead:
    """LAION's CLIP-based NSFW detector: it treats some features as categories, by their value to six decimals.

    `as-trained` looks them up in the training's vocabularies, as the released model does; `plain` scales them like the
    others, as ports to other frameworks do.
    """
    mean, deviation = found["mean"].astype(np.float64), np.sqrt(found["variance"].astype(np.float64))
    deviation = np.maximum(deviation, _LEAST_DEVIATION)
    count = sum(bool(re.fullmatch(r"w\d+", name)) for name in found)
    # Keras keeps weights as (in, out).
    linear = layers({f"{kind}{n}": found[f"{kind}{n}"].T for n in range(count) for kind in "wb"})
    places = {
        int(column): {str(word): place for place, word in enumerate(found[f"vocab_{column}"], start=1)}
        for column in found["categorical_columns"]
    }

    def function(rows: np.ndarray) -> np.ndarray:
        # The released embeddings were half precision: unrounded values would match no entry of a vocabulary.
        values = rows.astype(np.float16).astype(np.float64)
        if spec.mode != "plain":
            for feature, place in places.items():
                values[:, feature] = [place.get(f"{value:.6f}", 0) for value in values[:, feature]]
        return _sigmoid(run((values - mean) / deviation, linear))

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

    # expit does not overflow for large negative values.
    return np.asarray(expit(values))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort `layers.10` after `layers.2`."""
    return [(int(piece), "") if piece.isdigit() else (0, piece) for piece in name.split(".")]
