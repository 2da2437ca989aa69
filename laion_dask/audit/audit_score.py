"""Estimate precision and recall of every decision in a version from labels of a sample, with intervals.

A label represents the pairs of its stratum with the same decision; their number was counted when the sample was drawn.
Only the share of them that the decision is right about is estimated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask.audit import labels
from laion_dask.audit.agreement import Agreement, agreement
from laion_dask.audit.audit_sample import AuditError, AuditSample, Drawn
from laion_dask.audit.labels import DataPoint
from laion_dask.audit.questions import Question
from laion_dask.schema.reasons import KEEP
from laion_dask.statistics import intervals
from laion_dask.statistics.intervals import Estimate

TRUTH: Final = "demo-truth"


@dataclass(frozen=True, slots=True)
class Judged:
    """Estimates for one decision from labels, over the `pairs` that have a decision.

    `rate` is the share of these that the decision should fire for. `missed` is the number of pairs of the version that
    it should have fired for and did not, `wrong` the number that it wrongly fired for; both are estimates of counts.
    """

    decision: str
    question: str
    pairs: int
    fired: int
    labelled: int
    unsure: int
    rate: Estimate
    precision: Estimate
    recall: Estimate
    missed: Estimate
    wrong: Estimate


@dataclass(frozen=True, slots=True)
class AuditScore:
    """The result of scoring the labels of a sample."""

    sample: str
    by: str
    labels: int
    labelers: int
    decisions: tuple[Judged, ...]
    agreement: tuple[Agreement, ...]
    outside: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def score(sample: AuditSample, found: list[DataPoint], *, by: str = "labelers") -> AuditScore:
    """Judge every decision that a question asks about, and the kept pairs; `AuditError` without any label."""
    if not found:
        raise AuditError("there is no label. Remedy: save the CSV on the audit page and pass its path")
    answers = labels.verdicts(found)
    decisions = [_judge(sample, question, answers) for question in sample.questions]
    decisions.append(_kept(sample, answers))
    labelers = {label.labeler for label in found}
    agreed = agreement(found, [question.name for question in sample.questions]) if len(labelers) > 1 else []
    return AuditScore(sample.name, by, len(found), len(labelers), tuple(decisions), tuple(agreed), sample.outside)


def from_truth(sample: AuditSample, data: Path) -> list[DataPoint]:
    """Return the demo's truth labels as answers of one labeler; `AuditError` outside of the demo."""
    path = data / "crawl" / "truth.parquet"
    if not path.is_file():
        raise AuditError(f"{path} is missing: only the demo has truth labels. Remedy: label the sample on its page")
    columns = {question.name: question.truth for question in sample.questions if question.truth}
    available = pq.read_schema(path).names
    if unknown := sorted(set(columns.values()) - set(available)):
        message = f"truth: {', '.join(unknown)} is not a column of the labels. Remedy: one of {', '.join(available)}"
        raise AuditError(message)
    truths = {row["uid"]: row for row in pq.read_table(path, columns=["uid", *set(columns.values())]).to_pylist()}
    return [
        DataPoint(pair.uid, name, TRUTH, "yes" if truths[pair.uid][column] else "no", "2000-01-01T00:00:00Z")
        for pair in sample.drawn
        for name, column in columns.items()
        if pair.uid in truths
    ]


def _judge(sample: AuditSample, question: Question, answers: Mapping[tuple[str, str], str]) -> Judged:
    def actual(pair: Drawn) -> bool | None:
        answer = answers.get((pair.uid, question.name), "unsure")
        return None if answer == "unsure" else answer == question.fires

    sizes = {
        (reason, split, fired): pairs
        for (reason, split, name, fired), pairs in sample.cells.items()
        if name == question.name and fired is not None
    }
    answered = sum((pair.uid, question.name) in answers for pair in sample.drawn)
    rows = [(pair.stratum, pair.decided[question.name], actual(pair)) for pair in sample.drawn]
    return _judged(question.decision, question.name, sizes, rows, answered)


def _kept(sample: AuditSample, answers: Mapping[tuple[str, str], str]) -> Judged:
    """Judge the verdict `keep`, among kept pairs and those dropped for a reason that a question asks about."""
    reasons = {KEEP, *(question.decision for question in sample.questions)}

    def belongs(pair: Drawn) -> bool | None:
        given = [(answers.get((pair.uid, one.name), "unsure"), one.fires) for one in sample.questions]
        if any(answer == fires for answer, fires in given):
            return False
        return None if any(answer == "unsure" for answer, _ in given) else True

    sizes = {(*stratum, stratum[0] == KEEP): pairs for stratum, pairs in sample.sizes.items() if stratum[0] in reasons}
    drawn = [pair for pair in sample.drawn if pair.stratum[0] in reasons]
    given = sum(any((pair.uid, one.name) in answers for one in sample.questions) for pair in drawn)
    rows = [(pair.stratum, pair.stratum[0] == KEEP, belongs(pair)) for pair in drawn]
    return _judged(KEEP, "all of them", sizes, rows, given)


def _judged(
    decision: str,
    question: str,
    sizes: Mapping[tuple[str, str, bool], int],
    rows: Iterable[tuple[tuple[str, str], bool | None, bool | None]],
    given: int,
) -> Judged:
    drawn, positive = Counter[tuple[str, str, bool]](), Counter[tuple[str, str, bool]]()
    for stratum, fired, actual in rows:
        if fired is not None and actual is not None:
            drawn[*stratum, fired] += 1
            positive[*stratum, fired] += actual
    cells = {
        fired: [
            intervals.Stratum(pairs, drawn[cell], positive[cell])
            for cell, pairs in sorted(sizes.items())
            if cell[2] == fired
        ]
        for fired in (True, False)
    }
    taken = sum(cell.total for cell in cells[True])
    right, missed = intervals.total(cells[True]), intervals.total(cells[False])
    value = None if right.value is None else taken - right.value
    return Judged(
        decision,
        question,
        sum(sizes.values()),
        taken,
        drawn.total(),
        given - drawn.total(),
        intervals.share([*cells[True], *cells[False]]),
        intervals.share(cells[True]),
        intervals.part(right, missed),
        missed,
        Estimate(value, taken - right.high, taken - right.low),
    )
