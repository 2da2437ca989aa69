"""Write and search CDXJ indexes: sorted lines that locate the exchanges in WARC files.

A line is `<key> <time> <JSON>`: the key is the URL with the labels of its host in reverse order (com,example)/path),
the time has 14 digits. Lines are sorted by their bytes, and found by binary search on disk, so memory does not grow
with the archive.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import mmap
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import ada_url

from laion_dask.web.warc.recorded import (
    AnswerRecord,
    RecordPlace,
    Survey,
    exchange_field,
    is_unanswered,
    media_type,
    normal_url,
)
from laion_dask.web.warc.warc_files import WarcFileError

# How many indexes are merged at once, each an open file.
_OPEN_FILES: Final = 200


class ArchiveError(Exception):
    """An archive cannot be indexed or read; the message has the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The location of an exchange: the record of its reply has `length` bytes at `offset`, `span` with its request.

    `payload` is the record with its body where that is another one (a revisit by another crawler).
    """

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
    payload: RecordPlace | None = None

    def line(self, filename: str | None = None) -> bytes:
        """Return the index line, without a line end."""
        values: dict[str, Any] = {
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
        if self.payload is not None:
            values |= {"payload": [str(self.payload.path), self.payload.offset]}
        return f"{key(self.url)} {digits(self.date)} {json.dumps(values)}".encode()


def parse(line: bytes, folder: Path) -> Entry:
    """Return the entry of a line; its file is in `folder`, unless the line has an absolute path."""
    _, time, text = line.decode().split(" ", 2)
    values = json.loads(text)
    payload = values.get("payload")
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
        payload=RecordPlace(folder / payload[0], int(payload[1])) if payload else None,
    )


def digits(date: str) -> str:
    """Return the 14 digits of a date, year to second."""
    return "".join(character for character in date if character.isdigit())[:14]


def key(url: str) -> str:
    """Return the sort key of a URL: labels of the host in reverse order, then path and query unchanged."""
    parsed = ada_url.URL(url)
    host = parsed.hostname
    literal = host.startswith("[") or host.rpartition(".")[2].isdigit()
    labels = host if literal else ",".join(reversed(host.split(".")))
    return f"{labels}{':' if parsed.port else ''}{parsed.port}){parsed.pathname}{parsed.search}"


def write(lines: Iterable[bytes], path: Path) -> None:
    """Write sorted lines."""
    with path.open("wb") as stream:
        stream.writelines(line + b"\n" for line in lines)


def survey_beside(out: Path) -> Survey:
    """Return an empty survey that unpacks files into a folder beside the index `out`, to which the index refers."""
    return Survey(out.with_name(f"{out.name}.unpacked"))


def collect(warcs: Sequence[Path], out: Path, survey: Survey | None = None) -> Path:
    """Write one index of all WARC files to `out`, and return it; `ArchiveError` where a file cannot be read in full.

    A file's own index is used where it matches the file; any other file is read to its end, and `survey` counts its
    records. Unpacked files stay beside `out`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    survey = survey or survey_beside(out)
    shutil.rmtree(survey.scratch, ignore_errors=True)
    parts = []
    for number, warc in enumerate(warcs):
        parts.append(out.with_name(f"{out.name}.{number}"))
        write(sorted(entry.line() for entry in _entries(warc, survey)), parts[-1])
        if len(parts) == _OPEN_FILES:
            parts = [_merge(parts, out.with_name(f"{out.name}.to-{number}"))]
    parts.append(out.with_name(f"{out.name}.revisits"))
    write(sorted(_entry(answer).line() for answer in survey.revisits()), parts[-1])
    return _merge(parts, out)


def digest(index: Path) -> str:
    """Return a digest (32 hex digits) of the content of the exchanges, independent of the location of their files."""
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


def _entries(warc: Path, survey: Survey) -> Iterator[Entry]:
    beside = warc.with_name(warc.name.partition(".warc")[0] + ".cdxj")
    if beside.is_file():
        # Indexes of other tools are CDXJ too, but without spans.
        lines = [line for line in beside.read_bytes().splitlines() if b'"span": ' in line]
        entries = [parse(line, warc.parent.resolve()) for line in lines]
        of_file = [entry for entry in entries if entry.path.name == warc.name]
        if of_file and max(entry.offset + entry.span for entry in of_file) == warc.stat().st_size:
            yield from of_file
            return
    yield from scan(warc, survey)


def scan(warc: Path, survey: Survey) -> Iterator[Entry]:
    """Read a WARC file and yield its exchanges; `ArchiveError` where it cannot be read to its end.

    `survey.revisits` yields the revisits when all files have been read.
    """
    last: Entry | None = None
    try:
        for found in survey.answers(warc.absolute()):
            record = found.record if isinstance(found, AnswerRecord) else found
            if record.kind == "request" and last is not None and last.asker:
                last = replace(last, span=last.length + record.length)
            if last is not None and record.kind != "warcinfo":
                yield last
                last = None
            if isinstance(found, AnswerRecord):
                last = _entry(found)
            elif is_unanswered(record) and (url := normal_url(record.get("warc-target-uri"))):
                last = _entry(AnswerRecord(url, RecordPlace(record.path, record.offset), record, 0, media_type(None)))
    except WarcFileError as error:
        raise ArchiveError(str(error)) from error
    if last is not None:
        yield last


def _entry(found: AnswerRecord) -> Entry:
    record = found.record
    about = exchange_field(record)
    return Entry(
        url=found.url,
        asker=about.get("asker", ""),
        place=about.get("place", record.offset),
        date=record.get("warc-date"),
        status=found.status,
        mime=found.media,
        digest=record.get("warc-payload-digest"),
        block=record.get("warc-block-digest"),
        path=record.path,
        offset=record.offset,
        length=record.length,
        span=record.length,
        payload=found.place.payload,
    )


class CdxjIndex:
    """A context manager that finds the entries of a URL: `with CdxjIndex(path) as index: index.find(url)`.

    The file is mapped into memory, so that processes share the pages that they read.
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
        """Return the offset of the first line that is not less than `prefix`."""
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
