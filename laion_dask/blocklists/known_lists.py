"""Compile a list of known content (lines, CSV, .gz of both) to sorted binary arrays, which workers memory-map.

Lists have tens of millions of entries, so they are partitioned by their first bits on disk, and each part is sorted on
its own. An index is identified by the digest of its file, and built again when that changes. No message ever contains
an entry.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import shutil
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laion_dask.blocklists.known_index import BANDS, WIDTHS, Index
from laion_dask.params.lists import HashList
from laion_dask.schema.values import PDQ_DISTANCE, PDQ_QUALITY
from laion_dask.storage import files, strict_rows
from laion_dask.storage.uids import to_bytes

_FORMAT: Final = 4  # version of the index; a higher number rebuilds every index
_BLOCK_BYTES: Final = 16 * 1024 * 1024
_ROWS: Final = 100_000  # of a CSV, read at once
_PARTS: Final = 64  # by the first six bits: with 20 million entries of 32 bytes, a part has 10 MB

Bytes = npt.NDArray[np.uint8]

_NIBBLE: Final = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)
_NIBBLE[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)


class ListError(Exception):
    """A list of known content cannot be read; the message has file and line, never the entry."""


def compiled(lists: Sequence[HashList], folder: Path) -> list[Index]:
    """Return an index for each list, built in `folder` unless it exists; raises `ListError` for an unreadable list."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        # If two stages start at once, the second uses the index of the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return [_compiled(entry, folder) for entry in lists]


def look(entry: HashList) -> None:
    """Read the beginning of a list; raises `ListError` if it is not a list."""
    with _readable(Path(entry.file)):
        next(_blocks(Path(entry.file), entry.kind, entry.column), None)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file into `ListError`."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise ListError(f"{path} cannot be read ({type(error).__name__}). Remedy: get the list again") from error


def _compiled(entry: HashList, folder: Path) -> Index:
    path = Path(entry.file)
    if not path.is_file():
        message = (
            f"catalog.lists: {entry.name} is {path}, which is missing. Remedy: correct the path or remove the list"
        )
        raise ListError(message)
    sha256 = files.sha256(path)
    if entry.sha256 not in {None, sha256}:
        message = (
            f"catalog.lists: {path} has the sha256 {sha256}, but {entry.name} expects another. "
            "Remedy: restore the file, or if the list has changed, write its sha256 into params.yaml"
        )
        raise ListError(message)
    identity = json.dumps([_FORMAT, sha256, entry.kind, entry.column, _is_csv(path)])
    place = (folder / hashlib.sha256(identity.encode()).hexdigest()[:32]).resolve()
    if not (place / "entries.json").is_file():
        fresh = place.with_suffix(".tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        entries = build(path, entry.kind, fresh, entry.column)
        (fresh / "entries.json").write_text(f"{json.dumps(entries)}\n")
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    pdq = entry.kind == "pdq"
    return Index(
        name=entry.name,
        kind=entry.kind,
        sha256=sha256,
        entries=int(json.loads((place / "entries.json").read_text())),
        folder=place,
        distance=(PDQ_DISTANCE if entry.distance is None else entry.distance) if pdq else 0,
        quality=(PDQ_QUALITY if entry.quality is None else entry.quality) if pdq else 0,
    )


def of_digests(kind: str, digests: Collection[str], folder: Path) -> Index:
    """Build the index of digests given in memory, e.g. of removals: of image bytes, in lower-case hex."""
    texts = sorted(digests)
    place = (folder / f"{kind}-{files.digest(texts)}").resolve()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    rows = unique(to_bytes(pa.array(texts, pa.string()), WIDTHS[kind]))
    with (place / "keys.bin").open("wb") as keys, (place / "rest.bin").open("wb") as rest:
        _write_exact(rows, keys, rest)
    return Index(name=kind, kind=kind, sha256="", entries=len(rows), folder=place)


def _write_exact(rows: Bytes, keys: IO[bytes], rest: IO[bytes]) -> None:
    keys.write(first_words(rows).astype("<u8").tobytes())
    rest.write(rows[:, 8:].tobytes())


def build(path: Path, kind: str, out: Path, column: str | None = None) -> int:
    """Write the index of a list into the folder `out`, and return the number of its distinct entries.

    `keys.bin` has the first 8 bytes of each entry as little-endian uint64, ascending; `rest.bin` the others. For PDQ,
    `rows.bin` has the entries (entries, 4) as uint64; `bands.bin` and `starts.bin` list the entries with each value of
    each of 16 bands of 16 bits, `nexts.bin` their two following bands. Raises `ListError`.
    """
    width = WIDTHS[kind]
    names = ("rows",) if kind == "pdq" else ("keys", "rest")
    entries = 0
    with _readable(path), _partitioned(_blocks(path, kind, column), out) as parts, ExitStack() as stack:
        streams = [stack.enter_context((out / f"{name}.bin").open("wb")) for name in names]
        for file in parts:
            rows = unique(np.fromfile(file, np.uint8).reshape(-1, width))
            file.unlink()
            entries += len(rows)
            if kind == "pdq":
                streams[0].write(rows.tobytes())
            else:
                _write_exact(rows, *streams)
    if kind == "pdq":
        _write_bands(out, entries)
    return entries


def first_words(rows: Bytes) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes of each row as a number in the same order."""
    return np.ascontiguousarray(rows[:, :8]).view(">u8").ravel().astype(np.uint64)


def unique(rows: Bytes) -> Bytes:
    """Return the distinct rows (n, bytes), sorted by their bytes."""
    keys = first_words(rows)
    order = np.argsort(keys)
    keys, rows = keys[order], rows[order]
    equal = keys[1:] == keys[:-1]
    if not equal.any():
        return rows
    # Only rows with equal first words are not sorted yet.
    tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
    some = rows[tied]
    rows[tied] = some[np.lexsort(np.ascontiguousarray(some).view(">u4").T[::-1])]
    fresh = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
    unique_rows: Bytes = rows[fresh]
    return unique_rows


@contextmanager
def _partitioned(blocks: Iterable[Bytes], out: Path) -> Iterator[Iterator[Path]]:
    """Write rows to files by their first bits; yield the files in order."""
    names = [out / f"part-{part:02d}" for part in range(_PARTS)]
    with ExitStack() as stack:
        streams = [stack.enter_context(name.open("wb")) for name in names]
        for rows in blocks:
            parts = rows[:, 0] // (256 // _PARTS)
            order = np.argsort(parts, kind="stable")
            ends = np.searchsorted(parts[order], np.arange(_PARTS + 1))
            for part, stream in enumerate(streams):
                stream.write(rows[order[ends[part] : ends[part + 1]]].tobytes())
    yield iter(names)


def _write_bands(out: Path, entries: int) -> None:
    rows = np.fromfile(out / "rows.bin", "<u2").reshape(entries, BANDS) if entries else np.empty((0, BANDS), "<u2")
    with ExitStack() as stack:
        bands, nexts, starts = (
            stack.enter_context((out / f"{name}.bin").open("wb")) for name in ("bands", "nexts", "starts")
        )
        for band in range(BANDS):
            values = np.ascontiguousarray(rows[:, band])
            order = np.argsort(values, kind="stable").astype("<u4")
            bands.write(order.tobytes())
            nexts.write(np.stack([rows[order, (band + step) % BANDS] for step in (1, 2)], axis=1).tobytes())
            ends = np.cumsum(np.bincount(values, minlength=1 << 16))
            starts.write(np.append(0, ends).astype("<i8").tobytes())


def _is_csv(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(".csv")


def _blocks(path: Path, kind: str, column: str | None) -> Iterator[Bytes]:
    """Yield the entries of a list (rows, bytes) in the order of the file."""
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        if path.name.lower().endswith(".gz"):
            stream = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=stream)))
        yield from _of_csv(path, stream, kind, column) if _is_csv(path) else _of_lines(path, stream, kind)


def _of_lines(path: Path, stream: IO[bytes], kind: str) -> Iterator[Bytes]:
    number, left = 1, b""
    while block := stream.read(_BLOCK_BYTES):
        if number == 1 and not left:
            block = _without_mark(block, path)
        whole, newline, rest = block.rpartition(b"\n")
        if not newline:
            left = _short(path, left + block, number, kind)
            continue
        whole, left = left + whole + newline, _short(path, rest, number, kind)
        yield _rows(path, whole, number, kind)
        number += whole.count(b"\n")
    if left:
        yield _rows(path, left + b"\n", number, kind)


def _without_mark(head: bytes, path: Path) -> bytes:
    try:
        return strict_rows.without_mark(head, path)
    except strict_rows.RowsError as error:
        raise ListError(str(error)) from None


def _short(path: Path, line: bytes, number: int, kind: str) -> bytes:
    """Return the start of a line; raise if it is too long, to bound memory on files that are no list."""
    if len(line) > 2 * _BLOCK_BYTES:
        raise _refused(path, number, kind)
    return line


def _rows(path: Path, lines: bytes, number: int, kind: str) -> Bytes:
    """Parse complete lines: all at once if each has just an entry, else one by one."""
    digits = 2 * WIDTHS[kind]
    for end in (b"\n", b"\r\n"):
        length = digits + len(end)
        if len(lines) % length == 0:
            table = np.frombuffer(lines, np.uint8).reshape(-1, length)
            values = _NIBBLE[table[:, :digits]]
            if (table[:, digits:] == np.frombuffer(end, np.uint8)).all() and (values < 16).all():
                return values[:, ::2] * np.uint8(16) + values[:, 1::2]
    found = bytearray()
    for place, line in enumerate(lines.split(b"\n")[:-1], start=number):
        entry = line.partition(b"#")[0].strip()
        if entry:
            found += _entry(path, entry.decode("ascii", "replace"), place, kind)
    return np.frombuffer(bytes(found), np.uint8).reshape(-1, WIDTHS[kind])


def _of_csv(path: Path, stream: IO[bytes], kind: str, column: str | None) -> Iterator[Bytes]:
    try:
        header, rows = strict_rows.table(stream, path)
        wanted = column or (kind if kind in header else header[0] if len(header) == 1 else kind)
        if any(_is_entry(name, kind) for name in header):
            raise ListError(
                f"{path}:1: an entry where the header should be. Remedy: a first line that names the columns"
            )
        if wanted not in header:
            message = f"{path}:1: no column {wanted}. Remedy: `column` of the list in catalog.lists names it"
            raise ListError(message)
        place = header.index(wanted)
        while some := [(number, values[place].strip()) for number, values in islice(rows, _ROWS)]:
            yield _entries(path, some, kind)
    except strict_rows.RowsError as error:
        raise ListError(str(error)) from None


def _entries(path: Path, some: Sequence[tuple[int, str]], kind: str) -> Bytes:
    """Parse (line number, entry) of a CSV: all at once if all are valid, else one by one."""
    texts = [text for _, text in some]
    try:
        found = bytes.fromhex("".join(texts)) if {len(text) for text in texts} == {2 * WIDTHS[kind]} else b""
    except ValueError:
        found = b""
    # bytes.fromhex skips blanks inside an entry, which gives fewer bytes.
    if len(found) != len(texts) * WIDTHS[kind]:
        found = b"".join(_entry(path, text, number, kind) for number, text in some)
    return np.frombuffer(found, np.uint8).reshape(-1, WIDTHS[kind])


def _is_entry(text: str, kind: str) -> bool:
    return len(text) == 2 * WIDTHS[kind] and set(text.lower()) <= set("0123456789abcdef")


def _entry(path: Path, text: str, number: int, kind: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        # From None: Python's error shows a part of the entry.
        raise _refused(path, number, kind) from None
    if len(value) != WIDTHS[kind] or len(text) != 2 * WIDTHS[kind]:
        raise _refused(path, number, kind)
    return value


def _refused(path: Path, number: int, kind: str) -> ListError:
    digits = 2 * WIDTHS[kind]
    return ListError(f"{path}:{number}: no {kind} in hex. Remedy: {digits} hex digits per line, # before a comment")


def about(lists: Iterable[Index]) -> dict[str, dict[str, Any]]:
    """Return the public facts of each list by name, for metrics, manifest and MLflow."""
    return {entry.name: entry.about() for entry in lists}
