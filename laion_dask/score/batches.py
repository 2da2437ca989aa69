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
from laion_dask.score.prefetch import BODIES_AT_ONCE, Ahead, Room

# Trays that are being filled while the towers look at another.
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Images that were decoded, and the texts that each model reads."""

    rows: np.ndarray
    """Rows of the shard's table, one for each image."""
    unreadable: np.ndarray
    """Rows whose image cannot be decoded."""
    pixels: Mapping[str, Any]
    """uint8 (rows, height, width, 3) for each preparation."""
    texts: list[tuple[np.ndarray, Any]]
    """For each model, in order: rows whose text it reads, and their tokens."""


class Stopwatch:
    """Seconds that a part waited for decoding, transfer, forward pass and writing, on the clock of its process."""

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
class _Tray:
    """Room for one batch; decoders write into it, each into places of its own."""

    room: Room
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
    """Decode a shard's images (key, bytes) ahead of the forward pass, for the models and for further networks.

    `table` has key, caption and split. Batches depend on the shard alone, not on the machine's load.
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
    filling: deque[_Tray] = deque()
    try:
        while True:
            with watch.measure("decode"):
                while len(filling) < _AHEAD and (tray := fill.next()) is not None:
                    rows = np.array(tray.rows)
                    for model, read in zip(models.values(), reads, strict=True):
                        wanted = rows[read[rows]]
                        texts = [captions[row] for row in wanted]
                        tray.texts.append((wanted, fill.ahead.read(model.tokenizer, texts) if texts else None))
                    filling.append(tray)
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
    """Trays out of a shard's images, in order; each is filled while the ones before it are computed."""

    def __init__(
        self,
        device: str,
        preparations: Mapping[str, Preparation],
        size: int,
        needed_px: int | None,
        source: Iterator[tuple[str, bytes]],
        row_of: Mapping[str, int],
    ) -> None:
        self.ahead: Ahead = prefetch.start(device)
        self._preparations = [*preparations.values()]
        self._size, self._needed_px = size, needed_px
        self._source, self._row_of = source, row_of

    def next(self) -> _Tray | None:
        """Hand the images of one batch over to the decoders; None where there are no more."""
        tray = _Tray(self.ahead.room(self._size, self._preparations))
        source = islice(self._source, self._size)
        while some := list(islice(source, BODIES_AT_ONCE)):
            bodies = [body for _, body in some]
            tray.decoded.append(
                self.ahead.decode(bodies, self._needed_px, self._preparations, tray.room, len(tray.rows))
            )
            tray.rows += [self._row_of[key] for key, _ in some]
        if not tray.rows:
            self.ahead.uploaded(tray.room)
            return None
        return tray


def _batch(tray: _Tray, good: np.ndarray, texts: list[tuple[np.ndarray, Any]], device: str) -> Batch:
    """Bring a tray to the device, without the places of images that could not be decoded."""
    import torch  # noqa: PLC0415

    rows = np.array(tray.rows)
    bad = rows[~good]
    count = len(rows)
    chosen = {key: room[:count] for key, room in tray.room.tensors.items()}
    if len(bad):
        places = torch.from_numpy(np.flatnonzero(good))
        chosen = {key: room[places] for key, room in chosen.items()}
        texts = [_without(bad, one, tokens) for one, tokens in texts]
    return Batch(
        rows[good],
        bad,
        {key: devices.upload(room, device) for key, room in chosen.items()},
        [(one, tokens if tokens is None else devices.upload(tokens, device)) for one, tokens in texts],
    )


def _without(bad: np.ndarray, rows: np.ndarray, tokens: Any) -> tuple[np.ndarray, Any]:  # noqa: ANN401 - torch tensors
    stays = ~np.isin(rows, bad)
    return rows[stays], tokens if tokens is None else tokens[stays]
