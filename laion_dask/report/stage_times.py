"""Add up the traces of the stages: how long each took, its processor time, its slowest part, its largest memory.

A trace belongs to a version only if it was written by the run that made the version's outs (`StageTrace.belongs_to`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laion_dask.runner import trace_file
from laion_dask.runner.trace_file import Row, StageTrace
from laion_dask.schema.traces import FAILED, UNMEASURED
from laion_dask.storage.durations import duration
from laion_dask.versions import identity

STAGES: Final = (*identity.STAGES, "report")
"""The stages that have parts, in the order in which they run."""

_HOUR_S: Final = 3600.0
_GB: Final = 1e9
_LEAST_HOURS: Final = 0.1
_SHORT_S: Final = 9.95


@dataclass(frozen=True, slots=True)
class StageTimes:
    """What the parts of one stage took."""

    stage: str
    seconds: float
    """Time of the last run of the stage, and the time in which the parts ran that it took over from earlier runs."""
    processor_seconds: float
    """Of all parts, on all workers."""
    parts: int
    """Finished ones."""
    failed: int
    unmeasured: int
    again: int
    """Parts that at least one worker had died in."""
    slowest: Row | None
    peak_bytes: int
    """Largest resident memory of a worker's process."""
    bytes: int
    """Of the files of all parts."""
    finished: bool
    """False where the last run of the stage has failed or was interrupted."""

    @property
    def processor_hours(self) -> float:
        """Processor time in hours."""
        return self.processor_seconds / _HOUR_S

    @classmethod
    def of(cls, trace: StageTrace) -> StageTimes:
        """Add up a trace."""
        measured = [row for row in trace.rows if row["seconds"] is not None]
        failed = sum(row["outcome"] == FAILED for row in trace.rows)
        earlier = [(row["started"], row["ended"]) for row in trace.earlier]
        return cls(
            stage=trace.stage,
            seconds=trace.ended - trace.began + covered(earlier),
            processor_seconds=sum(row["processor_seconds"] for row in measured),
            parts=len(trace.rows) - failed,
            failed=failed,
            unmeasured=sum(row["outcome"] == UNMEASURED for row in trace.rows),
            again=sum(row["attempt"] > 1 for row in measured),
            slowest=max(measured, key=lambda row: row["seconds"], default=None),
            peak_bytes=max((row["peak_bytes"] for row in measured), default=0),
            bytes=sum(row["bytes"] for row in measured),
            finished=bool(trace.identity),
        )


@dataclass(frozen=True, slots=True)
class Traces:
    """The traces of a project's stages."""

    ours: list[StageTrace]
    """Those of this version, in the order of the stages."""
    unfinished: list[StageTrace]
    """Those of runs that failed or were interrupted."""
    missing: dict[str, str]
    """Stages without a trace of this version, with the reason."""

    def shown(self) -> list[StageTrace]:
        """Return the traces of this version and of unfinished runs, in the order of the stages."""
        return sorted([*self.ours, *self.unfinished], key=lambda trace: STAGES.index(trace.stage))


def read(data: Path, metrics: Path) -> Traces:
    """Read the traces beside the outs in `data`; a damaged one counts as missing."""
    ours: list[StageTrace] = []
    unfinished: list[StageTrace] = []
    missing: dict[str, str] = {}
    for stage in STAGES:
        if not (metrics / f"{stage}.json").is_file() and not (data / trace_file.FOLDER / f"{stage}.parquet").is_file():
            missing[stage] = "it has not run"
            continue
        try:
            trace = trace_file.read(data / trace_file.FOLDER / f"{stage}.parquet")
        except trace_file.TraceError as error:
            missing[stage] = str(error)
            continue
        if trace is None:
            missing[stage] = "it has no trace: it was switched off, or restored by DVC, or run by earlier code"
        elif not trace.identity:
            unfinished.append(trace)
        elif trace.belongs_to(data, metrics):
            ours.append(trace)
        else:
            missing[stage] = "its trace is of another version"
    return Traces(ours, unfinished, missing)


def metrics(data: Path, counts: Path) -> dict[str, float]:
    """Return MLflow's metrics of the stages that have a trace of this version; `counts` is the folder of their JSON."""
    found: dict[str, float] = {}
    peak = 0
    for trace in read(data, counts).ours:
        one = StageTimes.of(trace)
        if one.stage in identity.STAGES:
            # MLflow shows what begins so under "System metrics".
            found[f"system/{one.stage} seconds"] = round(one.seconds, 3)
            found[f"system/{one.stage} processor hours"] = round(one.processor_hours, 6)
            peak = max(peak, one.peak_bytes)
    return found | ({"system/peak memory GB": round(peak / _GB, 3)} if found else {})


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def processor(seconds: float) -> str:
    """Return processor time in hours with three significant digits, a small one as a time: `12 s`, `3.25 h`."""
    hours = seconds / _HOUR_S
    if hours < _LEAST_HOURS:
        return fine(seconds)
    return f"{hours:,.{2 if hours < 9.995 else 1 if hours < 99.95 else 0}f} h"


def fine(seconds: float) -> str:
    """Return a time as `duration` does, but a short one with a digit behind the point: `0.4 s`."""
    return f"{seconds:.1f} s" if seconds < _SHORT_S else duration(seconds)


def size(count: float) -> str:
    """Return a number of bytes with three significant digits: `361 MB`, `36.5 GB`."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.{0 if unit == 'B' or value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"
