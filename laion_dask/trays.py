"""The images of a shard in, batches for the towers out: decoded ahead of the forward pass, once for all models."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from laion_dask import devices, params, pixels
from laion_dask.clip import Clip
from laion_dask.pixels import Preparation, UnreadableImageError

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
    """Room for one batch; decoding threads write into it, each into a place of its own."""

    room: dict[str, Any]
    rows: list[int] = field(default_factory=list)
    decoded: list[Future[bool]] = field(default_factory=list)
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
    source = iter(images)
    filling: deque[_Tray] = deque()
    with ThreadPoolExecutor(devices.decode_threads(first.device)) as pool:

        def fill() -> _Tray | None:
            tray = _Tray({key: devices.tray(size, one.side, first.device) for key, one in preparations.items()})
            views = {key: room.numpy() for key, room in tray.room.items()}
            for key, body in source:
                into = [views[one][len(tray.rows)] for one in preparations]
                tray.decoded.append(pool.submit(_decode, body, [*preparations.values()], into, needed))
                tray.rows.append(row_of[key])
                if len(tray.rows) == size:
                    break
            if not tray.rows:
                return None
            rows = np.array(tray.rows)
            for model, read in zip(models.values(), reads, strict=True):
                wanted = rows[read[rows]]
                texts = [captions[row] for row in wanted]
                tray.texts.append((wanted, pool.submit(model.tokens, texts) if texts else None))
            return tray

        while True:
            with watch.measure("decode"):
                while len(filling) < _AHEAD and (tray := fill()) is not None:
                    filling.append(tray)
                if not filling:
                    return
                ready = filling.popleft()
                good = np.array([future.result() for future in ready.decoded], bool)
                tokens = [(rows, future.result() if future else None) for rows, future in ready.texts]
            with watch.measure("transfer"):
                batch = _batch(ready, good, tokens, first.device)
            yield batch


def _batch(tray: _Tray, good: np.ndarray, texts: list[tuple[np.ndarray, Any]], device: str) -> Batch:
    """Bring a tray to the device, without the places of images that could not be decoded."""
    import torch  # noqa: PLC0415

    rows = np.array(tray.rows)
    bad = rows[~good]
    count = len(rows)
    chosen = {key: room[:count] for key, room in tray.room.items()}
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


def _decode(body: bytes, preparations: list[Preparation], into: list[np.ndarray], needed_px: int | None) -> bool:
    """Write one image's pixels for every preparation; return whether its bytes could be decoded."""
    try:
        image = pixels.decode(body, needed_px)
    except UnreadableImageError:
        return False
    pixels.prepare(image, preparations, into, quick=needed_px is not None)
    return True
