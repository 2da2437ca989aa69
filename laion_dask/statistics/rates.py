"""Compute the rates of a version by split, language, domain class and host, each with its Wilson interval.

Also the effect of each threshold (sweeps), and the similarity filter's selection rates by language with their ratio to
a reference. Tables are read one shard at a time; only counts of the groups are kept.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from laion_dask import params
from laion_dask.schema.values import SPLITS
from laion_dask.statistics import intervals, rate_queries
from laion_dask.statistics.intervals import Share, names_first
from laion_dask.statistics.rate_queries import ALL, FACES, NO_LANGUAGE
from laion_dask.storage import attempts

FILE: Final = "rates.json"
SWEEPS: Final[dict[str, tuple[float, ...]]] = {
    "similarity": tuple(round(0.02 * step, 2) for step in range(46)),
    "aesthetic": tuple(0.5 * step for step in range(2, 20)),
    "punsafe": tuple(round(0.05 * step, 2) for step in range(1, 20)),
    "pwatermark": tuple(round(0.05 * step, 2) for step in range(1, 20)),
}
"""Thresholds by score: for the first two, pairs at or above one are counted; for the others, pairs above."""
FEW_PAIRS: Final = 20
"""Languages with fewer scored pairs share one row of the report: an interval of so few says hardly anything."""
_AT_LEAST: Final = frozenset({"similarity", "aesthetic"})
_BY: Final = ("split", "language", "domain_class", "host")
_HEADLINE: Final = ("personal_", "tag_", "laion400m_", FACES)


@dataclass(frozen=True, slots=True)
class GroupRate(Share):
    """The share of one group's pairs for which a measure holds; with `by` split, the group `all` is everything."""

    measure: str
    by: str
    group: str


@dataclass(frozen=True, slots=True)
class Point(Share):
    """The share of scored pairs of one split that pass a threshold."""

    score: str
    split: str
    threshold: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The share of scored pairs of one language that pass the similarity filter.

    `ratio` is this share divided by that of the language `reference`; its limits are None if infinite.
    """

    language: str
    count: int
    total: int
    rate: float | None
    low: float
    high: float
    reference: str
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """All rates of one version."""

    groups: tuple[GroupRate, ...]
    sweeps: tuple[Point, ...]
    selection: tuple[Selection, ...]

    def of(self, by: str, measure: str) -> list[GroupRate]:
        """Return the groups of one measure, in order."""
        return [one for one in self.groups if one.by == by and one.measure == measure]

    def folded_selection(self) -> list[Selection]:
        """Return the selection with all languages of fewer than `FEW_PAIRS` pairs as one row behind the others.

        The reference keeps its row, and so does a single such language.
        """
        few = [one for one in self.selection if one.total < FEW_PAIRS and one.language != one.reference]
        if len(few) < 2:
            return [*self.selection]
        base = next(one for one in self.selection if one.language == one.reference)
        count, total = (sum(getattr(one, key) for one in few) for key in ("count", "total"))
        others = selection_of(f"others, {len(few)} languages", (count, total), base.language, (base.count, base.total))
        return [*(one for one in self.selection if one not in few), others]


def write(
    out: Path,
    data: Path,
    settings: params.Params,
    hosts: Collection[str],
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> Rates:
    """Write rates.json into `out` and return its content; `hosts` are those with their own rates."""
    rates = collect(data, settings, hosts, metrics)
    text = json.dumps(asdict(rates, dict_factory=names_first), indent=1, ensure_ascii=False, allow_nan=False)
    (out / FILE).write_text(text + "\n", encoding="utf-8")
    return rates


def metrics(folder: Path) -> dict[str, float]:
    """Return the rates of splits and of the selection under stable names; {} if a report has none.

    `rates.<measure>.<split>.rate|low|high`, `selection.<language>.rate|low|high|ratio`.
    """
    if not (folder / FILE).is_file():
        return {}
    stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
    values = {
        f"rates.{one['measure']}.{one['group']}.{part}": one[part]
        for one in stored["groups"]
        if one["by"] == "split"
        for part in ("rate", "low", "high")
    }
    for one in stored["selection"]:
        values |= {f"selection.{one['language']}.{part}": one[part] for part in ("rate", "low", "high", "ratio")}
    return {name: value for name, value in values.items() if value is not None}


def collect(
    data: Path,
    settings: params.Params,
    hosts: Collection[str],
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> Rates:
    """Read the version's tables and count; `MissingStageError` if a table is missing.

    `metrics` are the counts of the stages, which include the links of pages that opt out.
    """
    tally = _Sweeps(settings)
    for shard in attempts.attempts(data, ("split", "language"), [*SWEEPS]):
        tally.add(shard.table)
    work = attempts.shard_files(data / "catalog" / "shards")
    counted = [
        *rate_queries.of_version(data, settings.filter, hosts=hosts, further=True),
        *([rate_queries.pages(data, metrics)] if metrics is not None else []),
        *rate_queries.of_tables(work, rate_queries.personal(), hosts),
    ]
    return Rates(groups(counted), *tally.finish())


def groups(counted: Sequence[rate_queries.Counted]) -> tuple[GroupRate, ...]:
    """Return counts as rates with their intervals, by measure, kind of group and size, in a fixed order."""
    measures = [*dict.fromkeys(one.measure for one in counted)]
    rates = [
        GroupRate.of(one.count, one.total, measure=one.measure, by=one.by, group=one.group)
        for one in counted
        if one.total
    ]
    rates.sort(key=lambda one: (measures.index(one.measure), _BY.index(one.by), -one.total, one.group))
    return tuple(rates)


class _Sweeps:
    """Counts of scores by threshold, and of pairs that pass the similarity filter by language."""

    def __init__(self, settings: params.Params) -> None:
        self._settings = settings
        self._passed: Counter[tuple[str, str, float]] = Counter()
        self._scored: Counter[tuple[str, str]] = Counter()
        self._selected: Counter[tuple[str, bool]] = Counter()

    def add(self, table: pa.Table) -> None:
        """Count one shard's scores against every threshold, and the pairs that the similarity filter selects."""
        split = np.asarray(table["split"].to_pylist(), object)
        downloaded = table["downloaded"].to_numpy()
        for name, thresholds in SWEEPS.items():
            score = table[name].to_numpy()
            # In the column's precision, as in the filter, so that a score of 0.3 is at least 0.3.
            levels = np.asarray(thresholds, score.dtype)
            for one in SPLITS:
                values = np.sort(score[downloaded & np.isfinite(score) & (split == one)])
                below = np.searchsorted(values, levels, side="left" if name in _AT_LEAST else "right")
                self._scored[name, one] += len(values)
                self._passed.update(
                    {(name, one, level): len(values) - int(n) for level, n in zip(thresholds, below, strict=True)}
                )
        similarity = table["similarity"].to_numpy()
        least = {one: getattr(self._settings.filter.similarity, one) for one in SPLITS}
        passes = similarity >= np.asarray([least[one] for one in split], similarity.dtype)
        scored = downloaded & np.isfinite(similarity)
        languages = [language or NO_LANGUAGE for language in table["language"].filter(pa.array(scored)).to_pylist()]
        self._selected.update(zip(languages, passes[scored].tolist(), strict=True))

    def finish(self) -> tuple[tuple[Point, ...], tuple[Selection, ...]]:
        """Return the sweeps and the selection in a fixed order."""
        sweeps = []
        for name, thresholds in SWEEPS.items():
            for split in (ALL, *SPLITS):
                parts = SPLITS if split == ALL else (split,)
                rows = sum(self._scored[name, part] for part in parts)
                for level in thresholds if rows else ():
                    passed = sum(self._passed[name, part, level] for part in parts)
                    sweeps.append(Point.of(passed, rows, score=name, split=split, threshold=level))
        return tuple(sweeps), tuple(self._selection())

    def _selection(self) -> list[Selection]:
        totals = Counter[str]()
        for (language, _), rows in self._selected.items():
            totals[language] += rows
        order = sorted(totals, key=lambda language: (-totals[language], language))
        if not order:
            return []
        reference = "en" if "en" in totals else order[0]
        base = (self._selected[reference, True], totals[reference])
        return [
            selection_of(language, (self._selected[language, True], totals[language]), reference, base)
            for language in order
        ]


def selection_of(language: str, counts: tuple[int, int], reference: str, base: tuple[int, int]) -> Selection:
    """Return the selection of a language by how many pairs pass of how many, compared with those of the reference."""
    share = Share.of(*counts)
    numbers = share.count, share.total, share.rate, share.low, share.high
    if language == reference:
        return Selection(language, *numbers, reference, 1.0, 1.0, 1.0)
    ratio = intervals.relative(*counts, *base)
    high = ratio.high if math.isfinite(ratio.high) else None
    return Selection(language, *numbers, reference, ratio.value, ratio.low, high)


def headline(rates: Rates) -> dict[str, dict[str, Any]]:
    """Return the rates over all pairs that `safety` lacks, and the selection by language, rounded to six digits."""
    whole: dict[str, Any] = {
        one.measure: {"count": one.count, "total": one.total, **_rounded(one)}
        for one in rates.groups
        if (one.by, one.group) == ("split", ALL) and one.measure.startswith(_HEADLINE)
    }
    selection: dict[str, Any] = {
        one.language: {**_rounded(one), **({} if one.ratio is None else {"ratio": round(one.ratio, 6)})}
        for one in rates.selection
    }
    return {"rates": whole, "selection": selection}


def _rounded(one: GroupRate | Selection) -> dict[str, float]:
    return {"rate": round(one.rate or 0.0, 6), "low": round(one.low, 6), "high": round(one.high, 6)}
