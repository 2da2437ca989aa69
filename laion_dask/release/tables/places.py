"""Find where the files of each part begin and end in the sorted pairs, from the counts of ranges of uids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laion_dask import params
from laion_dask.release.tables import files
from laion_dask.release.tables.kinds import Kind
from laion_dask.schema.values import SPLITS


@dataclass(frozen=True, slots=True)
class Place:
    """Files of each table of a kind that follow each other: which of the sorted pairs of kind and split they have."""

    kind: str
    split: str
    number: int
    """Of the first file, in its name."""
    rows: int
    limit: int
    """Rows of every file but the last one."""
    first: int
    """Range of uids with their first pair."""
    last: int
    """Range of uids with their last pair."""
    skip: int
    """Pairs of the first range that stand in earlier files."""

    @property
    def name(self) -> str:
        """Return its name among the parts."""
        return f"{self.kind}-{self.split}-{self.number:05d}"


def places(
    kinds: Sequence[Kind], counts: npt.NDArray[np.int64], settings: params.Release, together: int
) -> Iterator[Place]:
    """Yield the files of every table; `counts` (kinds, splits, ranges) come from `runs.counts`.

    The first kind has every pair. Files with up to `together` pairs stand in one place, so that few ranges are read
    for two places.
    """
    for of_split, split in enumerate(SPLITS):
        limit = files.limit(int(counts[0, of_split].sum()), settings.rows_per_file)
        step = max(1, together // limit) * limit
        for of_kind, kind in enumerate(kinds):
            ends = counts[of_kind, of_split].cumsum()
            for start in range(0, int(ends[-1]), step):
                stop = min(start + step, int(ends[-1]))
                first, last = np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop, "left")
                skip = start - int(ends[first - 1] if first else 0)
                yield Place(kind.name, split, start // limit, stop - start, limit, int(first), int(last), skip)
