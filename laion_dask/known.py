"""Hashes of bytes, pictures and addresses in, the names of the lists of known content that have them out.

An index is made by `lists`. Each process opens sorted arrays with mmap, so that workers share their pages; hashes of
pictures, which look-ups touch everywhere, are read. Answers are exact.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

BANDS: Final = 16
"""Bands of a PDQ, 16 bits each."""

LISTED_HASH: Final = "listed_hash"
LISTED_ADDRESS: Final = "listed_address"
LISTED: Final = frozenset({LISTED_HASH, LISTED_ADDRESS})
"""Reasons of a download whose row says nothing but which list it was: see `blank`."""

_KEPT: Final = frozenset(
    {"key", "uid", "split", "language", "status", "error_message", "reason", "attempts", "round", "rights"}
)
_NULL: Final = frozenset({"md5", "sha1", "sha256", "pdq", "format", "server_date", "rights_time"})
_ZERO: Final = frozenset({"bytes", "http_status"})

_TOLD: Final = "known content, list "
_BITS: Final = 16
_URL_KINDS: Final = {"url_md5": "md5", "url_sha1": "sha1"}
_BODY_KINDS: Final = ("md5", "sha1", "sha256")

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Index:
    """One list of known content, compiled: where its arrays lie and how they are compared."""

    name: str
    kind: str
    sha256: str
    """Of the list's file."""
    entries: int
    folder: Path
    distance: int = 0
    quality: int = 0

    @property
    def of_urls(self) -> bool:
        """Whether it is a list of addresses; others are of images."""
        return self.kind in _URL_KINDS

    def about(self) -> dict[str, Any]:
        """Return what may be said of the list in public: kind, digest of its file, entries, and distance of PDQ."""
        said: dict[str, Any] = {"kind": self.kind, "sha256": self.sha256, "entries": self.entries}
        return said | ({"distance": self.distance, "quality": self.quality} if self.kind == "pdq" else {})

    def find(self, values: Bytes) -> Bools:
        """Return for each of `values` (rows, bytes of the kind) whether the list has it (rows,)."""
        if not len(values) or not self.entries:
            return np.zeros(len(values), bool)
        if self.kind == "pdq":
            return np.array([_near(self.folder, self.entries, row, self.distance) for row in values], bool)
        return _equal(self.folder, values)


# Exact: sorted arrays


@lru_cache(maxsize=64)
def _opened(folder: Path, name: str, kind: str, columns: int) -> npt.NDArray[Any]:
    return np.memmap(folder / f"{name}.bin", kind, "r").reshape(-1, columns)


def _equal(folder: Path, values: Bytes) -> Bools:
    """Look values up by their first 8 bytes, and compare the others wherever those occur."""
    keys = _opened(folder, "keys", "<u8", 1)[:, 0]
    rest = _opened(folder, "rest", "u1", values.shape[1] - 8)
    words = np.ascontiguousarray(values[:, :8]).view(">u8").ravel().astype(np.uint64)
    found = np.zeros(len(values), bool)
    # In order: neighbours touch the same pages.
    rows = np.argsort(words)
    places = np.searchsorted(keys, words[rows])
    while len(rows):
        inside = places < len(keys)
        rows, places = rows[inside], places[inside]
        same = keys[places] == words[rows]
        rows, places = rows[same], places[same]
        hit = (rest[places] == values[rows, 8:]).all(axis=1)
        found[rows[hit]] = True
        rows, places = rows[~hit], places[~hit] + 1
    return found


# Near: multi-index hashing (Norouzi, Punjani, Fleet 2012, arXiv 1307.2982) round a ring of bands (see `pdq_index`). Of
# two hashes at most d bits apart, some band has at most d // 16 of them, with the next one at most 2 d // 16, and with
# the one after that at most 3 d // 16. Files are read, not mapped: what is touched everywhere would count as memory.


def _near(folder: Path, entries: int, value: Bytes, distance: int) -> bool:
    """Whether an entry is at most `distance` bits from `value`: every one that may be is compared."""
    wanted = np.ascontiguousarray(value).view("<u8")
    words = np.ascontiguousarray(value).view("<u2")
    starts = _opened(folder, "starts", "<i8", (1 << _BITS) + 1)
    flips, spent = _flips(distance // BANDS)
    for band, word in enumerate(words.tolist()):
        buckets = word ^ flips
        begins = starts[band, buckets]
        sizes = starts[band, buckets + 1] - begins
        places = begins + band * entries
        pieces = zip(places.tolist(), sizes.tolist(), strict=True)
        nexts = b"".join(_read(folder, "nexts", 4, place, size) for place, size in pieces if size)
        ahead = [words[(band + step) % BANDS] for step in (1, 2)]
        apart = np.bitwise_count(np.frombuffer(nexts, "<u2").reshape(-1, 2) ^ np.array(ahead, "<u2"))
        two = np.repeat(spent, sizes) + apart[:, 0]
        hits = np.flatnonzero((two <= 2 * distance // BANDS) & (two + apart[:, 1] <= 3 * distance // BANDS))
        if not hits.size:
            continue
        places = hits + np.repeat(places - (np.cumsum(sizes) - sizes), sizes)[hits]
        order = np.frombuffer(b"".join(_read(folder, "bands", 4, place, 1) for place in places.tolist()), "<u4")
        rows = np.frombuffer(b"".join(_read(folder, "rows", 32, row, 1) for row in order.tolist()), "<u8")
        if (np.bitwise_count(rows.reshape(-1, 4) ^ wanted).sum(axis=1) <= distance).any():
            return True
    return False


class _File:
    """A file that is open for as long as somebody has it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


@lru_cache(maxsize=64)
def _file(folder: Path, name: str) -> _File:
    return _File(folder / f"{name}.bin")


def _read(folder: Path, name: str, width: int, first: int, count: int) -> bytes:
    """Read `count` values of `width` bytes, from the value `first` on."""
    return os.pread(_file(folder, name).number, width * count, width * first)


@cache
def _flips(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return every number of 16 bits of which at most `radius` are set, and how many are."""
    some = [bits for size in range(radius + 1) for bits in combinations(range(_BITS), size)]
    numbers = np.array([sum(1 << bit for bit in bits) for bits in some], np.int64)
    return numbers, np.array([len(bits) for bits in some], np.uint8)


# What is looked up


def of_body(lists: Sequence[Index], body: bytes) -> tuple[str, ...]:
    """Name the lists that have the md5, sha1 or sha256 of a body."""
    return tuple(
        entry.name for entry in lists if entry.kind in _BODY_KINDS and entry.find(_digests(entry.kind, [body]))[0]
    )


def of_picture(lists: Sequence[Index], pdq: str | None, quality: int | None) -> tuple[str, ...]:
    """Name the lists that have a picture near this PDQ (64 hex digits); one below a list's quality is not compared."""
    if pdq is None or quality is None:
        return ()
    value = np.frombuffer(bytes.fromhex(pdq), np.uint8)[None]
    return tuple(
        entry.name for entry in lists if entry.kind == "pdq" and quality >= entry.quality and entry.find(value)[0]
    )


def of_urls(lists: Sequence[Index], urls: Sequence[str]) -> dict[str, Bools]:
    """Return for each list of addresses which of `urls` it has in one of their forms (`url_forms`)."""
    found = {entry.name: np.zeros(len(urls), bool) for entry in lists if entry.kind in _URL_KINDS}
    if not found or not len(urls):
        return found
    forms = [(row, form.encode(errors="surrogatepass")) for row, url in enumerate(urls) for form in url_forms(url)]
    rows = np.array([row for row, _ in forms])
    for digest in sorted({_URL_KINDS[entry.kind] for entry in lists if entry.kind in _URL_KINDS}):
        values = _digests(digest, [form for _, form in forms])
        for entry in lists:
            if _URL_KINDS.get(entry.kind) == digest:
                found[entry.name][rows[entry.find(values)]] = True
    return found


def url_forms(url: str) -> list[str]:
    """Return the forms in which a list may have an address: http and https, with and without fragment."""
    scheme, separator, rest = url.partition("://")
    other = {"http": "https", "https": "http"}.get(scheme)
    schemes = [scheme, other] if other else [scheme]
    rests = [rest, rest.partition("#")[0]] if "#" in rest else [rest]
    return [f"{one}{separator}{end}" for one in schemes for end in rests]


def of_rows(lists: Sequence[Index], images: pa.Table) -> dict[str, Bools]:
    """Return for each list of images which rows it has; `images` has the columns of `columns(lists)`."""
    found = {}
    for entry in lists:
        if entry.kind in _URL_KINDS:
            continue
        texts = images[entry.kind]
        asked = pc.is_valid(texts)
        if entry.kind == "pdq":
            asked = pc.and_(asked, pc.fill_null(pc.greater_equal(images["pdq_quality"], entry.quality), False))
        rows = np.flatnonzero(asked.to_numpy())
        values = bytes.fromhex("".join(texts.filter(asked).to_pylist()))
        mask = np.zeros(images.num_rows, bool)
        if len(rows):
            mask[rows] = entry.find(np.frombuffer(values, np.uint8).reshape(len(rows), -1))
        found[entry.name] = mask
    return found


def columns(lists: Sequence[Index]) -> list[str]:
    """Name the columns of a shard's images table that `of_rows` reads."""
    kinds = {entry.kind for entry in lists} - _URL_KINDS.keys()
    return sorted(kinds | ({"pdq_quality"} if "pdq" in kinds else set()))


def any_of(found: Mapping[str, Bools], rows: int) -> Bools:
    """Return which rows at least one list has."""
    named: Bools = np.any([np.zeros(rows, bool), *found.values()], axis=0)
    return named


def count(found: Mapping[str, Bools], which: Bools) -> dict[str, int]:
    """Count by list the rows that it has, among `which`."""
    return {name: int((mask & which).sum()) for name, mask in found.items()}


def total(lists: Iterable[Index], counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by list; a list without a match has 0."""
    sums = Counter({entry.name: 0 for entry in lists})
    for found in counts:
        sums.update(found)
    return dict(sums)


def _digests(kind: str, contents: Sequence[bytes]) -> Bytes:
    joined = b"".join(hashlib.new(kind, content, usedforsecurity=False).digest() for content in contents)
    return np.frombuffer(joined, np.uint8).reshape(len(contents), -1)


# What is left of a listed row


def told(names: Sequence[str]) -> str:
    """Return the message of a row that lists have: their names, nothing of the row."""
    return _TOLD + ", ".join(names)


def names(message: str | None) -> list[str]:
    """Return the names in a message that `told` made."""
    return (message or "").removeprefix(_TOLD).split(", ") if (message or "").startswith(_TOLD) else []


def blank(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of a listed pair with its uid, how it ended and for which list, and nothing that leads to the image.

    Address, text, page and place in the crawl are empty, digests and numbers null, the size of the body 0.
    """
    return {name: value if name in _KEPT else _blank(name, value) for name, value in row.items()}


def _blank(name: str, value: object) -> str | int | None:
    if name in _ZERO:
        return 0
    return "" if isinstance(value, str) and name not in _NULL else None
