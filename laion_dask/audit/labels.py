"""Read and check the label files of volunteers: question, answer, labeler and time for each pair.

Labelers are not trusted: every value must be in a closed list or match a strict pattern, so that no other text of a
file reaches a page, a table or a terminal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from laion_dask.audit.audit_sample import AuditError, AuditSample
from laion_dask.audit.questions import ANSWERS
from laion_dask.storage import sheets, strict_rows

COLUMNS: Final = ("sample", "uid", "question", "answer", "labeler", "time")
# A browser's file has the labels of everyone who used it; with more than this it is not a label file of the sample.
_LABELERS_A_FILE: Final = 20
_FORMS: Final = {
    "labeler": (re.compile(r"[a-z0-9][a-z0-9-]{2,31}"), "a pseudonym of 3 to 32 lower-case letters, digits, hyphens"),
    "time": (re.compile(r"2\d{3}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ"), "a time in UTC, 2026-01-31T12:00:00Z"),
}
_SHOWN_CHARS: Final = 40


class LabelsError(AuditError):
    """A label file is not in the page's format; the message has file, line, value and remedy."""


@dataclass(frozen=True, slots=True, order=True)
class DataPoint:
    """One labeler's answer to one question about one pair."""

    uid: str
    question: str
    labeler: str
    answer: str
    time: str


def read(paths: Iterable[Path], sample: AuditSample) -> list[DataPoint]:
    """Read label files of a sample; of two answers of one labeler to one question the later counts.

    `LabelsError` refuses a file with other columns, a value outside of its list or pattern, another sample, a uid that
    was not drawn, or more rows than possible. Memory: one label for each pair, question and labeler.
    """
    uids = {pair.uid for pair in sample.drawn}
    lists: dict[str, Collection[str]] = {
        "sample": {sample.name},
        "uid": uids,
        "question": {question.name for question in sample.questions},
        "answer": ANSWERS,
    }
    most = len(uids) * len(sample.questions) * _LABELERS_A_FILE
    latest: dict[tuple[str, str, str], DataPoint] = {}
    for path in paths:
        for label in _rows(path, lists, most):
            key = (label.uid, label.question, label.labeler)
            if key not in latest or latest[key].time <= label.time:
                latest[key] = label
    return sorted(latest.values())


def _rows(path: Path, lists: Mapping[str, Collection[str]], most: int) -> Iterable[DataPoint]:
    try:
        with path.open("rb") as stream:
            header, lines = strict_rows.table(stream, path)
            if tuple(header) != COLUMNS:
                remedy = f"a file that the audit page saved, with the columns {','.join(COLUMNS)}"
                raise LabelsError(f"{path}: the first line is {_shown(','.join(header))}. Remedy: {remedy}")
            for rows, (number, values) in enumerate(lines, 1):
                if rows > most:
                    remedy = "a file for each labeler, as the page saves it"
                    raise LabelsError(f"{path} has more than the {most:,} labels that could be. Remedy: {remedy}")
                yield _label(f"{path}:{number}", values, lists)
    except strict_rows.RowsError as error:
        raise LabelsError(f"{error}; a label file is one that the audit page saved") from None
    except OSError as error:
        raise LabelsError(f"{path} cannot be read ({error}). Remedy: a file that the audit page saved") from error


def _label(where: str, values: list[str], lists: Mapping[str, Collection[str]]) -> DataPoint:
    row = dict(zip(COLUMNS, values, strict=True))
    for name, known in lists.items():
        if row[name] not in known:
            remedy = f"one of {', '.join(sorted(known))}" if name != "uid" else "one of the sample that was drawn"
            raise LabelsError(f"{where}: {name} is {_shown(row[name])}. Remedy: {remedy}")
    for name, (form, remedy) in _FORMS.items():
        if not form.fullmatch(row[name]) or (name == "time" and not _is_time(row[name])):
            raise LabelsError(f"{where}: {name} is {_shown(row[name])}. Remedy: {remedy}")
    return DataPoint(row["uid"], row["question"], row["labeler"], row["answer"], row["time"])


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _shown(value: str) -> str:
    # ascii() escapes control sequences of terminals and changes of writing direction.
    return ascii(value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…")


def write(path: Path, labels: Iterable[DataPoint], sample: AuditSample) -> int:
    """Write labels as one CSV with the columns of the page, sorted, and return their number."""
    rows = sorted(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = ([sample.name, one.uid, one.question, one.answer, one.labeler, one.time] for one in rows)
    sheets.write(path, COLUMNS, cells)
    return len(rows)


def verdicts(labels: Iterable[DataPoint]) -> dict[tuple[str, str], str]:
    """Return the majority of yes and no by (uid, question); `unsure` for a tie, or without either."""
    votes: dict[tuple[str, str], Counter[str]] = {}
    for label in labels:
        votes.setdefault((label.uid, label.question), Counter())[label.answer] += 1
    return {
        key: "unsure" if counts["yes"] == counts["no"] else "yes" if counts["yes"] > counts["no"] else "no"
        for key, counts in votes.items()
    }
