"""Find all pairs of perceptual hashes within a Hamming distance without comparing all with all.

A hash of 256 bits is cut into 16 bands of 16. If two hashes are at most 31 bits apart, one band differs in at most one
bit (the pigeonhole principle), and such a band exists that, for every l, the sum over the l bands from there on around
the ring is at most l / 16 of the distance (the pigeonring principle: Qin and Xiao, PVLDB 12(1), 2018). So a hash is
compared only with those whose band is equal or one bit away, first on one word of 64 bits: four bands, at most 7 bits.
Each band is a task of its own; the union over all bands is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from laion_dask.schema.values import PDQ_DISTANCE

BANDS: Final = 16
_BITS: Final = 16
_WINDOW: Final = 4  # bands of the word that is compared first
_BATCH: Final = 1 << 18  # candidates at once, to fit the processor's cache
_ROW_BITS: Final = 29  # of a row's number in a sort key: 500 million hashes
_DISTANCE_BITS: Final = 5
CROWD: Final = 1024
"""At most this many first members of a bucket (or eight times the mean) are compared; a larger bucket is crowded."""


@dataclass(frozen=True, slots=True)
class NearHashes:
    """Pairs of rows within a distance: rows of both sides, the distances, and the number of truncated buckets."""

    left: np.ndarray
    """int64 (pairs,)."""
    right: np.ndarray
    """int64 (pairs,)."""
    distance: np.ndarray
    """uint16 (pairs,), bits."""
    crowded: int


def unpack(hexes: list[str]) -> np.ndarray:
    """Return uint8 (rows, 32) of hashes of 64 hex digits each."""
    return np.frombuffer(bytes.fromhex("".join(hexes)), np.uint8).reshape(-1, 32)


def within(hashes: np.ndarray, radius: int, band: int, neighbours: int, *, crowd: int = CROWD) -> NearHashes:
    """Return the pairs of rows left < right of uint8 (rows, 32) that this band finds; several bands may find a pair.

    `radius` in bits, up to PDQ_DISTANCE. Each right row keeps its nearest `neighbours`, the first ones at ties. Apart
    from this limit and crowded buckets, all 16 bands together find every pair.
    """
    side = _Side.of(hashes, band)
    crowd = max(crowd, 8 * len(hashes) >> _BITS)
    found, crowded = [], 0
    for mask in _masks(radius):
        partner = side.key ^ mask
        begin, end = side.starts[partner], side.starts[partner.astype(np.int64) + 1]
        begin = np.maximum(begin, np.arange(1, len(begin) + 1)) if mask == 0 else begin
        # Each pair of buckets is compared once, from the lower one.
        end = end if mask == 0 else np.where(partner > side.key, end, begin)
        # The first members of a crowded bucket are compared with all later ones, in it and in the other bucket.
        last = side.starts[partner] + crowd
        crowded += int(np.unique(partner[end > last]).size)
        found.append(_compare(side, side, begin, np.maximum(begin, np.minimum(end, last)), radius))
    left, right, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    return NearHashes(*_nearest(np.minimum(left, right), np.maximum(left, right), distance, neighbours), crowded)


def _nearest(
    left: np.ndarray, right: np.ndarray, distance: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the nearest `neighbours` left rows of each right row, sorted by right, distance and left."""
    key = (right << (_ROW_BITS + _DISTANCE_BITS)) | (distance.astype(np.int64) << _ROW_BITS) | left
    key.sort()
    right = key >> (_ROW_BITS + _DISTANCE_BITS)
    first = np.flatnonzero(np.diff(right, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))
    key = key[rank < neighbours]
    distance = (key >> _ROW_BITS) & ((1 << _DISTANCE_BITS) - 1)
    return key & ((1 << _ROW_BITS) - 1), key >> (_ROW_BITS + _DISTANCE_BITS), distance.astype(np.uint16)


def nearest(hashes: np.ndarray, others: np.ndarray, radius: int) -> np.ndarray:
    """Return the distance in bits of each row of uint8 (rows, 32) to the nearest of `others`: float32 (rows,).

    NaN where none is within `radius` (up to PDQ_DISTANCE).
    """
    best = np.full(len(hashes), 256, np.uint16)
    for band in range(BANDS if len(hashes) and len(others) else 0):
        side, other = _Side.of(hashes, band), _Side.of(others, band)
        for mask in _masks(radius):
            partner = side.key ^ mask
            begin, end = other.starts[partner], other.starts[partner.astype(np.int64) + 1]
            left, _, distance = _compare(side, other, begin, end, radius)
            np.minimum.at(best, left, distance)
    return np.where(best <= radius, best.astype(np.float32), np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class _Side:
    """Hashes sorted by one band, so that each bucket is contiguous."""

    order: np.ndarray
    key: np.ndarray
    starts: np.ndarray
    window: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray, band: int) -> _Side:
        bands = np.ascontiguousarray(hashes).view(np.uint16)
        order = np.argsort(bands[:, band], kind="stable")
        ring = [(band + step) % BANDS for step in range(_WINDOW)]
        window = np.ascontiguousarray(bands[order][:, ring]).view(np.uint64)[:, 0]
        counts = np.bincount(bands[:, band], minlength=1 << _BITS)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return cls(order, bands[order, band], starts, window, np.ascontiguousarray(hashes).view(np.uint64))


def _masks(radius: int) -> list[np.uint16]:
    if not 0 <= radius <= PDQ_DISTANCE:
        message = f"a distance of {radius} bits is refused: the index is exact up to {PDQ_DISTANCE}. Remedy: 0 to that"
        raise ValueError(message)
    one_bit = [np.uint16(1 << bit) for bit in range(_BITS)] if radius >= BANDS else []
    return [np.uint16(0), *one_bit]


def _compare(
    side: _Side, other: _Side, begin: np.ndarray, end: np.ndarray, radius: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare row i of one side with rows begin[i] to end[i] of the other; both in the order of the band."""
    counts = end - begin
    ends = np.cumsum(counts)
    found = []
    low = 0
    while low < len(counts):
        done = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, done + _BATCH, side="right")))
        batch = counts[low:high]
        offset = begin[low:high] - (ends[low:high] - batch - done)
        right = np.arange(ends[high - 1] - done) + np.repeat(offset, batch)
        window_bits = np.bitwise_count(np.repeat(side.window[low:high], batch) ^ other.window[right])
        hit = np.flatnonzero(window_bits <= _WINDOW * radius // BANDS)
        if hit.size:
            left = low + np.searchsorted(ends[low:high] - done, hit, side="right")
            rows, others = side.order[left], other.order[right[hit]]
            bits = np.bitwise_count(side.words[rows] ^ other.words[others]).sum(axis=1, dtype=np.uint16)
            near = bits <= radius
            found.append((rows[near], others[near], bits[near]))
        low = high
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint16)
    left, right, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    return left, right, distance
