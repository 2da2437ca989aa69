"""Search a file of any kind for traces, in its bytes and in everything packed inside, at any depth.

`Seen` counts what is read, and names each file or member that cannot be read: nothing is proved about those.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa

from laion_dask.removals.traces import trace_formats, trace_openers, trace_rows, trace_tables
from laion_dask.removals.traces.trace_forms import Kind
from laion_dask.removals.traces.trace_search import Search, Stream
from laion_dask.removals.traces.trace_values import Traces

MAX_DEPTH: Final = 8
"""Levels of nested containers that are opened."""
_MAX_GROWTH: Final = 5_000
_FREE_GROWTH: Final = 1 << 30
"""Bytes that any file may unpack to, besides `_MAX_GROWTH` times its size."""
_SPOOL: Final = 1 << 24
_READ: Final = 1 << 20
_GUESS: Final = 4096
"""Unpacked bytes from which on a guessed packing is certain."""
_JSON: Final = 1 << 20


@dataclass
class Seen:
    """Counts of what was searched."""

    files: int = 0
    bytes: int = 0
    members: int = 0
    """Files inside of files."""
    kinds: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)
    """Files and members that could not be read, with the reason."""

    def add(self, other: Seen) -> None:
        """Add the counts of another one."""
        self.files += other.files
        self.bytes += other.bytes
        self.members += other.members
        self.kinds.update(other.kinds)
        self.unread.update(other.unread)


def look(path: Path, traces: Traces, seen: Seen) -> str:
    """Return the kind of the first trace in a file, empty if there is none; count the file in `seen`."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            seen.files += 1
            seen.bytes += size
            return _Reader(traces, seen, size).entry(str(path), stream, path=path)
    except OSError as error:
        seen.unread[str(path)] = error.strerror or str(error)
        return ""


def look_at(name: str, content: bytes, traces: Traces, seen: Seen) -> str:
    """Return the kind of the first trace in bytes that are not a file, such as a Git object; empty if none."""
    seen.files += 1
    seen.bytes += len(content)
    return _Reader(traces, seen, len(content)).entry(name, io.BytesIO(content))


def look_at_name(path: Path, traces: Traces) -> str:
    """Return the kind of the first trace in a file's path, empty if there is none.

    Texts of one word do not count: they are common names of folders.
    """
    kinds = (kind for kind, sure, _ in _search_of(traces).found(os.fsencode(path)) if sure and kind is not Kind.WORD)
    return next((f"{kind.value.strip()} in its name" for kind in kinds), "")


def _search_of(traces: Traces) -> Search:
    """Return the search for these traces, made once."""
    if "search" not in traces.made:
        traces.made["search"] = Search(traces)
    search: Search = traces.made["search"]
    return search


class _Reader:
    """Searches one file, and limits the bytes that it unpacks to."""

    def __init__(self, traces: Traces, seen: Seen, size: int) -> None:
        self._traces, self._seen = traces, seen
        self._search = _search_of(traces)
        self._pictures = traces.pictures | traces.digests
        self._left = _FREE_GROWTH + _MAX_GROWTH * size
        self._errors = trace_openers.errors()

    def entry(self, name: str, stream: IO[bytes], *, depth: int = 0, path: Path | None = None) -> str:
        """Search a stream; `path` if it is a file on disk."""
        head = _exactly(stream, trace_formats.HEAD_BYTES)
        kind = trace_formats.kind_of(head, name, _tail(stream) if path else b"")
        leaf = _Leaf(self._search, self._pictures, text=kind == "parquet")
        source = _FileStream(head, stream, leaf, self)
        unread = trace_formats.opaque(head)
        before = self._left
        trace = ""
        try:
            if kind and depth >= MAX_DEPTH:
                unread = f"more than {MAX_DEPTH} containers lie inside of each other"
            elif kind in trace_openers.STREAMED:
                trace = self._inside(trace_openers.STREAMED[kind](io.BufferedReader(source)), name, depth)
            elif kind:
                trace = self._whole(kind, source, name, depth, path)
        except self._errors as error:
            certain = before - self._left - len(head) > _GUESS or name.endswith(trace_formats.GUESSED.get(kind, ("",)))
            unread = _why(error) if certain else ""
            kind = kind if certain else ""
        # Bytes behind or between the members are read too.
        unread = source.drain(self._errors) or unread
        if unread:
            self._seen.unread[name] = unread
        self._seen.kinds[kind or ("bytes" if leaf.is_binary else "text")] += 1
        trace = leaf.picture() or trace or leaf.end()
        return trace or (self._of_json(leaf.begin) if depth and name.endswith(".json") else "")

    def grow(self, size: int) -> None:
        """Count bytes that were read; raise if a file unpacks to more than any real one."""
        self._left -= size
        if self._left < 0:
            raise trace_openers.UnreadError("unpacks to more than 5,000 times its size")

    def _whole(self, kind: str, source: _FileStream, name: str, depth: int, path: Path | None) -> str:
        """Search a kind of file that needs seeking."""
        with _at_hand(source, path, named=kind in trace_openers.BY_PATH) as (file, where):
            if kind in trace_openers.BY_PATH:
                return self._inside(trace_openers.BY_PATH[kind](where), name, depth)
            return self._inside(trace_openers.SEEKED[kind](file), name, depth)

    def _inside(self, contents: trace_openers.Opened, name: str, depth: int) -> str:
        for place, content in contents:
            if isinstance(content, pa.RecordBatch):
                trace = self._in_rows(content, f"{name} {place}", depth)
            elif isinstance(content, bytes):
                trace = self._in_lines(content, text=place != "pages")
            else:
                self._seen.members += 1
                trace = self.entry(f"{name}: {place}", content, depth=depth + 1)
            if trace:
                return f"{trace} in {place}" if place else trace
        return ""

    def _in_lines(self, lines: bytes, *, text: bool = True) -> str:
        stream = Stream(self._search, text=text)
        stream.feed(lines)
        return stream.end()

    def _in_rows(self, batch: pa.RecordBatch, name: str, depth: int) -> str:
        if self._traces.uids and trace_rows.has_more(batch, self._traces.uids):
            return "rows beside their uid"
        for place, content, own in trace_tables.pieces(batch):
            if own:
                self._seen.members += 1
            trace = (
                self.entry(f"{name} {place}", io.BytesIO(content), depth=depth + 1) if own else self._in_lines(content)
            )
            if trace:
                return f"{trace} in {place}"
        return ""

    def _of_json(self, begin: bytes) -> str:
        """Return the kind of trace if this is a tar member's JSON about a removed pair."""
        try:
            value = json.loads(begin)
        except ValueError:
            return ""
        removed = isinstance(value, dict) and isinstance(value.get("uid"), str) and value["uid"] in self._traces.uids
        return "values beside their uid" if removed else ""


class _Leaf(Stream):
    """The bytes of one file, searched and digested."""

    def __init__(self, search: Search, pictures: frozenset[str], *, text: bool) -> None:
        super().__init__(search, text=text)
        self._digests = [hashlib.sha256(), hashlib.md5()] if pictures else []
        self._pictures = pictures
        self.begin = b""

    def feed(self, data: bytes) -> None:
        super().feed(data)
        for digest in self._digests:
            digest.update(data)
        if len(self.begin) < _JSON:
            self.begin += data[: _JSON - len(self.begin)]

    def picture(self) -> str:
        """Return the kind of trace if the file is a removed picture, as stored or as received."""
        same = any(digest.hexdigest() in self._pictures for digest in self._digests)
        return "a picture" if same else ""


class _FileStream(io.RawIOBase):
    """A stream that feeds a leaf with all bytes that an opener reads."""

    def __init__(self, head: bytes, stream: IO[bytes], leaf: _Leaf, reader: _Reader) -> None:
        self._head, self._stream, self._leaf, self._reader = head, stream, leaf, reader
        self._failed = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        if self._failed:
            return 0
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        try:
            data = data or self._stream.read(len(buffer))
            self._reader.grow(len(data))
        except Exception:
            self._failed = True
            raise
        self._leaf.feed(data)
        buffer[: len(data)] = data
        return len(data)

    def drain(self, errors: tuple[type[Exception], ...] = ()) -> str:
        """Read the rest of the stream; return one of these errors as text, empty if there is none."""
        buffer = bytearray(_READ)
        try:
            while self.readinto(buffer):
                pass
        except errors as error:
            return _why(error)
        return ""


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def _tail(stream: IO[bytes]) -> bytes:
    at = stream.tell()
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - trace_formats.TAIL_BYTES))
    tail = stream.read(trace_formats.TAIL_BYTES)
    stream.seek(at)
    return tail


@contextmanager
def _at_hand(source: _FileStream, path: Path | None, *, named: bool) -> Iterator[tuple[IO[bytes], Path]]:
    """Yield a stream as a seekable file, after all of its bytes were searched."""
    if path is not None:
        source.drain()
        with path.open("rb") as file:
            yield file, path
    elif named:
        with tempfile.NamedTemporaryFile(prefix="laion-dask-") as copy:
            _copy(source, copy)
            yield copy, Path(copy.name)
    else:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as spooled:
            _copy(source, spooled)
            yield spooled, Path()


def _copy(source: _FileStream, file: Any) -> None:  # noqa: ANN401 - a file of tempfile has types of its own
    while data := source.read(_READ):
        file.write(data)
    file.flush()
    file.seek(0)
