"""Find all pairs of perceptual hashes within a Hamming distance without comparing all with all.

A hash of 256 bits is cut into 16 bands of 16. If two hashes are at most 31 bits apart, one band differs in at most one
bit (the pigeonhole principle), and such a band exists that, for every l, the sum over the l bands from there on around
the ring is at most l / 16 of the distance (the pigeonring principle: Qin and Xiao, PVLDB 12(1), 2018). So a hash is
compared only with those whose band is equal or one bit away, first on one word of 64 bits: four bands, at most 7 bits.
Each band is a task of its own, or several, by the upper bits of the band; the union over all of them is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from laion_dask.schema.values import PDQ_DISTANCE

BANDS: Final = 16
BAND_BITS: Final = 16
_WINDOW: Final = 4  # bands of the word that is compared first
_BATCH: Final = 1 << 18  # candidates at once, to fit the processor's cache
_ROW_BITS: Final = 29  # of a row in a sort key: 500 million hashes
_DISTANCE_BITS: Final = 5
_NUMBER_BITS: Final = 48  # of a hash's number in a sort key
_PAIRS: Final = 1 << 21  # pairs in memory before those are dropped that are not among the nearest
_COLUMNS: Final = ("left", "right", "distance")
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


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of all hashes, uint8 (rows, 32), and their numbers among all, int64 (rows,), rising and below 2 ** 48."""

    hashes: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest distance in bits, the pairs that each right hash keeps, and the members of a crowded bucket."""

    radius: int
    neighbours: int
    crowd: int


def unpack(hexes: list[str]) -> np.ndarray:
    """Return uint8 (rows, 32) of hashes of 64 hex digits each."""
    return np.frombuffer(bytes.fromhex("".join(hexes)), np.uint8).reshape(-1, 32)


def within(hashes: np.ndarray, radius: int, band: int, neighbours: int, *, crowd: int = CROWD) -> NearHashes:
    """Return the pairs of rows left < right of uint8 (rows, 32) that this band finds; several bands may find a pair.

    `radius` in bits, up to PDQ_DISTANCE. Each right row keeps its nearest `neighbours`, the first ones at ties. Apart
    from this limit and crowded buckets, all 16 bands together find every pair.
    """
    whole = Piece(hashes, np.arange(len(hashes)))
    limits = Limits(radius, neighbours, max(crowd, 8 * len(hashes) >> BAND_BITS))
    found = list(within_piece(whole, lambda _: whole, 0, 0, band, limits))
    left, right, distance = (np.concatenate([getattr(one, name) for one in found]) for name in _COLUMNS)
    return NearHashes(left, right, distance, found[0].crowded)


def crowd(hashes: int) -> int:
    """Return how many first members of a bucket are compared: CROWD, or eight times the mean of so many hashes."""
    return max(CROWD, 8 * hashes >> BAND_BITS)


def within_piece(
    mine: Piece, load: Callable[[int], Piece], piece: int, bits: int, band: int, limits: Limits
) -> Iterator[NearHashes]:
    """Yield those pairs of `within` for all hashes whose right hash is in one piece of a band, by their numbers.

    A piece has the hashes with one value in the upper `bits` of the band. `load` returns another piece: one after the
    other, those whose upper bits differ in one bit. Each block has all pairs of some right hashes, sorted; the first
    one has the number of crowded buckets.
    """
    side = _Side.of(mine.hashes, band)
    partners = {mask: int(mask) >> (BAND_BITS - bits) for mask in _masks(limits.radius)}
    key, crowded = _own_pairs(side, [mask for mask, other in partners.items() if not other], limits)
    found = [(key, mine.numbers)]
    for mask, other in partners.items():
        if other:
            there = load(piece ^ other)
            key, more = _cross_pairs(mine, side, there, mask, band, limits)
            # Only the numbers of hashes in pairs stay in memory.
            rows, place = np.unique(_left(key), return_inverse=True)
            found.append((key - _left(key) + place, there.numbers[rows]))
            crowded += more
    for keys in _blocks([key for key, _ in found]):
        left = np.concatenate([numbers[_left(key)] for key, (_, numbers) in zip(keys, found, strict=True)])
        key = np.concatenate(keys)
        right, distance = _right(key), _distance(key)
        order = np.lexsort((left, distance, right))
        order = order[_rank(right[order]) < limits.neighbours]
        yield NearHashes(left[order], mine.numbers[right[order]], distance[order], crowded)
        crowded = 0


def _blocks(keys: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Cut sorted keys of pairs into blocks with all pairs of some right rows each; at least one block."""
    low = [0] * len(keys)
    while True:
        rows = [
            int(_right(key[begin + _BATCH])) for key, begin in zip(keys, low, strict=True) if begin + _BATCH < len(key)
        ]
        if not rows:
            yield [key[begin:] for key, begin in zip(keys, low, strict=True)]
            return
        # At least the right row that each list has next, so that every block makes progress.
        first = min(int(_right(key[begin])) for key, begin in zip(keys, low, strict=True) if begin < len(key))
        limit = max(min(rows), first + 1) << (_ROW_BITS + _DISTANCE_BITS)
        high = [int(np.searchsorted(key, limit)) for key in keys]
        yield [key[begin:end] for key, begin, end in zip(keys, low, high, strict=True)]
        low = high


def _own_pairs(side: _Side, masks: list[np.uint16], limits: Limits) -> tuple[np.ndarray, int]:
    """Return the keys of the nearest pairs among the hashes of one piece, and the number of crowded buckets."""
    best, crowded = _Nearest(limits.neighbours), 0
    for mask in masks:
        partner = side.key ^ mask
        begin, end = side.starts[partner], side.starts[partner.astype(np.int64) + 1]
        begin = np.maximum(begin, np.arange(1, len(begin) + 1)) if mask == 0 else begin
        # Each pair of buckets is compared once, from the lower one.
        end = end if mask == 0 else np.where(partner > side.key, end, begin)
        # Of a crowded bucket only the first members are compared: with each other, and with a lower bucket.
        last = side.starts[partner] + limits.crowd
        crowded += int(np.unique(partner[end > last]).size)
        for left, right, distance in _compare(
            side, side, begin, np.maximum(begin, np.minimum(end, last)), limits.radius
        ):
            best.add(np.minimum(left, right), np.maximum(left, right), distance)
    return best.keys(), crowded


def _cross_pairs(
    mine: Piece, side: _Side, other: Piece, mask: np.uint16, band: int, limits: Limits
) -> tuple[np.ndarray, int]:
    """Return the keys of the nearest pairs of a hash of another piece and a later one of this.

    The last value is how many crowded buckets this piece has, seen from the other one. Each pair of buckets is compared
    from both sides, each time the pairs with their later hash there, so each pair of hashes once.
    """
    there = _Side.of(other.hashes, band)
    partner = side.key ^ mask
    begin = there.starts[partner]
    key = _number_key(there.key, other.numbers[there.order])
    earlier = np.searchsorted(key, _number_key(partner, mine.numbers[side.order])) - begin
    above = bool(len(partner)) and bool(partner[0] > side.key[0])
    crowded = 0
    if above:
        earlier = np.minimum(earlier, limits.crowd)
    else:
        # This bucket is the upper one of the two.
        earlier[np.arange(len(earlier)) - side.starts[side.key] >= limits.crowd] = 0
        large = np.flatnonzero(np.diff(side.starts) > limits.crowd)
        crowded = int((np.diff(there.starts)[large ^ int(mask)] > 0).sum())
    best = _Nearest(limits.neighbours)
    for right, left, distance in _compare(side, there, begin, begin + earlier, limits.radius):
        best.add(left, right, distance)
    return best.keys(), crowded


def _number_key(band: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return band.astype(np.uint64) << np.uint64(_NUMBER_BITS) | numbers.astype(np.uint64)


class _Nearest:
    """The nearest left rows of each right row among the pairs so far, as keys: right, distance and left row."""

    def __init__(self, neighbours: int) -> None:
        self._neighbours = neighbours
        self._keys: list[np.ndarray] = []
        self._size, self._limit = 0, _PAIRS

    def add(self, left: np.ndarray, right: np.ndarray, distance: np.ndarray) -> None:
        """Add pairs; at times those are dropped that cannot be among the nearest, to limit memory."""
        shifted = distance.astype(np.int64) << _ROW_BITS
        self._keys.append((right << (_ROW_BITS + _DISTANCE_BITS)) | shifted | left)
        self._size += len(left)
        if self._size > self._limit:
            self._limit = len(self.keys()) + _PAIRS

    def keys(self) -> np.ndarray:
        """Return the keys of the nearest pairs, sorted."""
        key = np.concatenate([np.zeros(0, np.int64), *self._keys])
        self._keys = []
        key.sort()
        nearest = np.ones(len(key), bool)
        # A pair is not among the nearest if one of the same right row stands so many places before.
        for low in range(self._neighbours, len(key), _BATCH):
            some = slice(low, low + _BATCH)
            before = key[low - self._neighbours : low - self._neighbours + _BATCH]
            nearest[some] = _right(key[some]) != _right(before[: len(key[some])])
        self._keys = [key[nearest]]
        self._size = len(self._keys[0])
        return self._keys[0]


def _right(key: np.ndarray) -> np.ndarray:
    return key >> (_ROW_BITS + _DISTANCE_BITS)


def _distance(key: np.ndarray) -> np.ndarray:
    return ((key >> _ROW_BITS) & ((1 << _DISTANCE_BITS) - 1)).astype(np.uint16)


def _left(key: np.ndarray) -> np.ndarray:
    return key & ((1 << _ROW_BITS) - 1)


def _rank(ordered: np.ndarray) -> np.ndarray:
    """Return the rank of each row among those with an equal value; `ordered` is sorted and has no negative value."""
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    return np.arange(len(ordered)) - np.repeat(first, np.diff(np.append(first, len(ordered))))


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
            for left, _, distance in _compare(side, other, begin, end, radius):
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
        counts = np.bincount(bands[:, band], minlength=1 << BAND_BITS)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return cls(order, bands[order, band], starts, window, np.ascontiguousarray(hashes).view(np.uint64))


def _masks(radius: int) -> list[np.uint16]:
    if not 0 <= radius <= PDQ_DISTANCE:
        message = f"a distance of {radius} bits is refused: the index is exact up to {PDQ_DISTANCE}. Remedy: 0 to that"
        raise ValueError(message)
    one_bit = [np.uint16(1 << bit) for bit in range(BAND_BITS)] if radius >= BANDS else []
    return [np.uint16(0), *one_bit]


def _compare(
    side: _Side, other: _Side, begin: np.ndarray, end: np.ndarray, radius: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Compare row i of one side with rows begin[i] to end[i] of the other; both in the order of the band.

    Yields rows of both sides and their distances.
    """
    counts = end - begin
    ends = np.cumsum(counts)
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
            yield rows[near], others[near], bits[near]
        low = high
