"""Summarise the texts that models wrote: how many, how similar to their images, how often they beat the alt text.

Shards are read one at a time; similarities are counted in bins of 0.001, so that memory does not grow with the pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import SPLITS
from laion_dask.statistics.intervals import Share
from laion_dask.storage import numbered
from laion_dask.storage.uids import rows_of

ALL: Final = "all"
NAME: Final = "new_texts.json"
"""The numbers of a version, in its report's folder."""
DECILES: Final = (10, 20, 30, 40, 50, 60, 70, 80, 90)
_DIGITS: Final = 6
_BINS: Final = 2_000  # of a cosine, from -1 to 1
SHOWN: Final = 50
"""Bins of a histogram in a figure, over the range in which there are pairs."""


class Kind(NamedTuple):
    """The columns of a stage that writes texts."""

    text: str
    similarity: str
    what: str
    """The text in words."""


KINDS: Final[Mapping[str, Kind]] = {
    "translate": Kind("english", "english_similarity", "English text"),
    "caption": Kind("top_caption", "caption_similarity", "caption"),
}


@dataclass(frozen=True, slots=True)
class NewTexts:
    """The new texts of one stage in one split, or in all."""

    stage: str
    split: str
    pairs: int
    """Kept pairs of the split."""
    written: int
    """Those with a new text."""
    without: Mapping[str, int]
    """Those without, by reason."""
    wins: Share
    """Of those with both similarities, how many whose new text is more similar to the image than the alt text."""
    deciles: Mapping[str, tuple[float, ...]]
    """The 10th to 90th percentile of the similarities, of `alt` and `new`, to three digits; empty without any."""
    edges: tuple[float, ...]
    alt: tuple[int, ...]
    """Pairs by the similarity of the alt text, between the edges."""
    new: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


@dataclass(slots=True)
class _Counts:
    pairs: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    wins: int = 0
    compared: int = 0
    alt: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    new: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))


def collect(data: Path) -> list[NewTexts]:
    """Read the tables of translate and caption; an entry for each stage and split that has kept pairs, then for all.

    None for a stage that is switched off, whose folder is empty.
    """
    found = []
    for stage, kind in KINDS.items():
        counts: dict[str, _Counts] = {}
        for table in tables(data, stage):
            for split in (*SPLITS, ALL):
                rows = table if split == ALL else table.filter(pc.equal(table["split"], split))
                if rows.num_rows:
                    _add(counts.setdefault(split, _Counts()), rows, kind)
        found += [_summary(stage, split, counts[split]) for split in (*SPLITS, ALL) if split in counts]
    return found


def metrics(report: Path) -> dict[str, float]:
    """Return the headline of a report's folder as `texts.<stage>.<number>`."""
    numbers = headline(json.loads((report / NAME).read_text(encoding="utf-8")))
    return {f"texts.{stage}.{name}": value for stage, of in numbers.items() for name, value in of.items()}


def headline(numbers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return how many pairs have a new text, how often it wins, and the medians of both similarities, by stage.

    Takes the numbers as `NewTexts.as_dict`.
    """
    found: dict[str, dict[str, float]] = {}
    middle = DECILES.index(50)
    for one in numbers:
        if one["split"] != ALL:
            continue
        found[one["stage"]] = {"pairs": one["pairs"], "written": one["written"]}
        if one["wins"]["rate"] is not None:
            medians = {f"median_{kind}": values[middle] for kind, values in one["deciles"].items()}
            found[one["stage"]] |= {"more_similar": round(one["wins"]["rate"], _DIGITS), **medians}
    return found


def tables(data: Path, stage: str, columns: tuple[str, ...] = ()) -> Iterator[pa.Table]:
    """Yield the table of each shard of a stage, with `split` and other columns of the shard's images table."""
    for path in numbered.tables(data / stage):
        table = pq.read_table(path)
        images = pq.read_table(data / "download" / path.name, columns=[*dict.fromkeys(("uid", "split", *columns))])
        rows = rows_of(table["uid"], images)
        for name in dict.fromkeys(("split", *columns)):
            table = table.append_column(name, images[name].take(rows))
        yield table


def _add(counts: _Counts, rows: pa.Table, kind: Kind) -> None:
    counts.pairs += rows.num_rows
    counts.reasons.update(rows["reason"].to_pylist())
    alt, new = (np.asarray(rows[name].to_numpy(), np.float32) for name in ("similarity", kind.similarity))
    both = np.isfinite(alt) & np.isfinite(new)
    counts.compared += int(both.sum())
    counts.wins += int((new[both] > alt[both]).sum())
    counts.alt += _binned(alt[both])
    counts.new += _binned(new[both])


def _binned(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    places = np.floor((values.astype(np.float64) + 1) * (_BINS / 2)).astype(np.int64)
    return np.bincount(np.clip(places, 0, _BINS - 1), minlength=_BINS)


def _summary(stage: str, split: str, counts: _Counts) -> NewTexts:
    written = counts.reasons.pop(KEEP, 0)
    deciles = {"alt": _deciles(counts.alt), "new": _deciles(counts.new)} if counts.compared else {}
    edges, (alt, new) = _shown(counts.alt, counts.new)
    without = dict(sorted(counts.reasons.items()))
    wins = Share.of(counts.wins, counts.compared)
    return NewTexts(stage, split, counts.pairs, written, without, wins, deciles, edges, alt, new)


def _deciles(bins: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """Return the smallest similarities that so many percent of the pairs do not exceed, to the width of a bin."""
    reached = np.cumsum(bins)
    places = [int(np.searchsorted(reached, percent / 100 * reached[-1])) for percent in DECILES]
    return tuple(round((place + 0.5) / (_BINS / 2) - 1, 3) for place in places)


def _shown(*of: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[tuple[int, ...], ...]]:
    """Return the edges and counts of coarser bins over the range that has pairs."""
    used = np.flatnonzero(sum(of))
    if not len(used):
        return (), tuple(() for _ in of)
    width = max(1, -(-(int(used[-1]) + 1 - int(used[0])) // SHOWN))
    starts = np.arange(int(used[0]), int(used[-1]) + 1, width)
    edges = tuple(round(float(place) / (_BINS / 2) - 1, 3) for place in (*starts, starts[-1] + width))
    return edges, tuple(tuple(int(count) for count in np.add.reduceat(bins, starts)) for bins in of)
