"""Read the stored bytes of a local file or a URL by offset, in blocks; request each once, count and hash them.

Remote files are read by exact range requests with one block of read-ahead: fsspec's own file objects request more bytes
than are read.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from laion_dask.extract.wat.ranges import AgainError, LocationError, See, first_line, get_http, get_other, get_s3
from laion_dask.storage import objects

BLOCK_BYTES: Final = 8 * 2**20
"""Bytes of one range request: about 40 requests for a WAT of Common Crawl, whose CDN refuses clients with too
many requests; three blocks (the last, the current and the next) take 24 MiB of a worker's memory."""

LOCAL_BLOCK_BYTES: Final = 2**18
"""Bytes of one read from disk: small enough for the processor's cache, as the system reads ahead itself."""

WAITS_S: Final = (1.0, 4.0, 16.0, 60.0)
"""Waits before retries of a block; Common Crawl demands exponential backoff. After the last one, the read fails."""

MAX_RETRY_AFTER_S: Final = 120.0
"""A longer Retry-After is cut to this, so that reading a WAT ends."""

_FEWER_WORKERS: Final = (
    "check network and address, then run again with fewer workers: Common Crawl answers 403 or 503 to clients that ask "
    "too often"
)
_LIST_AGAIN: Final = "run again: the files are listed anew, and nothing of this one is kept"


class TransferError(Exception):
    """The host refused, the connection was lost, or the object changed, and no retry is left."""


class FileVersion(NamedTuple):
    """Size in bytes and the server's ETag, which must not change between requests."""

    size: int
    etag: str

    def is_same(self, other: FileVersion) -> bool:
        """Compare sizes, and ETags where both servers' answers have one."""
        return self.size == other.size and (self.etag == other.etag or not self.etag or not other.etag)

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.size:,} bytes, ETag {self.etag or 'none'}"


class _ByteOrigin(Protocol):
    """A source of bytes; `read` returns those from `start` up to `end` or the end of the file."""

    block_bytes: int
    requests: int

    def read(self, start: int, end: int) -> bytes: ...

    def version(self) -> FileVersion: ...

    def close(self) -> None: ...


class StoredFile:
    """The bytes of a file as stored, by offset, with a cache of a few blocks.

    Every block is hashed when it is first read; `sha256` reads the remaining ones.
    """

    def __init__(self, location: str, listed: FileVersion | None = None) -> None:
        """Open a path or URL and read its first block; raises `LocationError` or `TransferError`.

        `listed` is the version that a listing told of: an object that has changed since is refused.
        """
        self._origin = _open(location, listed)
        self._hash = hashlib.sha256()
        self._blocks: dict[int, bytes] = {}
        self._prefetched: tuple[int, Future[bytes]] | None = None
        self._pool = ThreadPoolExecutor(1, "read-ahead") if isinstance(self._origin, _Remote) else None
        self._step = self._origin.block_bytes
        self._hashed = 0
        self.bytes = 0
        """Bytes hashed: all up to the furthest block read."""
        try:
            self._load(0)
        except BaseException:
            self.close()
            raise
        self.size, self.etag = self._origin.version()

    @property
    def requests(self) -> int:
        """Requests sent to the server, including retries; 0 for a local file."""
        return self._origin.requests

    def at(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset`: fewer at the end of a block, none only at the file's end."""
        if offset >= self.size:
            return b""
        index, begin = divmod(offset, self._step)
        block = self._blocks.get(index)
        if block is None:
            block = self._load(index)
        return block[begin : begin + count]

    def exactly(self, offset: int, count: int) -> bytes:
        """Return `count` bytes from `offset`, fewer only at the file's end."""
        data = self.at(offset, count)
        while len(data) < count and (more := self.at(offset + len(data), count - len(data))):
            data += more
        return data

    def sha256(self) -> str:
        """Return the digest of the whole file as hex; reads what has not been read yet."""
        while self.bytes < self.size:
            self._load(self._hashed)
        return self._hash.hexdigest()

    def close(self) -> None:
        """Stop the read-ahead and close the file or connection."""
        self._origin.close()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _load(self, index: int) -> bytes:
        block = self._fetch(index)
        if index == self._hashed:
            self._hash.update(block)
            self._hashed += 1
            self.bytes += len(block)
        # The previous block stays, as doubtful records are read again from their start.
        while len(self._blocks) > 1:
            del self._blocks[next(iter(self._blocks))]
        self._blocks[index] = block
        return block

    def _fetch(self, index: int) -> bytes:
        if self._pool is None:
            return self._origin.read(index * self._step, (index + 1) * self._step)
        prefetched, self._prefetched = self._prefetched, None
        future = prefetched[1] if prefetched is not None and prefetched[0] == index else self._submit(index)
        block = future.result()
        if (index + 1) * self._step < self._origin.version().size and index + 1 not in self._blocks:
            self._prefetched = index + 1, self._submit(index + 1)
        return block

    def _submit(self, index: int) -> Future[bytes]:
        if self._pool is None:
            raise TransferError("a local file has no read-ahead")
        return self._pool.submit(self._origin.read, index * self._step, (index + 1) * self._step)


def _open(location: str, listed: FileVersion | None) -> _ByteOrigin:
    if "://" not in location:
        return _Local(Path(location))
    from fsspec.core import url_to_fs  # noqa: PLC0415 - only remote WATs need it

    try:
        system, path = url_to_fs(location, **objects.options(location))
    except (ValueError, ImportError) as error:
        raise LocationError(f"{location}: {first_line(error)}. Remedy: use a path, https:// or s3://") from error
    names = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    if "file" in names:
        return _Local(Path(path))
    get = get_http if "https" in names else get_s3 if "s3" in names else get_other
    return _Remote(location, functools.partial(get, system, path), listed)


class _Local:
    """A regular file."""

    requests = 0

    def __init__(self, path: Path) -> None:
        self.block_bytes = LOCAL_BLOCK_BYTES
        try:
            self._file = path.open("rb", buffering=0)
        except (OSError, ValueError) as error:
            raise LocationError(f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}") from error
        status = os.fstat(self._file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise LocationError(f"{path} is no regular file. Remedy: write it to disk first")
        self._version = FileVersion(status.st_size, "")

    def read(self, start: int, end: int) -> bytes:
        data = os.pread(self._file.fileno(), end - start, start)
        if len(data) != max(0, min(end, self._version.size) - start):
            raise TransferError(f"{self._file.name} has become shorter while it was read. Remedy: run again")
        return data

    def version(self) -> FileVersion:
        return self._version

    def close(self) -> None:
        self._file.close()


class _Remote:
    """An object at a URL, read by range requests; an interrupted one continues where it ended."""

    def __init__(self, url: str, get: Callable[[int, int, bytearray, See], None], listed: FileVersion | None) -> None:
        self._listed = listed
        self.block_bytes = BLOCK_BYTES
        self.requests = 0
        self._url = url
        self._get = get
        self._version: FileVersion | None = None
        self._closing = threading.Event()

    def read(self, start: int, end: int) -> bytes:
        data = bytearray()
        waits = iter(WAITS_S)
        while not self._is_complete(start, end, data):
            error = self._request(start + len(data), end, data)
            if error is None and not self._is_complete(start, end, data):
                error = AgainError("the answer ended early")
            if error is not None:
                self._wait(error, waits)
        return bytes(data)

    def _request(self, start: int, end: int, data: bytearray) -> AgainError | None:
        """Send one request; received bytes are appended to `data`, even if the answer is interrupted."""
        self.requests += 1
        try:
            self._get(start, end, data, self._see)
        except LocationError as error:
            if self._listed is not None and self._version is None:
                message = f"{self._url} was there when it was listed ({self._listed}), and is not now: {error}"
                raise TransferError(f"{message}. Remedy: {_LIST_AGAIN}") from error
            # After a successful request, the location is not wrong: this is an error of the transfer.
            raise (TransferError if self._version else LocationError)(f"{self._url}: {error}") from error
        except AgainError as error:
            return error
        return None

    def version(self) -> FileVersion:
        if self._version is None:
            raise TransferError(f"{self._url} has not been asked for yet")
        return self._version

    def close(self) -> None:
        self._closing.set()

    def _is_complete(self, start: int, end: int, data: bytearray) -> bool:
        if len(data) > end - start:
            raise TransferError(f"{self._url}: the server sends more bytes than it was asked for")
        return self._version is not None and len(data) >= min(end, self._version.size) - start

    def _see(self, size: int, etag: str) -> None:
        """Compare the first answer's size and ETag with every later one."""
        version = FileVersion(size, etag)
        if self._version is None:
            if self._listed is not None and not version.is_same(self._listed):
                message = f"{self._url} has changed since it was listed: it was {self._listed}, and is now {version}"
                raise TransferError(f"{message}. Remedy: {_LIST_AGAIN}")
            self._version = version
        elif version != self._version:
            raise TransferError(
                f"{self._url} changed while it was read: size and ETag were {self._version.size} {self._version.etag}, "
                f"now {size} {etag}. Remedy: run again; nothing of the old one is kept"
            )

    def _wait(self, error: AgainError, waits: Iterator[float]) -> None:
        wait = next(waits, None)
        if wait is None or self._closing.is_set():
            remedy = objects.RIGHTS_REMEDY if error.lacks_right else _FEWER_WORKERS
            raise TransferError(
                f"{self._url}: {error} (after {len(WAITS_S) + 1} requests). Remedy: {remedy}"
            ) from error
        pause(self._closing, max(wait, min(error.retry_after_s, MAX_RETRY_AFTER_S)))


def pause(closing: threading.Event, seconds: float) -> None:
    """Wait, but end at once if the file is closed."""
    closing.wait(seconds)
