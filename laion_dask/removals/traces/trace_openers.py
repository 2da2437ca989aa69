"""Open files that hold other files or packed texts: each opener yields what is inside, one after the other.

An opener yields (place, content). A content is a table's batch of rows, the lines of some values, or a stream: a file
of any kind. Openers raise their libraries' errors; the caller records the file as unread.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sqlite3
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from laion_dask.removals.traces import trace_sqlite, trace_tables

Opened = Iterator[tuple[str, Any]]
"""Place and content: bytes, a stream, or a batch of Arrow, whose package has no types."""

_UNPACKED: Final = "unpacked"
_CHUNK: Final = 1 << 16
_MAX_PIECE: Final = 1 << 26
"""Bytes that a chunk of a PNG or a stream of a PDF may unpack to."""
_STREAM: Final = re.compile(rb"\bstream\r?\n")


class UnreadError(Exception):
    """The content of a file cannot be read; the message says why."""


def _gzip(source: IO[bytes]) -> Opened:
    yield _UNPACKED, gzip.GzipFile(fileobj=source, mode="rb")


def _bzip2(source: IO[bytes]) -> Opened:
    yield _UNPACKED, bz2.BZ2File(source)


def _xz(source: IO[bytes]) -> Opened:
    yield _UNPACKED, lzma.LZMAFile(source)  # noqa: SIM115 - the caller reads it to its end


def _by_arrow(codec: str) -> Callable[[IO[bytes]], Opened]:
    def opened(source: IO[bytes]) -> Opened:
        yield _UNPACKED, pa.CompressedInputStream(pa.PythonFile(source, "r"), codec)

    return opened


def _zlib(source: IO[bytes]) -> Opened:
    yield _UNPACKED, io.BufferedReader(_Inflated(source))


class _Inflated(io.RawIOBase):
    """A zlib stream, unpacked."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._inflate = source, zlib.decompressobj()
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        while not self._inflate.eof:
            packed = self._left or self._source.read(_CHUNK)
            if not packed:
                raise EOFError("the stream ends too early")
            data = self._inflate.decompress(packed, len(buffer))
            self._left = self._inflate.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


def _tar(source: IO[bytes]) -> Opened:
    # Tars may be concatenated; a reader that stops at zeros reads only the first.
    with tarfile.open(fileobj=source, mode="r|", ignore_zeros=True) as members:
        for member in members:
            content = members.extractfile(member) if member.isfile() else None
            if content is not None:
                yield f"member {member.name}", content


def _warc(source: IO[bytes]) -> Opened:
    from warcio.archiveiterator import ArchiveIterator  # noqa: PLC0415 - only archives need it

    for record in ArchiveIterator(source):
        # Decoded from its Content-Encoding; the raw record is searched as well.
        if record.rec_type == "response" and record.http_headers is not None:
            yield f"record of {record.rec_headers.get_header('WARC-Record-ID')}", record.content_stream()


def _zip(file: IO[bytes]) -> Opened:
    with zipfile.ZipFile(file) as members:
        for info in members.infolist():
            if info.flag_bits & 1:
                raise UnreadError(f"member {info.filename} is encrypted")
            if not info.is_dir():
                with members.open(info) as content:
                    yield f"member {info.filename}", content


def _zstd(file: IO[bytes]) -> Opened:
    frames, end = _zstd_frames(file)
    rest = file.seek(0, io.SEEK_END) - end
    # A Zarr shard is frames, then offset and size of each (8 bytes each) and a checksum.
    if rest and (rest % 16 != 4 or rest // 16 < frames):
        raise UnreadError(f"{rest} bytes behind the last frame of zstd are something else")
    file.seek(0)
    yield _UNPACKED, pa.CompressedInputStream(pa.PythonFile(_StreamWindow(file, end), "r"), "zstd")


class _StreamWindow(io.RawIOBase):
    """The first bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _zstd_frames(file: IO[bytes]) -> tuple[int, int]:
    """Return how many frames (RFC 8878) a file begins with, and where they end."""
    frames = at = 0
    while True:
        file.seek(at)
        head = file.read(18)
        if head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
            at += 8 + int.from_bytes(head[4:8], "little")
            continue
        if head[:4] != b"\x28\xb5\x2f\xfd" or len(head) < 6:
            return frames, at
        flags = head[4]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        final = 0
        while not final:
            file.seek(at)
            block = int.from_bytes(file.read(3), "little")
            final, size = block & 1, 1 if block >> 1 & 3 == 1 else block >> 3
            at += 3 + size
            if at > file.seek(0, io.SEEK_END):
                raise UnreadError("a frame of zstd is cut off")
        at += 4 * (flags >> 2 & 1)
        frames += 1


def _png(file: IO[bytes]) -> Opened:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        if name not in {b"zTXt", b"iTXt", b"iCCP"}:
            file.seek(size + 4, io.SEEK_CUR)
            continue
        data = file.read(size)
        file.seek(4, io.SEEK_CUR)
        keyword, _, rest = data.partition(b"\0")
        packed = rest[1:]
        if name == b"iTXt":
            packed = rest[2:].split(b"\0", 2)[-1] if rest[:1] == b"\1" else b""
        if packed:
            text = zlib.decompressobj().decompress(packed, _MAX_PIECE)
            yield f"{name.decode()} {keyword.decode('latin-1')}", text


def _pdf(file: IO[bytes]) -> Opened:
    content = file.read()
    if b"/Encrypt" in content:
        raise UnreadError("an encrypted PDF")
    for place in _STREAM.finditer(content):
        inflate = zlib.decompressobj()
        try:
            unpacked = inflate.decompress(content[place.end() :][:_MAX_PIECE], _MAX_PIECE)
        except zlib.error:
            continue  # not deflated, for example a JPEG
        yield f"stream at {place.start()}", io.BytesIO(unpacked)


def _parquet(file: IO[bytes]) -> Opened:
    yield from (("", batch) for batch in trace_tables.of_parquet(file))
    file.seek(0)
    yield from trace_tables.parquet_texts(file)


def _batches(batches: Callable[[IO[bytes]], Iterator[pa.RecordBatch]]) -> Callable[[IO[bytes]], Opened]:
    def opened(file: IO[bytes]) -> Opened:
        yield from (("", batch) for batch in batches(file))

    return opened


def _duckdb(path: Path) -> Opened:
    import duckdb  # noqa: PLC0415 - only its files need it

    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute("select schema_name, table_name from duckdb_tables() where not internal").fetchall()
        for schema, table in names:
            quoted = ".".join('"' + name.replace('"', '""') + '"' for name in (schema, table))
            for batch in connection.sql(f"select * from {quoted}").to_arrow_reader(10_000):
                yield f"table {table}", batch


def _sqlite(path: Path) -> Opened:
    for place, content in trace_sqlite.contents(path):
        yield place, content if isinstance(content, bytes) else io.BytesIO(content.blob)


STREAMED: Final[dict[str, Callable[[IO[bytes]], Opened]]] = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "lzma": _xz,
    "lz4": _by_arrow("lz4"),
    "brotli": _by_arrow("brotli"),
    "zlib": _zlib,
    "tar": _tar,
    "warc": _warc,
    "arrow stream": _batches(lambda file: trace_tables.of_arrow(file, stream=True)),
}
"""Kinds that are read in one pass."""
SEEKED: Final[dict[str, Callable[[IO[bytes]], Opened]]] = {
    "zip": _zip,
    "zstd": _zstd,
    "png": _png,
    "pdf": _pdf,
    "parquet": _parquet,
    "arrow": _batches(lambda file: trace_tables.of_arrow(file, stream=False)),
    "orc": _batches(trace_tables.of_orc),
}
"""Kinds whose readers seek."""
BY_PATH: Final[dict[str, Callable[[Path], Opened]]] = {"sqlite": _sqlite, "duckdb": _duckdb}
"""Kinds whose library opens a path."""


def errors() -> tuple[type[Exception], ...]:
    """Return the errors of openers for a file that is damaged, encrypted or of an unknown variant."""
    import duckdb  # noqa: PLC0415
    from warcio.exceptions import ArchiveLoadFailed  # noqa: PLC0415

    ours = (UnreadError, OSError, EOFError, ValueError, MemoryError, NotImplementedError, RuntimeError, KeyError)
    packed = (zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, pa.ArrowException)
    return (*ours, *packed, sqlite3.Error, duckdb.Error, ArchiveLoadFailed)
