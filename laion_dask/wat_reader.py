"""The place of a WAT in, its records as stored out: by FastWARC or by warcio, equal records at equal offsets.

FastWARC is fast and refuses what is not quite a WARC (line ends without carriage return, for one); warcio then reads
on from the same place. Records before any damage are always given.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, cast

# A record that claims more is taken as cut short instead of filling the worker's memory; real ones have up to a few MB.
MAX_RECORD_BYTES: Final = 64 * 2**20

# Waits before a remote WAT is opened again. The public CDN of Common Crawl asks for exponential back-off.
RETRY_WAITS_S: Final = (1.0, 4.0, 16.0)

_READ_AHEAD_BYTES: Final = 2**20


class UnreadableWatError(Exception):
    """The WAT cannot be opened: it is missing, or its host cannot be reached."""


class DamagedWatError(Exception):
    """The rest of the WAT cannot be read as WARC records: bad gzip, or something else than a record."""


class _RefusedError(Exception):
    """FastWARC found something that only warcio can judge."""


@dataclass(frozen=True, slots=True)
class Record:
    """One WARC record of a WAT."""

    offset: int
    """Where it begins in the file as stored, bytes; of its gzip member where there is one."""
    type: str
    """WARC-Type; empty where the header has none."""
    date: str
    """WARC-Date of this record: when the extractor wrote it (in files of 2014: when the page was fetched)."""
    declared: int
    """Content-Length, bytes; -1 where the header has none."""
    body: bytes


@dataclass(slots=True)
class Reading:
    """What became of one reading: whether warcio had to step in, and the bytes read."""

    fallback: bool = False
    bytes: int = 0


class _Source:
    """An open WAT that counts its bytes and remembers an error of the disk or network, which no reader may swallow."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.bytes = 0
        self.error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            data = self.file.read(size)
        except Exception as error:
            self.error = error
            raise
        self.bytes += len(data)
        return data

    def tell(self) -> int:
        return self.bytes


def records(location: str, reader: str, reading: Reading) -> Iterator[Record]:
    """Yield the records of a local path or a URL of fsspec (https, s3, ...) in file order.

    Raises `UnreadableWatError` if it cannot be opened, `DamagedWatError` where the rest cannot be read, and whatever
    the disk or the network raised in the middle after `RETRY_WAITS_S`: half a WAT is never taken for a whole one.
    """
    read: Callable[[_Source], Iterator[Record]] = _READERS[reader]
    waits = iter(RETRY_WAITS_S if "://" in location else ())
    given = 0
    while True:
        source = _open(location)
        try:
            for place, record in enumerate(read(source)):
                # After a change of reader or connection the file is read again from its start.
                if place >= given:
                    given += 1
                    yield record
        except _RefusedError:
            read, reading.fallback = _warcio, True
        except Exception:
            wait = next(waits, None) if source.error is not None else None
            if wait is None:
                raise
            time.sleep(wait)
        else:
            return
        finally:
            reading.bytes = max(reading.bytes, source.bytes)
            source.file.close()


def _open(location: str) -> _Source:
    if "://" not in location:
        try:
            return _Source(Path(location).open("rb"))
        except OSError as error:
            raise UnreadableWatError(f"{type(error).__name__}: {error.strerror}") from error
    import fsspec  # noqa: PLC0415 - only remote WATs need it

    waits = iter(RETRY_WAITS_S)
    while True:
        try:
            return _Source(fsspec.open(location, "rb").open())
        # Every file system of fsspec raises its own errors. Whatever it is costs this WAT only, counted with its text.
        except Exception as error:
            wait = None if isinstance(error, FileNotFoundError | PermissionError) else next(waits, None)
            if wait is None:
                raise UnreadableWatError(f"{type(error).__name__}: {error}") from error
            time.sleep(wait)


def _fastwarc(source: _Source) -> Iterator[Record]:
    from fastwarc.warc import ArchiveIterator  # noqa: PLC0415 - one of two readers

    try:
        for record in ArchiveIterator(cast("BinaryIO", source), parse_http=False):
            headers = record.headers
            kind, declared = headers.get("WARC-Type"), _length(headers.get("Content-Length"))
            # With LF line ends the whole header arrives as one value; a header that is cut lacks names.
            if not kind or "\n" in kind or declared < 0:
                raise _RefusedError
            body = record.reader.read() if declared <= MAX_RECORD_BYTES else b""
            yield Record(record.stream_pos, kind, headers.get("WARC-Date") or "", declared, body)
    except (OSError, ValueError) as error:
        if source.error is not None:
            raise
        raise _RefusedError from error


def _warcio(source: _Source) -> Iterator[Record]:
    from warcio.archiveiterator import WARCIterator  # noqa: PLC0415 - one of two readers
    from warcio.exceptions import ArchiveLoadFailed  # noqa: PLC0415
    from warcio.statusandheaders import StatusAndHeadersParserException  # noqa: PLC0415

    iterator = WARCIterator(source, no_record_parse=True)
    try:
        for record in iterator:
            header = record.rec_headers.get_header
            declared = _length(header("Content-Length"))
            body = record.raw_stream.read() if 0 <= declared <= MAX_RECORD_BYTES else b""
            yield Record(iterator.offset, header("WARC-Type") or "", header("WARC-Date") or "", declared, body)
    except (ArchiveLoadFailed, StatusAndHeadersParserException, OSError, EOFError, ValueError, zlib.error) as error:
        if source.error is not None:
            raise
        raise DamagedWatError(_first_line(error)) from error


def _length(value: Any) -> int:  # noqa: ANN401 - header values come untyped
    text = str(value or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


_READERS: Final[dict[str, Callable[[_Source], Iterator[Record]]]] = {"fastwarc": _fastwarc, "warcio": _warcio}
