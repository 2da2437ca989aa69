"""Restore the order of rows that end in any order, in memory while they are few, else on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

MEMORY_BYTES: Final = 64 * 1024 * 1024


class ReorderBuffer:
    """A context manager that holds finished rows until all earlier rows have ended.

    Thousands of rows may wait for one that takes a minute: their images go to a temporary file in `folder` once those
    in memory reach `memory_bytes`.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed in __exit__
        self._end = 0
        self._limit = memory_bytes
        self._waiting: dict[int, tuple[dict[str, Any], bytes | tuple[int, int], str]] = {}
        self._next = 0
        self.held_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def put(self, place: int, row: dict[str, Any], image: bytes, extension: str = "jpg") -> None:
        """Add the row with this index, counted from 0 without gaps."""
        if self.held_bytes + len(image) <= self._limit or place == self._next:
            self.held_bytes += len(image)
            self._waiting[place] = row, image, extension
            return
        self._file.seek(self._end)
        self._file.write(image)
        self._waiting[place] = row, (self._end, len(image)), extension
        self._end += len(image)

    def ready(self) -> Iterator[tuple[dict[str, Any], bytes, str]]:
        """Yield the rows up to the first missing one, with image and extension."""
        while self._next in self._waiting:
            row, image, extension = self._waiting.pop(self._next)
            self._next += 1
            if isinstance(image, bytes):
                self.held_bytes -= len(image)
                yield row, image, extension
            else:
                self._file.seek(image[0])
                yield row, self._file.read(image[1]), extension
