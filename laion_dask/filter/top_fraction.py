"""Find the lowest value of the top fraction of a column over all shards, by DataComp's rule, in bounded memory.

mlfoundations/datacomp, baselines/apply_filter.py: of n scores, highest first, the one at place int(n * fraction) is the
threshold, and what is at least that is kept. So equal values stay or go together, and one pair more than the fraction
stays. Where the fraction is 1, upstream ends in an IndexError; here all stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

_BINS: Final = 1 << 16
_DIGITS: Final = (48, 32, 16, 0)
_SIGN: Final = np.uint64(1 << 63)
# Values that are sorted at once, 8 bytes each; more are narrowed down by counting first.
_AT_ONCE: Final = 4_000_000

Pieces = Callable[[], Iterable[np.ndarray]]
"""The values (rows,) of one shard after another; called once for each pass over them. NaN is passed over."""


def count(pieces: Pieces) -> int:
    """Return how many values are numbers."""
    return sum(int(np.count_nonzero(~np.isnan(values))) for values in pieces())


def cut(pieces: Pieces, fraction: float, total: int, *, at_once: int = _AT_ONCE) -> float:
    """Return the lowest value that stays of the top fraction of `total` pairs; -inf where all stay.

    `total` is what the fraction is of: the number of values, or of a larger pool from which they were taken.
    """
    # float32 holds the scores, float64 all of them exactly.
    return _nth(pieces, int(total * fraction), at_once)


def _nth(pieces: Pieces, place: int, at_once: int) -> float:
    """Return the value at a place from above, from 0; -inf where there are not so many."""
    prefix, known = np.uint64(0), 0
    for shift in _DIGITS:
        counts = np.zeros(_BINS, np.int64)
        for keys in map(_keys, pieces()):
            inside = keys[keys >> np.uint64(known) == prefix >> np.uint64(known)] if known else keys
            digits = (inside >> np.uint64(shift)).astype(np.int64) & (_BINS - 1)
            counts += np.bincount(digits, minlength=_BINS)
        above = counts[::-1].cumsum()[::-1]
        if place >= above[0]:
            return float("-inf")
        digit = int(np.flatnonzero(above > place)[-1])
        place -= int(above[digit] - counts[digit])
        prefix, known = prefix | np.uint64(digit << shift), shift
        if counts[digit] <= at_once or shift == 0:
            break
    found = [keys[keys >> np.uint64(known) == prefix >> np.uint64(known)] for keys in map(_keys, pieces())]
    candidates = np.concatenate(found)
    if known == 0:
        return float(_values(candidates[:1])[0])
    return float(_values(np.partition(candidates, len(candidates) - 1 - place)[[len(candidates) - 1 - place]])[0])


def _keys(values: np.ndarray) -> np.ndarray:
    """Return numbers as uint64 that sort like them; without those that are none."""
    # + 0.0 makes one zero out of two.
    bits = (values[~np.isnan(values)].astype(np.float64) + 0.0).view(np.uint64)
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN))


def _values(keys: np.ndarray) -> np.ndarray:
    bits = np.where(keys & _SIGN, keys & ~_SIGN, ~keys)
    return np.asarray(bits.view(np.float64))
