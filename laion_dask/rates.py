"""Tables of a version in, rates by split, language, domain class and host out, each with its Wilson interval.

And what a threshold would do (sweeps), and whom the similarity filter excludes (selection rates by language, and their
ratio to a reference). Tables are read one shard at a time; only counts of the groups are kept.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import domains, intervals, outcomes, params
from laion_dask.face_schema import BOXES
from laion_dask.statistics import ALL, HOST_SIGNALS, wilson
from laion_dask.verdict import LISTED_IMAGES, REASONS

FILE: Final = "rates.json"
PERSONAL: Final = ("emails", "phones", "cards", "accounts", "ips")
SWEEPS: Final[dict[str, tuple[float, ...]]] = {
    "similarity": tuple(round(0.02 * step, 2) for step in range(46)),
    "aesthetic": tuple(0.5 * step for step in range(2, 20)),
    "punsafe": tuple(round(0.05 * step, 2) for step in range(1, 20)),
    "pwatermark": tuple(round(0.05 * step, 2) for step in range(1, 20)),
}
"""Thresholds by score: of the first two, pairs at or above one are counted; of the others, pairs above."""
FACES: Final = "faces"
"""Measure: images with at least one box of score.faces."""
_AT_LEAST: Final = frozenset({"similarity", "aesthetic"})
_BY: Final = ("split", "language", "domain_class", "host")
_HEADLINE: Final = ("personal_", "page_opt_out", "tag_", "laion400m_", FACES)
NO_LANGUAGE: Final = "none"

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Flags = dict[str, tuple[Mask, Mask]]
"""By measure: whom it applies to, and whom it holds for."""


@dataclass(frozen=True, slots=True)
class GroupRate:
    """How many of the `total` pairs of one group a measure holds for; by `split`, group `all` is everything."""

    measure: str
    by: str
    group: str
    count: int
    total: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """How many scored pairs of one split pass a threshold."""

    score: str
    split: str
    threshold: float
    count: int
    total: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The share of the scored pairs of one language that the similarity filter lets pass, and how it compares.

    `ratio` is that share over the one of the language `reference`; its limits are None where they are infinite.
    """

    language: str
    count: int
    total: int
    rate: float
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


def write(out: Path, data: Path, settings: params.Params, hosts: Collection[str]) -> Rates:
    """Write rates.json into `out` and return what is in it; `hosts` are those that get rates of their own."""
    found = collect(data, settings, hosts)
    text = json.dumps(asdict(found), indent=1, ensure_ascii=False, allow_nan=False)
    (out / FILE).write_text(text + "\n", encoding="utf-8")
    return found


def metrics(folder: Path) -> dict[str, float]:
    """Return the rates of splits and of the selection under stable names; {} where a report has none.

    `rates.<measure>.<split>.rate|low|high`, `selection.<language>.rate|low|high|ratio`.
    """
    if not (folder / FILE).is_file():
        return {}
    found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    values = {
        f"rates.{one['measure']}.{one['group']}.{part}": one[part]
        for one in found["groups"]
        if one["by"] == "split"
        for part in ("rate", "low", "high")
    }
    for one in found["selection"]:
        values |= {f"selection.{one['language']}.{part}": one[part] for part in ("rate", "low", "high", "ratio")}
    return {name: value for name, value in values.items() if value is not None}


def collect(data: Path, settings: params.Params, hosts: Collection[str]) -> Rates:
    """Read the version's tables and count; `MissingStageError` where a table is absent."""
    tally = _Tally(settings, frozenset(hosts))
    tags = _further_columns(data)
    images = ("split", "language", "host", "rights", "rights_signal", "page_signals")
    for shard in outcomes.attempts(data, images, [*SWEEPS, *tags]):
        tally.count(shard.table, _flags(shard.table, settings, tags))
        tally.sweep(shard.table)
    for table in _pairs(data):
        has = {name: table[name].to_numpy() > 0 for name in PERSONAL}
        everyone = np.ones(table.num_rows, bool)
        any_kind = np.logical_or.reduce([*has.values()])
        flags = {f"personal_{name}": (everyone, found) for name, found in has.items()}
        gone = np.zeros(table.num_rows, bool)
        tally.count(table, {**flags, "personal_any": (everyone, any_kind), "removed": (everyone, gone)})
    gone = _removed(data)
    everyone = np.ones(gone.num_rows, bool)
    tally.count(gone, {"removed": (everyone, everyone)})
    return tally.finish()


def _flags(table: pa.Table, settings: params.Params, tags: Collection[str]) -> Flags:
    rules = settings.filter
    downloaded = table["downloaded"].to_numpy()
    verdict = np.asarray(table["verdict"].to_pylist(), object)
    attempts = np.ones(table.num_rows, bool)
    found: Flags = {}
    for name, column, most in (
        ("unsafe", "punsafe", rules.max_punsafe),
        ("watermark", "pwatermark", rules.max_pwatermark),
    ):
        score = table[column].to_numpy()
        found[name] = (downloaded & np.isfinite(score), downloaded & (score > most))
    for name in tags:
        values = table[name]
        if name == BOXES.name:
            boxes = pc.fill_null(pc.list_value_length(values), -1).to_numpy()
            found[FACES] = (downloaded & (boxes >= 0), boxes > 0)
        elif pa.types.is_string(values.type):
            known = pc.is_valid(values).to_numpy()
            for tag in sorted({str(value) for value in pc.unique(values).to_pylist() if value}):
                found[f"{name}_{tag}"] = (known, pc.fill_null(pc.equal(values, tag), False).to_numpy())
        else:
            score = values.to_numpy()
            found[name] = (downloaded & np.isfinite(score), score > 0.5)
    for reason in REASONS["filter"]:
        found[f"dropped_{reason}"] = (downloaded, downloaded & (verdict == reason))
    # As in the statistics: of all images that were received, what a list knew before or after the download.
    listed = np.isin(verdict.astype(str), LISTED_IMAGES)
    found["listed"] = (downloaded | listed, listed)
    found["page_opt_out"] = (attempts, pc.not_equal(table["page_signals"], "").to_numpy())
    refused = pc.equal(table["rights"], "refused").to_numpy()
    signal = np.asarray(table["rights_signal"].to_pylist(), object)
    for name in HOST_SIGNALS:
        # What binds is the reason; what is only recorded stands in rights_signal.
        found[f"opt_out_{name}"] = (attempts, (verdict == name) | (refused & (signal == name)))
    found["opt_out_any"] = (attempts, np.logical_or.reduce([found[f"opt_out_{name}"][1] for name in HOST_SIGNALS]))
    return found


def _further_columns(data: Path) -> list[str]:
    files = outcomes.shard_files(data / "score")
    names = pq.read_schema(files[0]).names if files else []
    return [name for name in names if name in {"laion400m_nsfw", BOXES.name} or name.startswith("tag_")]


def _pairs(data: Path) -> Iterator[pa.Table]:
    for path in outcomes.shard_files(data / "catalog" / "shards"):
        yield pq.read_table(path, columns=["uid", "split", "language", "host", *PERSONAL])


def _removed(data: Path) -> pa.Table:
    """Return split, language and host of the pairs that a removal took out before download."""
    wanted = outcomes.removed(data)["uid"].combine_chunks()
    found: dict[str, dict[str, str]] = {}
    for path in sorted((data / "extract" / "pairs").glob("*.parquet")) if len(wanted) else ():
        table = pq.read_table(path, columns=["uid", "split", "language", "host"])
        for row in table.filter(pc.is_in(table["uid"], value_set=wanted)).to_pylist():
            found.setdefault(row["uid"], row)
    rows = [found[uid] for uid in sorted(found)]
    return pa.table(
        {name: pa.array([row[name] for row in rows], pa.string()) for name in ("split", "language", "host")}
    )


class _Tally:
    """Counts by measure, kind of group and group; grows with languages and the hosts asked for, not with pairs."""

    def __init__(self, settings: params.Params, hosts: frozenset[str]) -> None:
        self._settings, self._hosts = settings, hosts
        self._total: Counter[tuple[str, str, str]] = Counter()
        self._found: Counter[tuple[str, str, str]] = Counter()
        self._passed: Counter[tuple[str, str, float]] = Counter()
        self._scored: Counter[tuple[str, str]] = Counter()
        self._selected: Counter[tuple[str, bool]] = Counter()

    def count(self, table: pa.Table, flags: Flags) -> None:
        """Count one table with the columns split, language and host."""
        hosts = table["host"].to_pylist()
        groups = {
            "split": table["split"].to_pylist(),
            "language": [language or NO_LANGUAGE for language in table["language"].to_pylist()],
            "domain_class": [domains.domain_class(host) for host in hosts],
            "host": [host if host in self._hosts else "" for host in hosts],
        }
        for by, values in groups.items():
            names, places = np.unique(np.asarray(values, object).astype(str), return_inverse=True)
            for measure, (applies, holds) in flags.items():
                for counts, mask in ((self._total, applies), (self._found, applies & holds)):
                    rows = np.bincount(places[mask], minlength=len(names))
                    counts.update({(measure, by, str(name)): int(n) for name, n in zip(names, rows, strict=True) if n})

    def sweep(self, table: pa.Table) -> None:
        """Count one shard's scores against every threshold, and what the similarity filter selects."""
        split = np.asarray(table["split"].to_pylist(), object)
        downloaded = table["downloaded"].to_numpy()
        for name, thresholds in SWEEPS.items():
            score = table[name].to_numpy()
            # In the column's own precision, as in the filter: a score of 0.3 is at least 0.3.
            levels = np.asarray(thresholds, score.dtype)
            for one in outcomes.SPLITS:
                values = np.sort(score[downloaded & np.isfinite(score) & (split == one)])
                below = np.searchsorted(values, levels, side="left" if name in _AT_LEAST else "right")
                self._scored[name, one] += len(values)
                self._passed.update(
                    {(name, one, level): len(values) - int(n) for level, n in zip(thresholds, below, strict=True)}
                )
        similarity = table["similarity"].to_numpy()
        least = {one: getattr(self._settings.filter.similarity, one) for one in outcomes.SPLITS}
        passes = similarity >= np.asarray([least[one] for one in split], similarity.dtype)
        scored = downloaded & np.isfinite(similarity)
        languages = [language or NO_LANGUAGE for language in table["language"].filter(pa.array(scored)).to_pylist()]
        self._selected.update(zip(languages, passes[scored].tolist(), strict=True))

    def finish(self) -> Rates:
        """Return the rates in a fixed order."""
        for counts in (self._total, self._found):
            for (measure, by, _), rows in list(counts.items()):
                if by == "split":
                    counts[measure, by, ALL] += rows
        measures = [*dict.fromkeys(measure for measure, _, _ in self._total)]
        groups = [
            GroupRate(measure, by, group, self._found[key], rows, *_rate(self._found[key], rows))
            for key, rows in self._total.items()
            for measure, by, group in [key]
            if group
        ]
        groups.sort(key=lambda one: (measures.index(one.measure), _BY.index(one.by), -one.total, one.group))
        sweeps = []
        for name, thresholds in SWEEPS.items():
            for split in (ALL, *outcomes.SPLITS):
                parts = outcomes.SPLITS if split == ALL else (split,)
                rows = sum(self._scored[name, part] for part in parts)
                for level in thresholds if rows else ():
                    passed = sum(self._passed[name, part, level] for part in parts)
                    sweeps.append(Point(name, split, level, passed, rows, *_rate(passed, rows)))
        return Rates(tuple(groups), tuple(sweeps), tuple(self._selection()))

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
            Selection(
                language,
                passed,
                rows,
                *_rate(passed, rows),
                reference,
                *((1.0, 1.0, 1.0) if language == reference else _ratio(passed, rows, *base)),
            )
            for language in order
            for passed, rows in [(self._selected[language, True], totals[language])]
        ]


def _rate(found: int, rows: int) -> tuple[float, float, float]:
    return found / rows, *wilson(found, rows)


def _ratio(*counts: int) -> tuple[float | None, float | None, float | None]:
    found = intervals.relative(*counts)
    return found.value, found.low, found.high if math.isfinite(found.high) else None


def headline(found: Rates) -> dict[str, dict[str, Any]]:
    """Return what the report's `safety` has not, over all pairs, and the selection by language, to six digits."""
    whole: dict[str, Any] = {
        one.measure: {"count": one.count, "total": one.total, **_rounded(one)}
        for one in found.groups
        if (one.by, one.group) == ("split", ALL) and one.measure.startswith(_HEADLINE)
    }
    selection: dict[str, Any] = {
        one.language: {**_rounded(one), **({} if one.ratio is None else {"ratio": round(one.ratio, 6)})}
        for one in found.selection
    }
    return {"rates": whole, "selection": selection}


def _rounded(one: GroupRate | Selection) -> dict[str, float]:
    return {"rate": round(one.rate, 6), "low": round(one.low, 6), "high": round(one.high, 6)}
