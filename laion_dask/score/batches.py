"""Make batches of a shard's images and texts: decoded and tokenized once, ahead of the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from laion_dask import params
from laion_dask.clip import decoded
from laion_dask.clip.clip import Clip
from laion_dask.clip.decoded import Decoding, Stopwatch
from laion_dask.clip.prefetch import Prefetcher
from laion_dask.clip.preprocess import Preparation

_Texts = list[tuple[np.ndarray, Any]]
"""For each model, in order: the rows whose text it embeds, and their tokens, or None where there are no rows."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded images, and the tokens of each model."""

    rows: np.ndarray
    """Rows of the shard's table, one for each image."""
    unreadable: np.ndarray
    """Rows whose image cannot be decoded."""
    pixels: Mapping[str, Any]
    """uint8 (rows, height, width, 3) for each preparation."""
    texts: _Texts
    size: int
    """Images of a full batch."""


def batches(
    table: pa.Table,
    images: Iterable[tuple[str, bytes]],
    settings: params.Score,
    models: Mapping[str, Clip],
    watch: Stopwatch,
    further: Sequence[Preparation] = (),
) -> Iterator[Batch]:
    """Decode a shard's images (key, bytes) ahead of the forward pass, for the models and for `further` networks.

    `table` has key, caption and split. The cut into batches depends on the shard alone, not on the machine's load.
    """
    row_of = {key: row for row, key in enumerate(table["key"].to_pylist())}
    captions = [str(caption) for caption in table["caption"].to_pylist()]
    split = table["split"].to_pylist()
    device = next(iter(models.values())).device
    how = Decoding(
        device=device,
        preparations=[*(model.preparation for model in models.values()), *further],
        size=settings.batch or max(model.image_slices.rows for model in models.values()),
        reduced=settings.decode == "reduced",
    )
    reads = [np.array([spec.reads(one) for one in split], bool) for spec in settings.models]

    def tokens(ahead: Prefetcher, rows: np.ndarray) -> Callable[[], _Texts]:
        submitted = []
        for model, wanted_rows in zip(models.values(), reads, strict=True):
            text_rows = rows[wanted_rows[rows]]
            texts = [captions[row] for row in text_rows]
            submitted.append((text_rows, ahead.read(model.tokenizer, texts) if texts else None))
        return lambda: [(text_rows, future.result() if future else None) for text_rows, future in submitted]

    source = ((row_of[key], body) for key, body in images)
    for batch in decoded.batches(source, how, watch, tokens):
        texts = batch.beside
        if len(batch.unreadable):
            texts = [_without(batch.unreadable, rows, tokens) for rows, tokens in texts]
        yield Batch(batch.rows, batch.unreadable, batch.pixels, texts, how.size)


def _without(bad: np.ndarray, rows: np.ndarray, tokens: Any) -> tuple[np.ndarray, Any]:  # noqa: ANN401 - torch tensors
    keep = ~np.isin(rows, bad)
    return rows[keep], tokens if tokens is None else tokens[keep]
