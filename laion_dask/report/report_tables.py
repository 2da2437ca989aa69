"""Write the report's numbers as CSV tables for a spreadsheet, a script, MLflow's page or DVC's plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from laion_dask import params
from laion_dask.statistics.rate_queries import NO_LANGUAGE
from laion_dask.statistics.rates import Point
from laion_dask.statistics.summary import PERCENTILES, FunnelStep, Histogram, Statistics
from laion_dask.statistics.truth import DecisionScore
from laion_dask.storage import sheets


def write(
    folder: Path,
    steps: Sequence[FunnelStep],
    numbers: Statistics,
    decisions: Sequence[DecisionScore],
    sweeps: Sequence[Point],
    settings: params.Params,
) -> list[Path]:
    """Write funnel, kept, safety, similarity, sweeps, truth, languages, hosts and sizes as `<name>.csv`.

    Shares have six digits; one without a denominator is empty. Without truth labels there is no truth.csv. dvc.yaml
    names the columns of funnel, similarity, safety and sweeps that DVC draws, and .dvc/plots uses the others.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, tuple[list[str], Iterable[Sequence[Any]]]] = {
        "funnel": (["stage", "rows", "reason", "count", "share of seen"], _funnel(steps)),
        "kept": (
            ["split", "attempts", "downloaded", "scored", "kept"],
            [(row.split, row.attempts, row.downloaded, row.scored, row.kept) for row in numbers.splits],
        ),
        "safety": (
            ["rate", "split", "count", "of", "share", "low", "high"],
            [(row.name, row.split, row.count, row.total, row.rate, row.low, row.high) for row in numbers.safety],
        ),
        "similarity": (["split", "threshold", "from", "to", "kept", "dropped"], _histograms(numbers.similarity)),
        "sweeps": (
            ["score", "split", "threshold", "count", "of", "share", "low", "high", "chosen"],
            [_point(point, settings) for point in sweeps],
        ),
        "languages": (
            ["language", "scored", "kept"],
            [(r.language or NO_LANGUAGE, r.scored, r.kept) for r in numbers.languages],
        ),
        "hosts": (
            ["host", "attempts", "downloaded", "success", "kept"],
            [(row.host, row.attempts, row.downloaded, row.success, row.kept) for row in numbers.hosts],
        ),
        "sizes": (
            ["measure", "unit", "split", "pairs", *(f"{level} %" for level in PERCENTILES)],
            [(row.measure, row.unit, row.split, row.pairs, *row.percentiles) for row in numbers.sizes],
        ),
    }
    if decisions:
        columns = ["decision", "stage", "judged", "right", "false", "missed", "precision", "recall"]
        tables["truth"] = (columns, [_decision(decision) for decision in decisions])
    return [
        sheets.write(folder / f"{name}.csv", columns, map(_rounded, rows)) for name, (columns, rows) in tables.items()
    ]


def _funnel(steps: Sequence[FunnelStep]) -> Iterable[Sequence[Any]]:
    for step in steps:
        yield step.stage, step.ledger, "seen", step.seen, None
        for drop in step.dropped:
            yield step.stage, step.ledger, drop.reason, drop.count, drop.count / step.seen
        yield step.stage, step.ledger, "kept", step.kept, step.kept / step.seen if step.seen else None


def _histograms(histograms: Sequence[Histogram]) -> Iterable[Sequence[Any]]:
    for one in histograms:
        for edges, kept, dropped in zip(pairwise(one.edges), one.kept, one.dropped, strict=True):
            yield one.split, one.threshold, *edges, kept, dropped


def _point(point: Point, settings: params.Params) -> Sequence[Any]:
    """Return the row of a point of a sweep; its last cell is the version's own threshold, if it has one."""
    own = {
        "similarity": getattr(settings.filter.similarity, point.split, None),
        "punsafe": settings.filter.max_punsafe,
        "pwatermark": settings.filter.max_pwatermark,
    }
    share = (point.count, point.total, point.rate, point.low, point.high)
    return point.score, point.split, point.threshold, *share, own.get(point.score)


def _decision(row: DecisionScore) -> Sequence[Any]:
    counts = (row.judged, row.true_positives, row.false_positives, row.false_negatives)
    return row.name, row.stage, *counts, row.precision, row.recall


def _rounded(row: Sequence[Any]) -> list[Any]:
    return [round(value, 6) if isinstance(value, float) else value for value in row]
