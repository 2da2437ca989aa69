"""Find the lowest value of the top fraction of a column over all shards, by DataComp's rule, in bounded memory.

mlfoundations/datacomp, baselines/apply_filter.py: of n scores, highest first, the one at index int(n * fraction) is the
threshold, and scores of at least that are kept. So equal values are kept or dropped together, and one pair more than
the fraction is kept. With a fraction of 1 upstream raises IndexError; here all pairs are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

_BINS: Final = 1 << 16
_DIGITS: Final = (48, 32, 16, 0)
_SIGN: Final = np.uint64(1 << 63)
# Values that are sorted at once, 8 bytes each; more are narrowed down by radix counting first.
_AT_ONCE: Final = 4_000_000

Pieces = Callable[[], Iterable[np.ndarray]]
"""Yields the values (rows,) of one shard after another; called once for each pass. NaN is ignored."""


def count(pieces: Pieces) -> int:
    """Count the values that are not NaN."""
    return sum(int(np.count_nonzero(~np.isnan(values))) for values in pieces())


def cut(pieces: Pieces, fraction: float, total: int, *, at_once: int = _AT_ONCE) -> float:
    """Return the lowest kept value of the top fraction of `total` pairs; -inf if all are kept.

    `total` is the denominator of the fraction: the number of values, or the size of a larger pool that they come from.
    """
    return _nth(pieces, int(total * fraction), at_once)


def _nth(pieces: Pieces, place: int, at_once: int) -> float:
    """Return the value at an index, counted from the highest; -inf if there are fewer values."""
    prefix, known_from = np.uint64(0), 0
    for shift in _DIGITS:
        counts = np.zeros(_BINS, np.int64)
        for keys in map(_keys, pieces()):
            inside = keys[keys >> np.uint64(known_from) == prefix >> np.uint64(known_from)] if known_from else keys
            digits = (inside >> np.uint64(shift)).astype(np.int64) & (_BINS - 1)
            counts += np.bincount(digits, minlength=_BINS)
        above = counts[::-1].cumsum()[::-1]
        if place >= above[0]:
            return float("-inf")
        digit = int(np.flatnonzero(above > place)[-1])
        place -= int(above[digit] - counts[digit])
        prefix, known_from = prefix | np.uint64(digit << shift), shift
        if counts[digit] <= at_once or shift == 0:
            break
    in_bin = [keys[keys >> np.uint64(known_from) == prefix >> np.uint64(known_from)] for keys in map(_keys, pieces())]
    candidates = np.concatenate(in_bin)
    if known_from == 0:
        return float(_values(candidates[:1])[0])
    return float(_values(np.partition(candidates, len(candidates) - 1 - place)[[len(candidates) - 1 - place]])[0])


def _keys(values: np.ndarray) -> np.ndarray:
    """Return numbers, without NaN, as uint64 with the same order."""
    # + 0.0 turns -0.0 into 0.0; float64 represents float32 scores exactly.
    bits = (values[~np.isnan(values)].astype(np.float64) + 0.0).view(np.uint64)
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _values(keys: np.ndarray) -> np.ndarray:
    bits = np.where(keys & _SIGN, keys & ~_SIGN, ~keys)
    return np.asarray(bits.view(np.float64))
