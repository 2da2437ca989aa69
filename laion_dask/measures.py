"""Embeddings of named models in, named columns of the scores out: what heads make of them.

One table (schema SCORES) has these columns behind the similarities; all are NaN where there is no image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from laion_dask import heads, params
from laion_dask.clip import Clip, ModelError


@dataclass(frozen=True, slots=True)
class Embedded:
    """What one model made of a shard: float32 (rows, dimension), unit length, NaN where it saw or read nothing."""

    model: Clip
    image: np.ndarray
    text: np.ndarray


def measure(embedded: Mapping[str, Embedded], rows: np.ndarray, settings: params.Score) -> dict[str, np.ndarray]:
    """Return the columns beside the similarities, float32 (all rows of the shard,), by their names.

    `embedded` holds every model of `score.models` by its name, in that order; `rows` are those that have an image. The
    file of `score.heads` reads the embeddings of the first model. Raises `ModelError` where they do not fit.
    """
    first = next(iter(embedded.values()))
    columns = {head: np.full(len(first.image), np.nan, np.float32) for head in heads.HEADS}
    for head, layers in heads.load(settings.heads).items():
        features = layers[0][0].shape[1]
        if features != first.model.dimension:
            message = (
                f"score.heads = {settings.heads!r}: {head} reads {features} features, {first.model.name} gives "
                f"{first.model.dimension}. Remedy: heads made for the first of score.models, or null"
            )
            raise ModelError(message)
        columns[head][rows] = heads.score(first.image[rows], layers, probability=heads.HEADS[head])
    return columns


def files(settings: params.Score) -> list[Path]:
    """Return the files that decide the columns, so that a changed one makes other parts."""
    return [file for file in [heads.path(settings.heads)] if file is not None]
