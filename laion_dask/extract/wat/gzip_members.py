"""Decompress a gzip member of a stored file in chunks, and find where records begin."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Final

from laion_dask.extract.wat.blocks import StoredFile

MAX_SKIP_BYTES: Final = 2**28
"""Decompressed bytes without a record after which a gzip member is abandoned as a decompression bomb."""

GZIP_MAGIC: Final = b"\x1f\x8b"

CHUNK_BYTES: Final = 2**16
"""Bytes read, or decompressed, at once."""

TASTE: Final = 1024
"""Bytes of a member that contain its header and its first data; writers of WATs store no file name there."""

OVERLAP: Final = 16
"""Maximum length of a version line or gzip signature that is searched for."""

VERSION_LINE: Final = re.compile(rb"WARC/[01]\.\d{1,2}[ \t]{0,2}\r?\n")
"""The first line of a record; JSON has no line end after these characters, so it never matches inside a body."""

BLANK: Final = b"\r\n"

_BLANKS: Final = re.compile(rb"[\r\n]*")


class Window:
    """A buffered reader of a file or a gzip member, which buffers no more than requested."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._buffer = bytearray()
        self.passed = 0
        """Bytes consumed so far."""

    def peek(self, count: int) -> bytes:
        """Return the next bytes without consuming them; fewer only at the end."""
        while len(self._buffer) < count and (data := self._more()):
            self._buffer += data
        return bytes(self._buffer[:count])

    def take(self, count: int) -> bytes:
        """Return and consume the next bytes; fewer only at the end."""
        data = self.peek(count)
        self.skip(len(data))
        return data

    def skip(self, count: int) -> None:
        """Consume bytes that were peeked at."""
        del self._buffer[:count]
        self.passed += count

    def put_back(self, data: bytes) -> None:
        """Push back the last consumed bytes."""
        self._buffer[:0] = data
        self.passed -= len(data)

    def skip_blank(self) -> bool:
        """Consume line ends; return whether anything follows."""
        while self.peek(1):
            blank = _BLANKS.match(self._buffer)
            self.skip(blank.end() if blank else 0)
            if self._buffer:
                return True
        return False

    def skip_to_line(self) -> bool:
        """Consume bytes up to the next version line; False if there is none within `MAX_SKIP_BYTES`."""
        end = self.passed + MAX_SKIP_BYTES
        while self.passed <= end:
            match = VERSION_LINE.search(self._buffer)
            if match is not None:
                self.skip(match.start())
                return True
            self.skip(max(0, len(self._buffer) - OVERLAP))
            buffered = len(self._buffer)
            if len(self.peek(buffered + 1)) == buffered:
                self.skip(buffered)
                return False
        return False


class GzipMember:
    """One gzip member: its decompressed bytes, its problem, and where it ends."""

    def __init__(self, stored: StoredFile, at: int) -> None:
        self.start = at
        self._stored = stored
        self._left = b""
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = 0
        self._size = 0
        self.problem = ""
        """Empty, bad_gzip or truncated."""
        self.detail = ""
        self.end: int | None = None
        """Offset of the member's end, once known."""
        self.position = at
        """Offset of the next compressed byte."""
        head = stored.exactly(at, TASTE)
        length = _gzip_header(head)
        if length > len(head):
            self._fail("truncated" if len(head) < TASTE else "bad_gzip", "the gzip header has no end")
        elif length == 0:
            self._fail("bad_gzip", "the gzip header is none")
        self.position += length

    def more(self) -> bytes:
        """Return the next decompressed bytes, none at the member's end or where decompression fails."""
        while not self.problem and self.end is None:
            if not self._left:
                self._left = self._stored.at(self.position, CHUNK_BYTES)
                self.position += len(self._left)
            if not self._left:
                self._fail("truncated", "the file ends inside a gzip member")
                break
            try:
                data = self._inflate.decompress(self._left, CHUNK_BYTES)
            except zlib.error as error:
                self._fail("bad_gzip", f"unpacked {self._size} bytes: {error}")
                break
            self._left = self._inflate.unconsumed_tail
            self._crc, self._size = zlib.crc32(data, self._crc), self._size + len(data)
            if self._inflate.eof:
                self._close(self.position - len(self._inflate.unused_data))
            if data:
                return data
        return b""

    @property
    def begun(self) -> int:
        """Offset of the member; after damage, reading continues after it."""
        return self.start

    def place_of(self, passed: int) -> int:  # noqa: ARG002 - zstd frames have several places
        """Return the offset of the member, for each of its bytes."""
        return self.start

    def _close(self, end: int) -> None:
        """Compare the trailer (RFC 1952 2.3.1) with the decompressed data."""
        trailer = self._stored.exactly(end, 8)
        self.end = end + len(trailer)
        if len(trailer) < 8:
            self._fail("truncated", "the file ends inside the trailer of a gzip member")
        elif trailer != self._crc.to_bytes(4, "little") + (self._size % 2**32).to_bytes(4, "little"):
            self._fail("bad_gzip", "checksum or size in the trailer is another; what was unpacked is kept")

    def _fail(self, problem: str, detail: str) -> None:
        self.problem, self.detail = problem, detail


def reader(stored: StoredFile, at: int) -> Callable[[], bytes]:
    """Return a function that returns the stored bytes from `at` on in chunks."""
    place = at

    def more() -> bytes:
        nonlocal place
        data = stored.at(place, CHUNK_BYTES)
        place += len(data)
        return data

    return more


def _gzip_header(data: bytes) -> int:
    """Return the length of a gzip header (RFC 1952 2.3): 0 if invalid, more than `data` has if truncated."""
    if len(data) < 10:
        return 10
    flags = data[3]
    if data[:3] != b"\x1f\x8b\x08" or flags > 0x1F:
        return 0
    length = 10
    if flags & 4:
        length += 2 + int.from_bytes(data[length : length + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            length = data.find(b"\0", length) + 1 or len(data) + 1
    return length + (2 if flags & 2 else 0)


def unpacks_to_record(data: bytes) -> bool:
    """Tell whether the start of a gzip member decompresses to the start of a record."""
    length = _gzip_header(data)
    if not 0 < length < len(data):
        return False
    try:
        text = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[length:], OVERLAP)
    except zlib.error:
        return False
    return text.lstrip(BLANK).startswith((b"WARC/0.", b"WARC/1."))
