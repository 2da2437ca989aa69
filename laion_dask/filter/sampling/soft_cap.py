"""Draw a sample in which good pairs repeat, by FLYT's soft cap sampling (arXiv 2503.08805).

formll/FLYT, examples.ipynb, soft_cap_sampling: a batch is drawn without replacement with the softmax of the scores as
probabilities, the scores of the drawn pairs are lowered by a penalty, and so on until the sample has its size.

There NumPy's generator draws. Here the highest of score plus Gumbel noise are drawn, which has the same distribution
(Vieira, "Gumbel-max trick and weighted reservoir sampling", 2014), and the noise is a hash of seed, round and uid, so
that the order of the rows has no effect.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from laion_dask.filter.sampling.balance import mixed

_UINT64: Final = (1 << 64) - 1
_MIX: Final = 0x9E3779B97F4A7C15
_TWO_53: Final = 1 << 53


class SampleError(Exception):
    """A sample cannot be drawn; the message has the value and the remedy."""


def draw(
    uids: np.ndarray, scores: np.ndarray, *, size: int | None, batch: int, penalty: float, seed: int
) -> np.ndarray:
    """Return how often each pair is drawn: int64 (rows,), in all `size` times; None: as often as there are rows.

    `uids` (rows,) come from `uid_sets.halves` and differ, `scores` (rows,) are finite float64. Holds 50 bytes a row.
    Raises `SampleError` where a batch has more pairs than there are.
    """
    rows = len(uids)
    left = rows if size is None else size
    if not rows:
        return np.zeros(0, np.int64)
    if min(batch, left) > rows:
        message = f"filter.sample.batch = {batch:,}: {rows:,} pairs can be drawn, and a batch has each at most once"
        raise SampleError(f"{message}. Remedy: a batch of a thousandth of the pairs, or less")
    order = np.lexsort((uids["f1"], uids["f0"]))
    ordered, current = uids[order], scores[order].astype(np.float64)
    start = np.uint64((seed * _MIX) & _UINT64)
    base = mixed(mixed(ordered["f0"] ^ start) ^ ordered["f1"])
    times = np.zeros(rows, np.int64)
    number = 0
    while left:
        drawn = min(batch, left)
        noisy = current + _gumbel(base, number)
        chosen = np.argpartition(noisy, rows - drawn)[rows - drawn :]
        times[chosen] += 1
        current[chosen] -= penalty
        left -= drawn
        number += 1
    result = np.empty_like(times)
    result[order] = times
    return result


def _gumbel(base: np.ndarray, number: int) -> np.ndarray:
    """Return standard Gumbel noise of one round, float64 (rows,)."""
    bits = mixed(base ^ np.uint64(number)) >> np.uint64(11)
    return np.asarray(-np.log(-np.log((bits + 0.5) / _TWO_53)))
