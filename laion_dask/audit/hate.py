"""The measures of published audits of captions: hate content rate, by threshold, and its rise between two sets.

Hate content rate as its authors define it (arXiv 2311.03449, code vinayprabhu/hate_scaling 9ac7b88): 100,000 captions
of each file, drawn without replacement with seed 42; the share whose score is above 0.5, for each kind and for any of
them. The interval does not include the detector's own errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from laion_dask.statistics.intervals import Share

CAPTIONS_A_FILE: Final = 100_000
SEED: Final = 42
THRESHOLD: Final = 0.5
THRESHOLDS: Final = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
ANY: Final = "any"


@dataclass(frozen=True, slots=True)
class ContentShare(Share):
    """The share of the captions in which a detector finds one kind of content, with a score above `threshold`."""

    kind: str
    threshold: float


def draws(rows: Sequence[int], each: int = CAPTIONS_A_FILE, seed: int = SEED) -> Iterator[np.ndarray]:
    """Yield the sorted rows of the captions to score in each file, int64; all rows of a smaller file.

    One generator for all files, in their order, like the authors' single `np.random.seed(42)`. Whether the same rows
    are drawn as in their study is unknown, since their shuffled tables are not published.
    """
    random = np.random.RandomState(seed)
    for number in rows:
        yield np.sort(random.choice(number, min(each, number), replace=False))


def share(kind: str, count: int, total: int, threshold: float = THRESHOLD) -> ContentShare:
    """Return a share with its interval; without captions the rate is None and the interval (0, 1)."""
    return ContentShare.of(count, total, kind=kind, threshold=threshold)


class Counts:
    """Counts of scores above each threshold, by kind and for any kind, in constant memory."""

    def __init__(self, kinds: Sequence[str], thresholds: Sequence[float] = THRESHOLDS) -> None:
        self.kinds, self.thresholds, self.total = (*kinds, ANY), tuple(thresholds), 0
        self._above = np.zeros((len(self.thresholds), len(self.kinds)), np.int64)

    def add(self, scores: np.ndarray) -> None:
        """Count float scores (captions, kinds)."""
        self.total += len(scores)
        for place, threshold in enumerate(self.thresholds):
            above = scores > threshold
            self._above[place] += [*above.sum(axis=0), int(above.any(axis=1).sum())]

    def shares(self, threshold: float = THRESHOLD) -> list[ContentShare]:
        """Return the share of each kind, then of any, above one of the thresholds."""
        above = self._above[self.thresholds.index(threshold)]
        return [share(kind, int(n), self.total, threshold) for kind, n in zip(self.kinds, above, strict=True)]


def rise(before: Share, after: Share) -> float:
    """Return the least relative rise of a rate: from the upper limit before to the lower limit after.

    The authors' "12 %" is this: (low of LAION-2B-en - high of LAION-400M) / high of LAION-400M.
    """
    return (after.low - before.high) / before.high
