"""Yield the records of a WAT as stored, and a `Damage` with its reason for all other bytes.

FastWARC reads; where it fails or a record is doubtful, `wat_damage` reads the same place, then FastWARC continues. For
any input, time and memory are bounded by the file's size and two constants.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from laion_dask.extract.wat.blocks import FileVersion, StoredFile, TransferError
from laion_dask.extract.wat.ranges import LocationError
from laion_dask.extract.wat.wat_damage import MAX_RECORD_BYTES, CarefulReader, Damage, WatRecord

__all__ = ["Damage", "Reading", "TransferError", "UnreadableWatError", "WatRecord", "records"]

# Units without a defect after which the fast reader takes over again; each start reads a buffer.
_CLEAN_UNITS: Final = 16

# Length of 2024-05-31T01:17:49Z, as nearly all dates.
_DATE_CHARS: Final = 20

_BUFFER_BYTES: Final = 2**18

_LZ4_MAGIC: Final = b"\x04\x22\x4d\x18"

# WARC 1.1, 5.5. Other spellings and types are left to the careful reader.
_TYPES: Final = frozenset(
    {"warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation"}
)


class UnreadableWatError(Exception):
    """The WAT cannot be opened: it is missing, or its location is invalid."""


@dataclass(slots=True)
class Reading:
    """Statistics of one reading."""

    listed: FileVersion | None = None
    """Size and ETag of an object as it was listed, which it must still have; None where nothing was listed."""
    fallback: bool = False
    """Whether warcio had to read some part that FastWARC could not."""
    bytes: int = 0
    """Bytes read, as stored."""
    etag: str = ""
    """The server's ETag; empty for a local file."""
    sha256: str = ""
    """Of the stored bytes, hex; empty if not all were read."""
    requests: int = 0
    """Requests to the server, including retries."""
    reader: str = ""
    """The reader that read the file's end: fastwarc or warcio."""
    size: int = 0
    """Size as stored, bytes."""


def records(location: str, reader: str, reading: Reading) -> Iterator[WatRecord | Damage]:
    """Yield the records of a local path or a URL of fsspec (https, s3, ...) in file order, and damage between them.

    `reader` is fastwarc or warcio. Raises `UnreadableWatError` if it cannot be opened, and `TransferError` if the host
    refuses, the connection is lost, or the object changes, after `blocks.WAITS_S`, so that a partial WAT never counts
    as complete. `reading` is filled in as far as reading gets.
    """
    try:
        stored = StoredFile(location, reading.listed)
    except LocationError as error:
        raise UnreadableWatError(str(error)) from error
    reading.size, reading.etag, reading.reader = stored.size, stored.etag, reader
    try:
        _refuse_lz4(location, stored.exactly(0, len(_LZ4_MAGIC)))
        yield from _read(stored, reader, reading)
        reading.sha256 = stored.sha256()
    finally:
        reading.bytes, reading.requests = stored.bytes, stored.requests
        stored.close()


def _refuse_lz4(location: str, head: bytes) -> None:
    """Refuse lz4, which only FastWARC decompresses, so that nothing could check it or recover from damage."""
    if head == _LZ4_MAGIC:
        raise UnreadableWatError(f"{location} is packed with lz4. Remedy: pack it with gzip or zstd")


def _read(stored: StoredFile, reader: str, reading: Reading) -> Iterator[WatRecord | Damage]:
    careful = CarefulReader(stored)
    place, given, refused = 0, 0, False
    while place < stored.size:
        if reader == "fastwarc":
            place, given, refused = yield from _fastwarc(careful, stored, place)
        place, odd = yield from _carefully(careful, stored, place, given, forever=reader == "warcio")
        given = 0
        if refused or odd:
            reading.fallback |= reader == "fastwarc"
            reading.reader = "warcio"
        else:
            reading.reader = reader


def _fastwarc(
    careful: CarefulReader, stored: StoredFile, start: int
) -> Generator[WatRecord, None, tuple[int, int, bool]]:
    """Yield records that are certain: complete ones, followed by another.

    Returns the offset of the first uncertain record, how many records at that offset were yielded (a gzip member may
    have several), and whether it is faulty; otherwise it is the last record of the file.
    """
    from fastwarc.warc import ArchiveIterator, WarcHeader  # noqa: PLC0415 - one of two readers

    of_type, of_length, of_date = WarcHeader.WARC_TYPE, WarcHeader.CONTENT_LENGTH, WarcHeader.WARC_DATE
    # FastWARC gives wrong offsets if the first member has several records.
    if not careful.has_one_record(start):
        return start, 0, True
    source = _RecordStream(stored, start)
    last: WatRecord | None = None
    given, before, refused = 0, 0, True
    # Constructing by field names would take three times as long for each record.
    new = tuple.__new__
    try:
        for record in ArchiveIterator(
            cast("BinaryIO", source), parse_http=False, inplace=True, buffer_size=_BUFFER_BYTES
        ):
            get, declared, place = record.headers.get, record.content_length, record.stream_pos
            kind = get(of_type)
            # With LF line ends FastWARC reads the whole header as one value. It reads an invalid length as 0, and for a
            # missing one keeps that of the previous record (FastWARC 2.0.1 with `inplace`).
            doubtful = (declared == before or not declared) and get(of_length) != str(declared)
            if doubtful or kind not in _TYPES or declared > MAX_RECORD_BYTES:
                break
            before = declared
            date = get(of_date) or ""
            # Bytes of unknown encoding, a value over two lines, or a line end without a carriage return.
            if not date.isascii() or (len(date) != _DATE_CHARS and (date != date.strip() or "\n" in date)):
                break
            body = record.reader.read()
            if len(body) != declared:
                break
            if last is not None:
                yield last
                given = given + 1 if last.offset == place else 0
            last = new(WatRecord, (place, kind, declared, body, date, ""))
        else:
            refused = False
    except (OSError, ValueError):
        pass
    if source.error is not None:
        raise source.error
    return start if last is None else last.offset, given, refused


def _carefully(
    careful: CarefulReader, stored: StoredFile, place: int, given: int, *, forever: bool
) -> Generator[WatRecord | Damage, None, tuple[int, bool]]:
    """Yield from units until enough of them had no defect, without the first `given` records.

    Returns the offset after them, and whether there was a defect, or more than one unit.
    """
    clean, units, odd = 0, 0, False
    while place < stored.size and (forever or clean < _CLEAN_UNITS):
        clean += 1
        units += 1
        steps = careful.unit(place)
        while True:
            try:
                item = next(steps)
            except StopIteration as end:
                place = end.value
                break
            if isinstance(item, Damage) or item.mended or len(item.body) != item.declared:
                clean, odd = 0, True
            if given and isinstance(item, WatRecord):
                given -= 1
            else:
                yield item
        given = 0
    return place, odd or units > 1


class _RecordStream:
    """The stored bytes from an offset on as a stream; records errors, which the reader might swallow."""

    def __init__(self, stored: StoredFile, place: int) -> None:
        self._stored = stored
        self._place = place
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        if self.error is not None:
            return b""
        try:
            data = self._stored.at(self._place, size if size >= 0 else _BUFFER_BYTES)
        except (OSError, TransferError) as error:
            # FastWARC panics on errors of its stream, so signal the end instead.
            self.error = error
            return b""
        self._place += len(data)
        return data

    def tell(self) -> int:
        return self._place
