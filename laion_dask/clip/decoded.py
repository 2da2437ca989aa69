"""Make batches of decoded images: each image is decoded once for several networks, ahead of the forward pass."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import numpy as np

from laion_dask.clip import devices, prefetch
from laion_dask.clip.prefetch import BODIES_AT_ONCE, PixelBuffer, Prefetcher
from laion_dask.clip.preprocess import Preparation

T = TypeVar("T")
# Batches that are decoded ahead of the one in the forward pass.
_AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class Decoded(Generic[T]):
    """A batch of decoded images on the device."""

    rows: np.ndarray
    """Rows of the caller's table, one for each image."""
    unreadable: np.ndarray
    """Rows whose image cannot be decoded."""
    pixels: Mapping[str, Any]
    """uint8 (rows, height, width, 3) for each preparation."""
    beside: T
    """What was prepared beside the images."""


class Stopwatch:
    """Seconds that a part spent on each of its activities (wall clock)."""

    def __init__(self, *activities: str) -> None:
        self.seconds = dict.fromkeys(activities, 0.0)

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Add the time of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the images of one part are decoded."""

    device: str
    preparations: Sequence[Preparation]
    """Those with equal keys are made once."""
    size: int
    """Images of one batch."""
    reduced: bool = False
    """Decode JPEGs at the smallest scale that is large enough for every preparation."""


@dataclass(slots=True)
class _PendingBatch(Generic[T]):
    """One batch while it is decoded: its buffer, and the futures of what fills it."""

    room: PixelBuffer
    beside: Callable[[], T]
    rows: list[int] = field(default_factory=list)
    decoded: list[Future[list[bool]]] = field(default_factory=list)


def batches(
    images: Iterable[tuple[int, bytes]],
    how: Decoding,
    watch: Stopwatch,
    beside: Callable[[Prefetcher, np.ndarray], Callable[[], T]],
) -> Iterator[Decoded[T]]:
    """Decode images (row, bytes) ahead of the forward pass, in their order.

    `beside` is called when the rows of a batch are known, may submit work to the prefetcher, and returns what waits for
    it. The cut into batches depends on the images alone, not on the machine's load. The waiting times are added to
    `decode` and `transfer` of the watch.
    """
    ahead = prefetch.start(how.device)
    fill = _Filling(ahead, how, iter(images), beside)
    filling: deque[_PendingBatch[T]] = deque()
    try:
        while True:
            with watch.measure("decode"):
                while len(filling) < _AHEAD and (pending := fill.next()) is not None:
                    filling.append(pending)
                if not filling:
                    return
                ready = filling.popleft()
                good = np.array([one for future in ready.decoded for one in future.result()], bool)
                others = ready.beside()
            with watch.measure("transfer"):
                batch = _on_device(ready, good, others, how.device)
                ahead.uploaded(ready.room)
            yield batch
    finally:
        ahead.close()


def nothing(_: Prefetcher, __: np.ndarray) -> Callable[[], None]:
    """Prepare nothing beside the images."""
    return lambda: None


class _Filling(Generic[T]):
    """Submits images to the decoders, batch by batch and in order."""

    def __init__(
        self,
        ahead: Prefetcher,
        how: Decoding,
        source: Iterator[tuple[int, bytes]],
        beside: Callable[[Prefetcher, np.ndarray], Callable[[], T]],
    ) -> None:
        self._ahead = ahead
        self._preparations = [*{one.key: one for one in how.preparations}.values()]
        self._size = how.size
        self._needed_px = max(one.needed_px for one in self._preparations) if how.reduced else None
        self._source, self._beside = source, beside

    def next(self) -> _PendingBatch[T] | None:
        """Submit the images of one batch to the decoders; None where no images are left."""
        room = self._ahead.room(self._size, self._preparations)
        rows: list[int] = []
        decoded = []
        source = islice(self._source, self._size)
        while chunk := list(islice(source, BODIES_AT_ONCE)):
            bodies = [body for _, body in chunk]
            decoded.append(self._ahead.decode(bodies, self._needed_px, self._preparations, room, len(rows)))
            rows += [row for row, _ in chunk]
        if not rows:
            self._ahead.uploaded(room)
            return None
        return _PendingBatch(room, self._beside(self._ahead, np.array(rows)), rows, decoded)


def _on_device(pending: _PendingBatch[T], good: np.ndarray, beside: T, device: str) -> Decoded[T]:
    """Copy a decoded batch to the device, without the rows of images that could not be decoded."""
    import torch  # noqa: PLC0415

    rows = np.array(pending.rows)
    chosen = {key: buffer[: len(rows)] for key, buffer in pending.room.tensors.items()}
    if not good.all():
        places = torch.from_numpy(np.flatnonzero(good))
        chosen = {key: buffer[places] for key, buffer in chosen.items()}
    pixels = {key: devices.upload(buffer, device) for key, buffer in chosen.items()}
    return Decoded(rows[good], rows[~good], pixels, beside)
