"""Summarise a version in numbers: funnel, histograms, languages, hosts, sizes, and safety rates with intervals.

Shards are read one at a time and only counts are kept, so that memory does not grow with the number of pairs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask import params
from laion_dask.schema.reasons import FUNNEL, KEEP, REASONS
from laion_dask.schema.values import SPLITS
from laion_dask.statistics import rate_queries
from laion_dask.statistics.intervals import Share, names_first
from laion_dask.storage import attempts as outcomes

PERCENTILES: Final = (5, 25, 50, 75, 95)
MEASURES: Final = ("width", "height", "text length")
SIMILARITY_RANGE: Final = (-0.2, 1.0)
AESTHETIC_RANGE: Final = (0.0, 10.0)
ALL: Final = rate_queries.ALL


@dataclass(frozen=True, slots=True)
class Drop:
    """Rows that ended at one stage for one reason."""

    reason: str
    count: int
    meaning: str


@dataclass(frozen=True, slots=True)
class FunnelStep:
    """One ledger of the funnel: seen = kept + all drops."""

    stage: str
    ledger: str
    seen: int
    kept: int
    dropped: tuple[Drop, ...]


@dataclass(frozen=True, slots=True)
class Split:
    """Pairs of one split that were requested, downloaded, scored and kept."""

    split: str
    attempts: int
    downloaded: int
    scored: int
    kept: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of scored pairs between `edges`, kept and dropped; values outside count in the first or last bin."""

    split: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Language:
    """Scored and kept pairs of one language; `language` is empty for texts in no language."""

    language: str
    scored: int
    kept: int


@dataclass(frozen=True, slots=True)
class Host:
    """Attempts, downloads and kept pairs of one image host."""

    host: str
    attempts: int
    downloaded: int
    success: float
    kept: int


@dataclass(frozen=True, slots=True)
class Rate(Share):
    """The share of a measure of `rate_queries.SAFETY` in one split, or in all."""

    name: str
    split: str


@dataclass(frozen=True, slots=True)
class Size:
    """The 5th, 25th, 50th, 75th and 95th percentile of one measure over the kept pairs of one split."""

    measure: str
    unit: str
    split: str
    pairs: int
    percentiles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Statistics:
    """All numbers of one version, except funnel and truth."""

    splits: tuple[Split, ...]
    similarity: tuple[Histogram, ...]
    aesthetic: Histogram
    aesthetic_levels: tuple[float, ...]
    languages: tuple[Language, ...]
    hosts: tuple[Host, ...]
    hosts_total: int
    safety: tuple[Rate, ...]
    sizes: tuple[Size, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self, dict_factory=names_first)


def funnel(metrics: Mapping[str, Mapping[str, Any]]) -> list[FunnelStep]:
    """Return the steps from image link to released pair from the stages' metrics, without missing stages."""
    steps = []
    for stage, ledger in FUNNEL:
        counts = metrics.get(stage, {}).get(ledger)
        if counts is None:
            continue
        meanings = {reason: meaning for reasons in REASONS.values() for reason, meaning in reasons.items()}
        drops = tuple(Drop(reason, int(rows), meanings[reason]) for reason, rows in counts["dropped"].items() if rows)
        steps.append(FunnelStep(stage, ledger, int(counts["seen"]), int(counts["kept"]), drops))
    return steps


def collect(data: Path, settings: params.Params, metrics: Mapping[str, Mapping[str, Any]]) -> Statistics:
    """Read the stages' tables once and return the numbers; `MissingStageError` if a table is missing.

    The safety rates are those of `rate_queries`, over all found pairs, also those that another rule dropped. Rates of
    kept pairs use LAION-5B's 0.5 and 0.8 instead of the version's limits, so that versions compare.
    """
    tally = _ReasonTally(settings)
    columns = ["split", "language", "host", "caption", "original_width", "original_height"]
    for shard in outcomes.attempts(data, columns, ["similarity", "aesthetic"]):
        tally.add(shard.table)
    counted = [*rate_queries.of_version(data, settings.filter, hosts=()), rate_queries.pages(data, metrics)]
    return tally.finish(safety(counted))


def safety(counted: Sequence[rate_queries.Counted]) -> tuple[Rate, ...]:
    """Return the measures of every version by split, in order; without rows a rate is None."""
    counts = {(one.measure, one.group): (one.count, one.total) for one in counted if one.by == "split"}
    return tuple(
        Rate.of(*counts.get((name, split), (0, 0)), name=name, split=split)
        for name in rate_queries.SAFETY
        for split in ((ALL,) if name == rate_queries.PAGES else (*SPLITS, ALL))
    )


class _ReasonTally:
    """Counts over shards; memory grows with hosts, languages and distinct sizes, not with pairs."""

    def __init__(self, settings: params.Params) -> None:
        self.settings = settings
        self.base: Counter[tuple[str, str]] = Counter()
        self.languages: Counter[tuple[str, str]] = Counter()
        self.hosts: Counter[tuple[str, str]] = Counter()
        self.sizes: dict[tuple[str, str], Counter[int]] = {}
        bins = settings.report.histogram_bins
        self.similarity_edges = np.linspace(*SIMILARITY_RANGE, bins + 1)
        self.aesthetic_edges = np.linspace(*AESTHETIC_RANGE, bins + 1)
        self.histograms: dict[tuple[str, bool], np.ndarray[Any, np.dtype[np.int64]]] = {
            (name, kept): np.zeros(bins, np.int64) for name in (*SPLITS, "aesthetic") for kept in (True, False)
        }

    def add(self, table: pa.Table) -> None:
        """Count one shard."""
        text = {name: np.asarray(table[name].to_pylist(), object) for name in ("split", "verdict", "language", "host")}
        kept = text["verdict"] == KEEP
        downloaded = table["downloaded"].to_numpy()
        similarity, aesthetic = (table[name].to_numpy() for name in ("similarity", "aesthetic"))
        scored = downloaded & np.isfinite(similarity)
        marks = {"attempts": np.ones(len(kept), bool), "downloaded": downloaded, "scored": scored, "kept": kept}
        sizes = {
            "width": table["original_width"].to_numpy(),
            "height": table["original_height"].to_numpy(),
            "text length": pc.utf8_length(table["caption"]).to_numpy(),
        }
        for split in SPLITS:
            inside = text["split"] == split
            self.base.update({(name, split): int((mark & inside).sum()) for name, mark in marks.items()})
            for measure, values in sizes.items():
                counts = self.sizes.setdefault((measure, split), Counter())
                counts.update(values[kept & inside].astype(int).tolist())
            for keep in (True, False):
                rows = scored & inside & (kept == keep)
                self.histograms[split, keep] += _histogram(similarity[rows], self.similarity_edges)
        for keep in (True, False):
            rows = downloaded & np.isfinite(aesthetic) & (kept == keep)
            self.histograms["aesthetic", keep] += _histogram(aesthetic[rows], self.aesthetic_edges)
        for name, mark in (("attempts", marks["attempts"]), ("downloaded", downloaded), ("kept", kept)):
            self.hosts.update((name, host) for host in text["host"][mark])
        for name, mark in (("scored", scored), ("kept", kept)):
            self.languages.update((name, language or "") for language in text["language"][mark])

    def finish(self, safety: tuple[Rate, ...]) -> Statistics:
        """Return the numbers; ties in rankings are broken by name, so that the order is fixed."""
        for name in {name for name, split in self.base if split != ALL}:
            self.base[name, ALL] = sum(self.base[name, split] for split in SPLITS)
        splits = tuple(
            Split(split, *(self.base[name, split] for name in ("attempts", "downloaded", "scored", "kept")))
            for split in (*SPLITS, ALL)
        )
        similarity = tuple(
            self._counted(split, self.similarity_edges, getattr(self.settings.filter.similarity, split))
            for split in SPLITS
        )
        languages = sorted({language for _, language in self.languages})
        hosts = sorted({host for _, host in self.hosts}, key=lambda host: (-self.hosts["attempts", host], host))
        return Statistics(
            splits=splits,
            similarity=similarity,
            aesthetic=self._counted("aesthetic", self.aesthetic_edges),
            aesthetic_levels=self.settings.release.aesthetic,
            languages=tuple(
                sorted(
                    (
                        Language(code, self.languages["scored", code], self.languages["kept", code])
                        for code in languages
                    ),
                    key=lambda row: (-row.scored, row.language),
                )
            ),
            hosts=tuple(self._host(host) for host in hosts[: self.settings.report.top_hosts]),
            hosts_total=len(hosts),
            safety=safety,
            sizes=tuple(
                Size(measure, "characters" if measure == "text length" else "px", split, counts.total(), quantiles)
                for measure in MEASURES
                for split in SPLITS
                if (counts := self.sizes.get((measure, split))) and (quantiles := percentiles(counts, PERCENTILES))
            ),
        )

    def _counted(
        self, name: str, edges: np.ndarray[Any, np.dtype[np.float64]], threshold: float | None = None
    ) -> Histogram:
        kept, dropped = (tuple(self.histograms[name, keep].tolist()) for keep in (True, False))
        # Rounded to 12 digits, for the same text on every machine.
        return Histogram(name, tuple(round(float(edge), 12) for edge in edges), kept, dropped, threshold)

    def _host(self, host: str) -> Host:
        tries, downloaded = self.hosts["attempts", host], self.hosts["downloaded", host]
        return Host(host, tries, downloaded, downloaded / tries, self.hosts["kept", host])


def percentiles(counts: Mapping[int, int], levels: Sequence[int]) -> tuple[int, ...]:
    """Return the smallest values that at least `levels` percent of the counted values do not exceed; () if none."""
    values = sorted(counts)
    running = np.cumsum([counts[value] for value in values])
    if not values:
        return ()
    ranks = [max(1, math.ceil(level * int(running[-1]) / 100)) for level in levels]
    return tuple(values[int(np.searchsorted(running, rank))] for rank in ranks)


def _histogram(
    values: np.ndarray[Any, np.dtype[np.float32]], edges: np.ndarray[Any, np.dtype[np.float64]]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].astype(np.int64)
