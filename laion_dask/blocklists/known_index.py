"""Search the compiled arrays of a list of known content: digests exactly, PDQ hashes by distance.

Processes memory-map sorted arrays, so that workers share their pages; PDQ arrays, with random access, are read with
pread. Results are exact.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

BANDS: Final = 16
"""Bands of a PDQ, 16 bits each."""
URL_KINDS: Final = {"url_md5": "md5", "url_sha1": "sha1"}
"""Kinds of lists of addresses, with the digest of each."""

WIDTHS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "pdq": 32, "url_md5": 16, "url_sha1": 20}
"""Bytes of an entry by kind."""

_BITS: Final = 16

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Index:
    """A compiled list of known content: the folder of its arrays, and how they are compared."""

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
        return self.kind in URL_KINDS

    def about(self) -> dict[str, Any]:
        """Return the public facts of the list: kind, digest of its file, entries, and for PDQ distance and quality."""
        public: dict[str, Any] = {"kind": self.kind, "sha256": self.sha256, "entries": self.entries}
        return public | ({"distance": self.distance, "quality": self.quality} if self.kind == "pdq" else {})

    def find(self, values: Bytes) -> Bools:
        """Return a mask (rows,) of the `values` (rows, bytes of the kind) that the list contains."""
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
    """Look values up by their first 8 bytes, and compare the remaining ones at each match."""
    keys = _opened(folder, "keys", "<u8", 1)[:, 0]
    rest = _opened(folder, "rest", "u1", values.shape[1] - 8)
    words = np.ascontiguousarray(values[:, :8]).view(">u8").ravel().astype(np.uint64)
    found = np.zeros(len(values), bool)
    # Sorted, so that neighbouring values touch the same pages.
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


# Near: multi-index hashing (Norouzi, Punjani, Fleet 2012, arXiv 1307.2982) around a ring of bands (see `pdq_index`). If
# two hashes are at most d bits apart, some band differs in at most d // 16 bits, together with the next band in at most
# 2 d // 16, and with the one after that in at most 3 d // 16. Files are read, not mapped: randomly touched pages would
# count as the process's memory.


def _near(folder: Path, entries: int, value: Bytes, distance: int) -> bool:
    """Tell whether any entry is at most `distance` bits from `value`; compares all candidates."""
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
        next_words = [words[(band + step) % BANDS] for step in (1, 2)]
        bits = np.bitwise_count(np.frombuffer(nexts, "<u2").reshape(-1, 2) ^ np.array(next_words, "<u2"))
        two = np.repeat(spent, sizes) + bits[:, 0]
        hits = np.flatnonzero((two <= 2 * distance // BANDS) & (two + bits[:, 1] <= 3 * distance // BANDS))
        if not hits.size:
            continue
        places = hits + np.repeat(places - (np.cumsum(sizes) - sizes), sizes)[hits]
        order = np.frombuffer(b"".join(_read(folder, "bands", 4, place, 1) for place in places.tolist()), "<u4")
        rows = np.frombuffer(b"".join(_read(folder, "rows", 32, row, 1) for row in order.tolist()), "<u8")
        if (np.bitwise_count(rows.reshape(-1, 4) ^ wanted).sum(axis=1) <= distance).any():
            return True
    return False


class _File:
    """An open file, closed with the last reference to it."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.number)


@lru_cache(maxsize=64)
def _file(folder: Path, name: str) -> _File:
    return _File(folder / f"{name}.bin")


def _read(folder: Path, name: str, width: int, first: int, count: int) -> bytes:
    """Read `count` values of `width` bytes, starting at the value `first`."""
    return os.pread(_file(folder, name).number, width * count, width * first)


@cache
def _flips(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return all 16-bit numbers with at most `radius` bits set, and their numbers of set bits."""
    some = [bits for size in range(radius + 1) for bits in combinations(range(_BITS), size)]
    numbers = np.array([sum(1 << bit for bit in bits) for bits in some], np.int64)
    return numbers, np.array([len(bits) for bits in some], np.uint8)
