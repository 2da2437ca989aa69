"""Decompress Zstandard frames (RFC 8878) of a stored file as one stream, and map records to frames.

Writers compress a WAT as one frame, as a frame per record, or as frames cut anywhere (pzstd, the seekable format), so
frames are joined. pyarrow decompresses, but does not report where a frame ends: that is read from its block headers.
"""

from __future__ import annotations

import io
from collections import deque
from typing import Final

import pyarrow as pa

from laion_dask.extract.wat.blocks import StoredFile

FRAME_MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""Magic number of a frame with data (RFC 8878 3.1.1)."""

_SKIPPABLE_END: Final = b"\x2a\x4d\x18"
_CHUNK_BYTES: Final = 2**16
_MAX_BLOCK_BYTES: Final = 2**17
_MAX_HEADER_BYTES: Final = 18
_DICTIONARY_BYTES: Final = (0, 1, 2, 4)
_RESERVED_BLOCK: Final = 3
_RLE_BLOCK: Final = 1
TASTE_BYTES: Final = _MAX_HEADER_BYTES + 3
"""Maximum bytes of a frame's header and its first block header."""


def begins(data: bytes) -> bool:
    """Tell whether these bytes begin a frame, with data or skippable (RFC 8878 3.1.2)."""
    return data[:4] == FRAME_MAGIC or _is_skippable(data)


def is_frame(data: bytes) -> bool:
    """Tell whether the headers of a frame and its first block are well formed, not a magic number by chance."""
    length = _header_bytes(data)
    if data[:4] != FRAME_MAGIC or not length:
        return False
    block = _Block.read(data[length : length + 3])
    return block is not None and block.kind != _RESERVED_BLOCK and block.stored <= _MAX_BLOCK_BYTES


def _is_skippable(data: bytes) -> bool:
    return data[1:4] == _SKIPPABLE_END and 0x50 <= data[0] <= 0x5F


def _header_bytes(data: bytes) -> int:
    """Return the length of a frame's header with its magic number; 0 if the header is malformed."""
    if len(data) < 5 or data[4] & 0x08:
        return 0
    descriptor = data[4]
    single = descriptor >> 5 & 1
    size_bytes = (single, 2, 4, 8)[descriptor >> 6]
    return 5 + (1 - single) + _DICTIONARY_BYTES[descriptor & 3] + size_bytes


class _Block:
    """The header of a block: whether it is the frame's last, its kind, and its stored bytes."""

    __slots__ = ("is_last", "kind", "stored")

    def __init__(self, value: int) -> None:
        self.is_last, self.kind = bool(value & 1), value >> 1 & 3
        self.stored = 1 if self.kind == _RLE_BLOCK else value >> 3

    @classmethod
    def read(cls, data: bytes) -> _Block | None:
        """Parse three bytes; None if there are fewer."""
        return cls(int.from_bytes(data, "little")) if len(data) == 3 else None


class _OneFrame(io.RawIOBase):
    """The stored bytes of one frame as a file, block by block; `problem` is the reason for an early end."""

    def __init__(self, stored: StoredFile, at: int) -> None:
        super().__init__()
        self._stored = stored
        self._buffer = b""
        self.position = at
        self.end: int | None = None
        self.problem = ""
        self.detail = ""
        self.error: Exception | None = None
        head = stored.exactly(at, _MAX_HEADER_BYTES)
        length = _header_bytes(head)
        if not length or length > len(head):
            self.fail("truncated" if len(head) < _MAX_HEADER_BYTES else "bad_gzip", "this is no zstd header")
        self._has_checksum = bool(length and head[4] & 0x04)
        self.has_dictionary = bool(length and head[4] & 0x03)
        self._take(length)

    def readable(self) -> bool:
        """Return True, as required of a readable file."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes of the frame, none at its end or where it is truncated."""
        try:
            while not self._buffer and not self.problem and self.end is None:
                self._next_block()
        except Exception as error:  # noqa: BLE001 - pyarrow would wrap it; `Frames` raises it unchanged
            self.error = error
        size = len(self._buffer) if size < 0 else size
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def fail(self, problem: str, detail: str) -> None:
        """Record the first problem."""
        if not self.problem:
            self.problem, self.detail = problem, detail

    def _take(self, count: int) -> bytes:
        data = self._stored.exactly(self.position, count)
        self.position += len(data)
        self._buffer += data
        if len(data) < count:
            self.fail("truncated", "the file ends inside a zstd frame")
        return data

    def _next_block(self) -> None:
        block = _Block.read(self._take(3))
        if block is None:
            return
        if block.kind == _RESERVED_BLOCK or block.stored > _MAX_BLOCK_BYTES:
            self.fail("bad_gzip", "a zstd frame has a block of a reserved kind or beyond its greatest size")
            return
        self._take(block.stored)
        if block.is_last and not self.problem:
            self._take(4 if self._has_checksum else 0)
            self.end = self.position


class Frames:
    """All frames from an offset on as one stream: decompressed bytes, problems, and where they end.

    Has the interface of `gzip_members.GzipMember`.
    """

    def __init__(self, stored: StoredFile, at: int) -> None:
        self.start = at
        self._stored = stored
        self._next = at
        self._frame: _OneFrame | None = None
        self._unpacked: pa.CompressedInputStream | None = None
        self._passed = 0
        self._starts: deque[tuple[int, int]] = deque([(0, at)])
        self.problem = ""
        """Empty, bad_gzip or truncated."""
        self.detail = ""
        self.end: int | None = None
        """Offset of the end of the last frame, once known."""

    @property
    def position(self) -> int:
        """Offset of the next compressed byte."""
        return self._frame.position if self._frame is not None else self._next

    @property
    def begun(self) -> int:
        """Offset of the last decompressed frame; after damage, reading continues after it."""
        return self._starts[-1][1]

    def place_of(self, passed: int) -> int:
        """Return the offset of the frame with the decompressed byte `passed`; calls must have increasing `passed`."""
        while len(self._starts) > 1 and self._starts[1][0] <= passed:
            self._starts.popleft()
        return self._starts[0][1]

    def more(self) -> bytes:
        """Return the next decompressed bytes, none at the end of the last frame or where decompression fails."""
        while not self.problem and self.end is None:
            if self._unpacked is None and not self._open():
                break
            data = self._read()
            self._passed += len(data)
            if data:
                return data
        return b""

    def _open(self) -> bool:
        """Go to the next frame with data; False, with `end` or `problem` set, if none follows."""
        while _is_skippable(head := self._stored.exactly(self._next, 8)):
            self._next += 8 + int.from_bytes(head[4:], "little")
            if len(head) < 8 or self._next > self._stored.size:
                self.problem, self.detail = "truncated", "the file ends inside a skippable zstd frame"
                return False
        if head[:4] != FRAME_MAGIC:
            cut = head and FRAME_MAGIC.startswith(head)
            self.problem, self.detail = ("truncated", "the file ends inside a zstd frame") if cut else ("", "")
            self.end = self._next
            return False
        if self._starts[-1][0] == self._passed:
            # No record begins in a frame without data.
            self._starts.pop()
        self._starts.append((self._passed, self._next))
        self._frame = _OneFrame(self._stored, self._next)
        self._unpacked = pa.CompressedInputStream(pa.PythonFile(self._frame, mode="r"), "zstd")
        return True

    def _read(self) -> bytes:
        """Return bytes of the open frame; at its end close it, and record its problem."""
        frame, unpacked = self._frame, self._unpacked
        if frame is None or unpacked is None:
            return b""
        try:
            data = unpacked.read(_CHUNK_BYTES)
        except OSError as error:
            data = b""
            frame.fail("bad_gzip", _describe(error, has_dictionary=frame.has_dictionary))
        if frame.error is not None:
            raise frame.error
        if data:
            return bytes(data)
        self.problem, self.detail = frame.problem, frame.detail
        if frame.end is not None and not frame.problem:
            self._next = frame.end
        self._unpacked = None
        return b""


def _describe(error: OSError, *, has_dictionary: bool) -> str:
    if has_dictionary:
        return "a zstd frame needs a dictionary. Remedy: unpack the file, and pack it again without one"
    return f"a zstd frame cannot be unpacked: {error}"
