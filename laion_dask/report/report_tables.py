"""Write the report's numbers as CSV tables for a spreadsheet, a script or MLflow's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from laion_dask.statistics.summary import PERCENTILES, FunnelStep, Statistics
from laion_dask.statistics.truth import DecisionScore
from laion_dask.storage import sheets


def write(
    folder: Path, steps: Sequence[FunnelStep], numbers: Statistics, decisions: Sequence[DecisionScore]
) -> list[Path]:
    """Write funnel, kept, safety, truth, languages, hosts and sizes as `<name>.csv`; shares have six digits.

    A share without a denominator is empty. Without truth labels there is no truth.csv.
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
        "languages": (["language", "scored", "kept"], [(r.language, r.scored, r.kept) for r in numbers.languages]),
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


def _decision(row: DecisionScore) -> Sequence[Any]:
    counts = (row.judged, row.true_positives, row.false_positives, row.false_negatives)
    return row.name, row.stage, *counts, row.precision, row.recall


def _rounded(row: Sequence[Any]) -> list[Any]:
    return [round(value, 6) if isinstance(value, float) else value for value in row]
