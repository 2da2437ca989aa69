"""Read WARC files record by record, with any compression, and refuse a file that cannot be read to its end.

A file is uncompressed, has a gzip member for each record, or is compressed in another way (one gzip member for all
records, blocks of gzip, zstd with or without a dictionary). Only the first two allow random access, so any other file
is unpacked once into a scratch folder. FastWARC and warcio skip damage or stop there without an error, and an address
would wrongly seem not recorded; so this module finds the records itself. Where the bytes are not a WARC file (WARC 1.1,
section 4), `WarcFileError` names the file, the byte and the remedy.
"""

from __future__ import annotations

import io
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast
from urllib.parse import quote

Fields = tuple[tuple[str, str], ...]
GZIP_MAGIC: Final = b"\x1f\x8b"
# A zstd frame, and the 16 kinds of skippable frames, one of which has Internet Archive's dictionary (RFC 8878, 3.1).
_ZSTD_MAGIC: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_VERSION: Final = re.compile(rb"WARC/\d{1,3}\.\d{1,3}[ \t]*\r?\n")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_HEAD_BYTES: Final = 64 * 1024
_PIECE_BYTES: Final = 64 * 1024
# This project's records store up to 128 headers of 8 KiB as JSON in one field.
_MAX_HEADER_BYTES: Final = 8 * 2**20
_MAX_FIELDS: Final = 1_000
_BLANK: Final = (b"\r\n", b"\n")
_LEAVE: Final = "take the file out of the list, or write it anew"
_AGAIN: Final = "fetch or copy the file again"


class WarcFileError(Exception):
    """A WARC file is missing or cannot be read in full; the message has the file, the byte and the remedy."""


class _EndsEarlyError(WarcFileError):
    """The bytes end before the record does."""


class _PackedError(Exception):
    """A gzip member holds more or less than one record."""


@dataclass(frozen=True, slots=True)
class WarcRecord:
    """A WARC record without its block; `head` is the first 64 KiB of the block."""

    path: Path
    """The file to read at `offset`: the WARC file itself, or its unpacked copy."""
    offset: int
    length: int
    """Bytes up to the next record in `path`."""
    fields: Fields
    block_bytes: int
    head: bytes

    def get(self, name: str) -> str:
        """Return the first field of a lower-case name; empty where there is none."""
        return next((value for key, value in self.fields if key.lower() == name), "")

    @property
    def kind(self) -> str:
        """WARC-Type in lower case."""
        return self.get("warc-type").lower()


class WarcFile:
    """A WARC file that can be read several times; if it has to be unpacked, that is done once, into `scratch`."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._path = path
        self._scratch = scratch
        self._split: int | None = None
        """The byte from which on the unpacked copy is read."""

    def records(self) -> Iterator[WarcRecord]:
        """Yield all records; `WarcFileError` where the file is missing, or is not a WARC file to its end."""
        if not self._path.is_file():
            remedy = "Remedy: make it, or correct download.warcs in params.yaml"
            raise WarcFileError(f"{self._path}: no such WARC file. {remedy}")
        with self._path.open("rb") as stream:
            start = stream.read(4)
            if _ZSTD_MAGIC.match(start) and self._split is None:
                self._unpack(0)
            if start.startswith(GZIP_MAGIC):
                yield from self._members(stream)
            elif self._split is None:
                yield from _plain(_Named(self._path), self._path, stream)
        if self._split is not None:
            with self._unpacked_path.open("rb") as stream:
                yield from _plain(_Named(self._path, self._split), self._unpacked_path, stream)

    def _members(self, stream: BinaryIO) -> Iterator[WarcRecord]:
        named = _Named(self._path)
        place, end = 0, self._path.stat().st_size if self._split is None else self._split
        while place < end:
            member = _GzipMember(stream, place)
            try:
                record = _member_record(named, member, place)
            except _PackedError:
                self._unpack(place)
                return
            except (zlib.error, EOFError) as error:
                raise named.damaged(place) from error
            place = member.end
            if record is not None:
                yield record

    @property
    def _unpacked_path(self) -> Path:
        return self._scratch / f"{self._path.name.partition('.warc')[0]}.warc"

    def _unpack(self, place: int) -> None:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._split = place
        with self._path.open("rb") as stream, self._unpacked_path.open("wb") as out:
            stream.seek(place)
            if stream.peek(2)[:2] == GZIP_MAGIC:
                self._unpack_gzip(stream, place, out)
            else:
                self._unpack_zstd(stream, out)

    def _unpack_gzip(self, stream: BinaryIO, place: int, out: BinaryIO) -> None:
        size = self._path.stat().st_size
        while place < size:
            member = _GzipMember(stream, place)
            try:
                shutil.copyfileobj(io.BufferedReader(member, _PIECE_BYTES), out)
            except (zlib.error, EOFError) as error:
                raise _Named(self._path, self._split).damaged(place) from error
            place = member.end

    def _unpack_zstd(self, stream: BinaryIO, out: BinaryIO) -> None:
        from fastwarc.stream_io import ZstdReader  # noqa: PLC0415 - few files are packed so

        try:
            reader = ZstdReader(stream)
            while piece := reader.read(_PIECE_BYTES):
                out.write(piece)
        except OSError as error:
            message = f"{self._path}: its zstd frames cannot be unpacked to their end ({error})"
            raise WarcFileError(f"{message}. Remedy: {_AGAIN}, or take it out of the list") from error


def read(path: Path, offset: int) -> tuple[WarcRecord, bytes] | None:
    """Read one record with its block; None where no whole record begins at `offset`."""
    with _source(path, offset) as source:
        try:
            fields, declared, _ = _header(_Named(path), source, offset)
            block = source.read(declared)
        except (WarcFileError, zlib.error, EOFError):
            return None
    if len(block) < declared:
        return None
    return WarcRecord(path, offset, 0, fields, declared, block[:_HEAD_BYTES]), block


def header(path: Path, offset: int) -> WarcRecord | None:
    """Read the header of one record; None where no record begins at `offset`."""
    with _source(path, offset) as source:
        try:
            fields, declared, _ = _header(_Named(path), source, offset)
        except (WarcFileError, zlib.error, EOFError):
            return None
    return WarcRecord(path, offset, 0, fields, declared, b"")


@contextmanager
def _source(path: Path, offset: int) -> Iterator[io.BufferedReader]:
    """Open a file at a record, in its gzip member where it is compressed."""
    with path.open("rb") as stream:
        stream.seek(offset)
        packed = stream.peek(2)[:2] == GZIP_MAGIC
        yield io.BufferedReader(_GzipMember(stream, offset), _PIECE_BYTES) if packed else stream


class _GzipMember(io.RawIOBase):
    """The content of one gzip member; after reading, `end` is the byte after it. `EOFError` where it is cut."""

    def __init__(self, stream: BinaryIO, place: int) -> None:
        super().__init__()
        stream.seek(place)
        self._stream = stream
        self._unzip = zlib.decompressobj(31)
        self.end = place

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._unzip.eof:
            packed = self._unzip.unconsumed_tail
            if not packed:
                packed = self._stream.read(_PIECE_BYTES)
                self.end += len(packed)
            if not packed:
                raise EOFError
            piece = self._unzip.decompress(packed, len(buffer))
            if self._unzip.eof:
                self.end -= len(self._unzip.unused_data)
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
        return 0


def _member_record(named: _Named, member: _GzipMember, place: int) -> WarcRecord | None:
    """Return the single record of a gzip member; None for an empty member.

    `_PackedError` where it has a part of a record, or several records: such a file has to be unpacked.
    """
    source: io.BufferedReader = io.BufferedReader(member, _PIECE_BYTES)
    if not source.peek(1):
        return None
    try:
        fields, declared, line_end = _header(named, source, place)
    except _EndsEarlyError:
        raise _PackedError from None
    head = _block(source, declared)
    if head is None:
        raise _PackedError
    if not _ended(source, line_end):
        raise named.wrong_length(place, declared)
    if source.read(1):
        raise _PackedError
    return WarcRecord(named.path, place, member.end - place, fields, declared, head)


def _plain(named: _Named, path: Path, stream: BinaryIO) -> Iterator[WarcRecord]:
    """Yield the records of an uncompressed file."""
    stream.seek(0)
    place = 0
    source = cast("io.BufferedReader", stream)
    while source.peek(1):
        fields, declared, line_end = _header(named, source, place)
        head = _block(source, declared)
        if head is None:
            raise named.shortened(place)
        if not _ended(source, line_end):
            raise named.wrong_length(place, declared)
        end = source.tell()
        yield WarcRecord(path, place, end - place, fields, declared, head)
        place = end


def _header(named: _Named, source: io.BufferedReader, place: int) -> tuple[Fields, int, bytes]:
    """Read the header of a record; return its fields, the length of its block, and its line end."""
    version = source.readline(_PIECE_BYTES)
    if not _VERSION.fullmatch(version):
        if version.startswith(b"filedesc:"):
            message = f"{named.path}: an ARC file, and only WARC files are read. Remedy: `warcio recompress ARC WARC`"
            raise WarcFileError(message)
        if not version.endswith(b"\n") and b"WARC/1.1\r\n".startswith(version[:8]):
            raise named.shortened(place)
        raise named.error(place, "does not begin as one of a WARC file", _LEAVE)
    lines: list[bytes] = []
    size = 0
    while (line := source.readline(_MAX_HEADER_BYTES)) not in _BLANK:
        size += len(line)
        if not line.endswith(b"\n"):
            raise named.shortened(place)
        if size > _MAX_HEADER_BYTES or len(lines) > _MAX_FIELDS:
            raise named.error(place, f"has a header of more than {_MAX_FIELDS} fields or 8 MiB", _LEAVE)
        lines.append(line)
    fields = unfold([_with_ascii_address(line) for line in lines])
    declared = next((value for name, value in fields if name.lower() == "content-length"), "")
    if not _LENGTH.fullmatch(declared):
        raise named.error(place, f"has the Content-Length {declared!r}", _LEAVE)
    return fields, int(declared), b"\r\n" if version.endswith(b"\r\n") else b"\n"


def unfold(lines: list[bytes]) -> Fields:
    """Return header lines as names and values; a line that begins with a blank continues the line before.

    Bytes that are not UTF-8 are decoded as Latin-1, and lines without a colon are ignored.
    """
    fields: list[tuple[str, str]] = []
    for line in lines:
        string = text(line)
        if string[:1] in {" ", "\t"} and fields:
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {string.strip()}".strip())
            continue
        name, colon, value = string.partition(":")
        if colon:
            fields.append((name.strip(), value.strip()))
    return tuple(fields)


def _with_ascii_address(line: bytes) -> bytes:
    """Percent-encode an address that is not UTF-8; decoded as Latin-1, it would become another address."""
    name, colon, value = line.partition(b":")
    if line.isascii() or not name.strip().lower().endswith(b"target-uri"):
        return line
    try:
        value.decode()
    except UnicodeDecodeError:
        return name + colon + escaped(value).encode()
    return line


def escaped(address: bytes) -> str:
    """Return an address with each byte that is not ASCII percent-encoded."""
    return quote(address, safe=bytes(range(128)))


def text(data: bytes) -> str:
    """Decode the bytes of a header as UTF-8, and where that fails as Latin-1 (RFC 9110, 5.5)."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _block(source: io.BufferedReader, declared: int) -> bytes | None:
    """Read a block and return its first 64 KiB; None where the file ends before the block."""
    head = source.read(min(declared, _HEAD_BYTES))
    left = declared - len(head)
    while left:
        piece = source.read(min(left, 2**20))
        if not piece:
            return None
        left -= len(piece)
    return head


def _ended(source: io.BufferedReader, line_end: bytes) -> bool:
    """Read the line ends after a block, and return whether a record or the end of the file follows.

    WARC 1.1 demands two, but writers omit one or add some. All must equal those of the header, so that a Content-Length
    that is wrong by one is noticed when half a line end belongs to the block.
    """
    while source.peek(1)[:1] in {b"\r", b"\n"}:
        if source.readline(3) != line_end:
            return False
    return source.peek(1)[:1] in {b"", b"W"}


@dataclass(frozen=True, slots=True)
class _Named:
    """Makes error messages that name a byte of the file, or of its unpacked copy."""

    path: Path
    split: int | None = None
    """The byte of the file from which on it was unpacked."""

    def error(self, place: int, what: str, remedy: str) -> WarcFileError:
        return WarcFileError(f"{self._at(place)} {what}. Remedy: {remedy}")

    def wrong_length(self, place: int, declared: int) -> WarcFileError:
        what = f"does not end where its Content-Length of {declared} says"
        return self.error(place, what, "correct the field, or take the file out of the list")

    def shortened(self, place: int) -> WarcFileError:
        return _EndsEarlyError(f"{self._at(place)} ends early. Remedy: {self._remedy(place)}")

    def damaged(self, place: int) -> WarcFileError:
        what = f"{self.path}: the gzip member at byte {place} is damaged or ends early"
        return WarcFileError(f"{what}. Remedy: {self._remedy(place)}")

    def _at(self, place: int) -> str:
        unpacked = "" if self.split is None else f" of what is unpacked from byte {self.split} on"
        return f"{self.path}: the record at byte {place}{unpacked}"

    def _remedy(self, place: int) -> str:
        # A position in the unpacked copy is no position in the file itself.
        return f"{_AGAIN}, {_cut_before(place)}" if self.split is None else _AGAIN


def _cut_before(place: int) -> str:
    return f"or keep what comes before it, if nothing is wanted of what follows: `truncate -s {place} FILE`"
