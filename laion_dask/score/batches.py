"""Make batches of a shard's images: decoded once for all models, ahead of the forward pass."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa

from laion_dask import params
from laion_dask.clip import devices
from laion_dask.clip.clip import Clip
from laion_dask.clip.preprocess import Preparation
from laion_dask.score import prefetch
from laion_dask.score.prefetch import BODIES_AT_ONCE, PixelBuffer, Prefetcher

# Batches that are decoded ahead of the one in the forward pass.
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded images, and the tokens of each model."""

    rows: np.ndarray
    """Rows of the shard's table, one for each image."""
    unreadable: np.ndarray
    """Rows whose image cannot be decoded."""
    pixels: Mapping[str, Any]
    """uint8 (rows, height, width, 3) for each preparation."""
    texts: list[tuple[np.ndarray, Any]]
    """For each model, in order: the rows whose text it embeds, and their tokens."""


class Stopwatch:
    """Seconds that a part waited for decoding, transfer, forward pass and writing (wall clock)."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("decode", "transfer", "forward", "write"), 0.0)

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - began


@dataclass(slots=True)
class _PendingBatch:
    """One batch while it is decoded: its buffer, and the futures of what fills it."""

    room: PixelBuffer
    rows: list[int] = field(default_factory=list)
    decoded: list[Future[list[bool]]] = field(default_factory=list)
    texts: list[tuple[np.ndarray, Future[Any] | None]] = field(default_factory=list)


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
    first = next(iter(models.values()))
    preparations = {one.key: one for one in [*(model.preparation for model in models.values()), *further]}
    reads = [np.array([spec.reads(one) for one in split], bool) for spec in settings.models]
    size = settings.batch or max(model.image_slices.rows for model in models.values())
    needed = max(one.needed_px for one in preparations.values()) if settings.decode == "reduced" else None
    fill = _Filling(first.device, preparations, size, needed, iter(images), row_of)
    filling: deque[_PendingBatch] = deque()
    try:
        while True:
            with watch.measure("decode"):
                while len(filling) < _AHEAD and (pending := fill.next()) is not None:
                    rows = np.array(pending.rows)
                    for model, wanted_rows in zip(models.values(), reads, strict=True):
                        text_rows = rows[wanted_rows[rows]]
                        texts = [captions[row] for row in text_rows]
                        pending.texts.append((text_rows, fill.ahead.read(model.tokenizer, texts) if texts else None))
                    filling.append(pending)
                if not filling:
                    return
                ready = filling.popleft()
                good = np.array([one for future in ready.decoded for one in future.result()], bool)
                tokens = [
                    (rows, model.cut(future.result()) if future else None)
                    for model, (rows, future) in zip(models.values(), ready.texts, strict=True)
                ]
            with watch.measure("transfer"):
                batch = _batch(ready, good, tokens, first.device)
                fill.ahead.uploaded(ready.room)
            yield batch
    finally:
        fill.ahead.close()


class _Filling:
    """Submits a shard's images to the decoders, batch by batch and in order."""

    def __init__(
        self,
        device: str,
        preparations: Mapping[str, Preparation],
        size: int,
        needed_px: int | None,
        source: Iterator[tuple[str, bytes]],
        row_of: Mapping[str, int],
    ) -> None:
        self.ahead: Prefetcher = prefetch.start(device)
        self._preparations = [*preparations.values()]
        self._size, self._needed_px = size, needed_px
        self._source, self._row_of = source, row_of

    def next(self) -> _PendingBatch | None:
        """Submit the images of one batch to the decoders; None where no images are left."""
        pending = _PendingBatch(self.ahead.room(self._size, self._preparations))
        source = islice(self._source, self._size)
        while chunk := list(islice(source, BODIES_AT_ONCE)):
            bodies = [body for _, body in chunk]
            pending.decoded.append(
                self.ahead.decode(bodies, self._needed_px, self._preparations, pending.room, len(pending.rows))
            )
            pending.rows += [self._row_of[key] for key, _ in chunk]
        if not pending.rows:
            self.ahead.uploaded(pending.room)
            return None
        return pending


def _batch(pending: _PendingBatch, good: np.ndarray, texts: list[tuple[np.ndarray, Any]], device: str) -> Batch:
    """Copy a decoded batch to the device, without the rows of images that could not be decoded."""
    import torch  # noqa: PLC0415

    rows = np.array(pending.rows)
    bad = rows[~good]
    count = len(rows)
    chosen = {key: buffer[:count] for key, buffer in pending.room.tensors.items()}
    if len(bad):
        places = torch.from_numpy(np.flatnonzero(good))
        chosen = {key: buffer[places] for key, buffer in chosen.items()}
        texts = [_without(bad, one, tokens) for one, tokens in texts]
    return Batch(
        rows[good],
        bad,
        {key: devices.upload(buffer, device) for key, buffer in chosen.items()},
        [(one, tokens if tokens is None else devices.upload(tokens, device)) for one, tokens in texts],
    )


def _without(bad: np.ndarray, rows: np.ndarray, tokens: Any) -> tuple[np.ndarray, Any]:  # noqa: ANN401 - torch tensors
    keep = ~np.isin(rows, bad)
    return rows[keep], tokens if tokens is None else tokens[keep]
