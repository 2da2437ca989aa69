"""Rows of traces, and trace files beside a version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from laion_dask.runner.part import Part
from laion_dask.runner.trace import Measured
from laion_dask.runner.trace_file import FOLDER, Row, StageTrace, Trace, identity
from laion_dask.schema.traces import FAILED, FINISHED, TRACE

BEGAN = 1_780_000_000.0


def row(
    stage: str, part: str, start: float, seconds: float, *, worker: int = 1, host: str = "node1", **other: object
) -> Row:
    """Return a finished part that began `start` seconds after BEGAN."""
    empty: Row = dict.fromkeys(TRACE.names)
    began = BEGAN + start
    return empty | {
        "stage": stage,
        "part": part,
        "key": f"{stage}-{part}",
        "outcome": FINISHED,
        "attempt": 1,
        "worker": f"tcp://{host}:{40_000 + worker}",
        "host": host,
        "process": worker,
        "submitted": began,
        "started": began,
        "ended": began + seconds,
        "seconds": seconds,
        "processor_seconds": seconds / 2,
        "peak_bytes": 10**8,
        "bytes": 1_000,
        **other,
    }


def stage(name: str, rows: Sequence[Row]) -> StageTrace:
    """Return the trace of a run that made these parts."""
    return StageTrace(name, rows, min(one["submitted"] for one in rows), max(one["ended"] for one in rows), "identity")


def many(parts: int, *, workers: int, hosts: int = 1) -> list[StageTrace]:
    """Return a download and a scoring of many parts, hours apart: some failed, some after a worker's death."""
    drawn = random.Random(1)
    traces, now = [], 0.0
    for name, share in (("download", 0.7), ("score", 0.3)):
        free = [now] * (workers * hosts)
        rows = []
        for number in range(int(parts * share)):
            at = min(range(len(free)), key=free.__getitem__)
            seconds = drawn.expovariate(1 / 60) + 1
            outcome = FAILED if number % 500 == 3 else FINISHED
            place = {"worker": at + 1, "host": f"node{at // workers + 1}"}
            rows.append(
                row(name, f"{number:05}", free[at], seconds, outcome=outcome, attempt=1 + (number % 700 == 5), **place)
            )
            free[at] += seconds
        traces.append(stage(name, rows))
        now = max(free) + 7_200
    return traces


def write(
    data: Path,
    metrics: Path,
    name: str,
    parts: int = 2,
    *,
    seconds: float = 1.5,
    host: str = "node1",
    finished: bool = True,
) -> None:
    """Write the trace of a stage beside its out, as a run of the stage does."""
    trace = Trace(name, data / FOLDER / f"{name}.parquet")
    for number in range(parts):
        part = Part(f"{number:05}", f"{name}-{number}")
        trace.submit(part)
        began = trace.began + number * seconds
        measured = Measured("tcp://127.0.0.1:1", host, 1, 1, began, began + seconds, seconds, 2 * 10**9, 500)
        trace.finish(part, measured, failed=False)
    trace.save(identity(data, metrics, name) if finished else "")
