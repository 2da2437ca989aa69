"""WARC files in, a sorted index of their exchanges out (CDXJ), and the places of a URL found in it by halving.

A line is `<key> <time> <JSON>`: the key is the URL with its host turned round (com,example)/path), the time has 14
digits. Lines are sorted by their bytes. The index is searched on disk, so memory does not grow with the archive.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import ada_url
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed
from warcio.recordloader import ArcWarcRecord

from laion_dask.replay import FIELD, normal

# Files that are open at once while indexes are merged.
_OPEN_FILES: Final = 200
_KINDS: Final = frozenset({"response", "metadata"})


class ArchiveError(Exception):
    """An archive cannot be indexed or read; the message has the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an exchange lies: `length` bytes of its reply's record at `offset`, `span` with its request behind."""

    url: str
    asker: str
    place: int
    date: str
    status: int
    mime: str
    digest: str
    block: str
    path: Path
    offset: int
    length: int
    span: int

    def line(self, filename: str | None = None) -> bytes:
        """Return the index line, without its end."""
        values = {
            "url": self.url,
            "asker": self.asker,
            "place": self.place,
            "mime": self.mime,
            "status": str(self.status),
            "digest": self.digest,
            "block": self.block,
            "length": str(self.length),
            "offset": str(self.offset),
            "span": str(self.span),
            "filename": filename or str(self.path),
        }
        return f"{key(self.url)} {digits(self.date)} {json.dumps(values)}".encode()


def parse(line: bytes, folder: Path) -> Entry:
    """Return the entry of a line; its file lies in `folder`, unless the line has a whole path."""
    _, time, text = line.decode().split(" ", 2)
    values = json.loads(text)
    return Entry(
        url=values["url"],
        asker=values.get("asker", ""),
        place=values.get("place", 0),
        date=time,
        status=int(values["status"]),
        mime=values["mime"],
        digest=values["digest"],
        block=values.get("block", ""),
        path=folder / values["filename"],
        offset=int(values["offset"]),
        length=int(values["length"]),
        span=int(values.get("span", values["length"])),
    )


def digits(date: str) -> str:
    """Return the 14 digits of a date, year to second."""
    return "".join(character for character in date if character.isdigit())[:14]


def key(url: str) -> str:
    """Return a URL as sort key: labels of the host in reverse order, then path and query as they are."""
    parsed = ada_url.URL(url)
    host = parsed.hostname
    literal = host.startswith("[") or host.rpartition(".")[2].isdigit()
    labels = host if literal else ",".join(reversed(host.split(".")))
    return f"{labels}{':' if parsed.port else ''}{parsed.port}){parsed.pathname}{parsed.search}"


def write(lines: Iterable[bytes], path: Path) -> None:
    """Write sorted lines."""
    with path.open("wb") as stream:
        stream.writelines(line + b"\n" for line in lines)


def collect(warcs: Sequence[Path], out: Path) -> Path:
    """Write one index of all WARC files to `out`, and return it; `ArchiveError` where a file cannot be read.

    The index beside a file is used where it fits the file; any other file is read to its end.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, warc in enumerate(warcs):
        parts.append(out.with_name(f"{out.name}.{number}"))
        write(sorted(entry.line() for entry in _entries(warc)), parts[-1])
        if len(parts) == _OPEN_FILES:
            parts = [_merge(parts, out.with_name(f"{out.name}.to-{number}"))]
    return _merge(parts, out)


def digest(index: Path) -> str:
    """Return 32 hex digits that stand for what the exchanges hold, wherever their files lie."""
    total = hashlib.sha256()
    with index.open("rb") as stream:
        for line in stream:
            entry = parse(line, index.parent)
            total.update(replace(entry, offset=0).line(entry.path.name) + b"\n")
    return total.hexdigest()[:32]


def _merge(parts: Sequence[Path], out: Path) -> Path:
    with ExitStack() as stack:
        streams = [stack.enter_context(part.open("rb")) for part in parts]
        write((line.rstrip(b"\n") for line in heapq.merge(*streams)), out)
    for part in parts:
        part.unlink()
    return out


def _entries(warc: Path) -> Iterator[Entry]:
    beside = warc.with_name(warc.name.partition(".warc")[0] + ".cdxj")
    if beside.is_file():
        found = [parse(line, warc.parent.resolve()) for line in beside.read_bytes().splitlines()]
        ours = [entry for entry in found if entry.path.name == warc.name]
        if ours and max(entry.offset + entry.span for entry in ours) == warc.stat().st_size:
            yield from ours
            return
    yield from scan(warc)


def scan(warc: Path) -> Iterator[Entry]:
    """Read a WARC file and yield its exchanges; damage ends it, and what came before counts."""
    if not warc.is_file():
        message = f"{warc}: no such WARC file. Remedy: make it, or correct download.warcs in params.yaml"
        raise ArchiveError(message)
    with warc.open("rb") as stream:
        records = ArchiveIterator(stream)
        last: Entry | None = None
        try:
            for record in records:
                kind = record.rec_type
                entry = _entry(record, warc.resolve(), records.get_record_offset()) if kind in _KINDS else None
                length = records.get_record_length()
                if kind == "request" and last is not None and last.asker:
                    last = replace(last, span=last.length + length)
                if last is not None and kind != "warcinfo":
                    yield last
                    last = None
                if entry is not None:
                    last = replace(entry, length=length, span=length)
        except (ArchiveLoadFailed, OSError, EOFError):
            pass
        if last is not None:
            yield last


def _entry(record: ArcWarcRecord, path: Path, offset: int) -> Entry | None:
    warc = record.rec_headers
    told = warc.get_header(FIELD)
    url = normal(warc.get_header("WARC-Target-URI") or "")
    if url is None or (record.rec_type == "metadata" and not told):
        return None
    http = record.http_headers
    status = http.get_statuscode() if http is not None else "0"
    if not status.isdecimal():
        return None
    about = json.loads(told) if told else {}
    return Entry(
        url=url,
        asker=about.get("asker", ""),
        place=about.get("place", offset),
        date=warc.get_header("WARC-Date") or "",
        status=int(status),
        mime=mime(http.get_header("Content-Type") if http is not None else None),
        digest=warc.get_header("WARC-Payload-Digest") or "",
        block=warc.get_header("WARC-Block-Digest") or "",
        path=path,
        offset=offset,
        length=0,
        span=0,
    )


def mime(content_type: str | None) -> str:
    """Return the media type of a Content-Type header, `unk` where there is none, as indexes have it."""
    return (content_type or "").partition(";")[0].strip().lower() or "unk"


class Index:
    """A context manager that finds the entries of a URL in an index file: `with Index(path) as index: index.find(url)`.

    Every process maps the file; what it reads of it is shared and need not fit into memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: mmap.mmap | bytes = b""

    def __enter__(self) -> Self:
        # An empty file cannot be mapped.
        if self._path.stat().st_size:
            with self._path.open("rb") as stream:
                self._bytes = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(self._bytes, mmap.mmap):
            self._bytes.close()

    def find(self, url: str) -> list[Entry]:
        """Return all entries of a URL, in the order of the file."""
        prefix = f"{key(url)} ".encode()
        start = self._first(prefix)
        found = []
        while self._bytes[start : start + len(prefix)] == prefix:
            end = self._bytes.find(b"\n", start)
            entry = parse(self._bytes[start:end], self._path.parent)
            if entry.url == url:
                found.append(entry)
            start = end + 1
        return found

    def _first(self, prefix: bytes) -> int:
        """Return where the first line begins that is not below `prefix`."""
        low, high = 0, len(self._bytes)
        while low < high:
            middle = (low + high) // 2
            begin = self._bytes.rfind(b"\n", low, middle) + 1 or low
            end = self._bytes.find(b"\n", middle) + 1 or len(self._bytes)
            if self._bytes[begin : begin + len(prefix)] < prefix:
                low = end
            else:
                high = begin
        return low
