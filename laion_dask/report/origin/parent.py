"""Read from Git and the traces where a version comes from, and how it differs from the version before it.

A version does not depend on this: the same files come out at another commit, at another time, and without Git.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from laion_dask.report import run_summary, stage_times, tracking
from laion_dask.report.origin import headline
from laion_dask.versions import identity

_BUILT_FROM: Final = ("laion_dask", "workflow", "dvc.yaml", "params.yaml", "removals.csv")


@dataclass(frozen=True, slots=True)
class Parent:
    """The version before a version in Git's history."""

    version: str
    commit: str
    date: str
    numbers: Mapping[str, float]
    """Those of metrics/summary.json."""
    parameters: Mapping[str, str]
    """By dotted name."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a version comes from; "" for what is not known."""

    commit: str
    date: str
    uncommitted: bool
    """Whether code or parameters differ from the commit."""
    experiment: str
    began: str
    ended: str
    numbers: Mapping[str, float]
    parameters: Mapping[str, str]
    parent: Parent | None

    def changes(self) -> list[run_summary.Change]:
        """Return the parameters that differ from those of the parent: name, value before, value now."""
        return run_summary.changes(self.parent.parameters, self.parameters) if self.parent else []


def read(lock: Path, metrics: Path, values: Mapping[str, Any], data: Path, counts: Mapping[str, Any]) -> Beginning:
    """Read the origin of the version in `lock`; `counts` are those of its stages, the report's among them."""
    origin = identity.Origin.here(lock)
    began, ended = _period(data, metrics)
    return Beginning(
        commit=origin.commit,
        date=origin.date(origin.commit),
        uncommitted=bool(origin.changed(*_BUILT_FROM)),
        experiment=origin.experiment,
        began=began,
        ended=ended,
        numbers=headline.choose(counts),
        parameters=tracking.flat_params(identity.tracked_params(lock) or values),
        parent=_parent(origin, identity.version(lock, metrics, values)),
    )


def _parent(origin: identity.Origin, version: str) -> Parent | None:
    commit, before = origin.before(version)
    if not commit:
        return None
    texts = {name: origin.file(commit, f"metrics/{name}.json") for name in (*identity.STAGES, "report")}
    counts = {name: json.loads(text) for name, text in texts.items() if text}
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "dvc.lock"
        lock.write_text(origin.file(commit, "dvc.lock"), encoding="utf-8")
        parameters = tracking.flat_params(identity.tracked_params(lock))
    return Parent(before, commit, origin.date(commit), headline.choose(counts), parameters)


def _period(data: Path, metrics: Path) -> tuple[str, str]:
    """Return when the first stage of the version began and the last one ended, "" where no stage has a trace."""
    traces = stage_times.read(data, metrics).ours
    if not traces:
        return "", ""
    began, ended = min(one.began for one in traces), max(one.ended for one in traces)
    return _minute(began), _minute(ended)


def _minute(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M}"
