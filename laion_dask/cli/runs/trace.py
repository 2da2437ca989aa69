"""`laion-dask trace`: print what each stage of this version took, and its slowest parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from rich.table import Table

    from laion_dask.report.stage_times import StageTimes, Traces

HELP: Final = """Print where the time went: for each stage its time, processor time, parts, memory and bytes written.

\b
  laion-dask trace                          # every stage of this version
  laion-dask trace --parts 10               # and the ten slowest parts
  laion-dask trace --timeline timeline.svg  # which worker ran what when

The report shows the timeline, too.

The numbers come from data/trace, which lies beside the version: `dvc checkout` and `dvc pull` bring none. Time is that
of the stage's last run, and of the parts that it took over from earlier runs. CPU is the processor time of the parts on
all workers, with their child processes, but without the driver and PostgreSQL. Memory is the largest of a worker's
process.
"""

_DATA: Final = Path("data")
_METRICS: Final = Path("metrics")
_LISTED: Final = 5


def trace(
    parts: Annotated[int, typer.Option(min=0, metavar="N", help="Slowest parts to list.")] = 0,
    timeline: Annotated[
        Path | None, typer.Option(metavar="SVG", help="Draw the timeline into this file, unfinished runs too.")
    ] = None,
) -> None:
    """Print tables."""
    from laion_dask.report import stage_times

    with console.report_errors("trace"):
        found = stage_times.read(_DATA, _METRICS)
        if not found.ours and not found.unfinished:
            _fail(found)
        if timeline is not None:
            _draw(found, timeline)
    screen = console.console()
    screen.print(_stages([stage_times.StageTimes.of(one) for one in found.shown()]))
    if parts:
        screen.print(_slowest(found, parts))
    for line in _notes(found):
        console.say(line)


def _fail(found: Traces) -> None:
    why = dict.fromkeys(found.missing.values())
    stages = {reason: [stage for stage, of in found.missing.items() if of == reason] for reason in why}
    reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in stages.items())
    console.fail(
        f"trace: no stage has a trace of this version ({reasons}). Remedy: `make repro` writes one for each stage that "
        "it runs; `dvc repro --force STAGE` runs a stage again"
    )


def _draw(found: Traces, path: Path) -> None:
    from laion_dask.report import timeline

    drawn = timeline.draw(found.shown(), list(found.missing))
    if drawn is None:
        console.fail("trace: no part was measured, so there is no timeline")
    path.write_text(drawn, encoding="utf-8")


def _table(title: str, *columns: str, right: tuple[str, ...], wide: str = "") -> Table:
    """Return a table without lines between its columns, so that it fits 80 columns."""
    from rich import box

    rows = console.table(title, *columns, right=right, wide=wide)
    rows.box, rows.pad_edge, rows.collapse_padding = box.SIMPLE_HEAD, False, True
    return rows


def _stages(times: list[StageTimes]) -> Table:
    from laion_dask.report import stage_times

    numbers = ("time", "CPU", "parts", "slowest", "memory", "written")
    rows = _table("Where the time went", "stage", *numbers, right=numbers)
    for one in times:
        slowest = stage_times.fine(one.slowest["seconds"]) if one.slowest else ""
        rows.add_row(
            one.stage + ("" if one.finished else " *"),
            stage_times.fine(one.seconds),
            stage_times.processor(one.processor_seconds),
            f"{one.parts:,}",
            slowest,
            stage_times.size(one.peak_bytes),
            stage_times.size(one.bytes),
        )
    rows.add_section()
    rows.add_row(
        "all",
        stage_times.fine(sum(one.seconds for one in times)),
        stage_times.processor(sum(one.processor_seconds for one in times)),
        f"{sum(one.parts for one in times):,}",
        "",
        stage_times.size(max(one.peak_bytes for one in times)),
        stage_times.size(sum(one.bytes for one in times)),
    )
    return rows


def _slowest(found: Traces, count: int) -> Table:
    from laion_dask.report import stage_times

    measured = [row for one in found.shown() for row in one.rows if row["seconds"] is not None]
    measured.sort(key=lambda row: -row["seconds"])
    numbers = ("time", "CPU", "try", "memory", "written")
    rows = _table("The slowest parts", "stage", "part", *numbers, "host, process", right=numbers, wide="host, process")
    rows.columns[1].no_wrap, rows.columns[1].overflow = False, "fold"  # of a long name
    for row in measured[:count]:
        rows.add_row(
            row["stage"],
            row["part"] + (" (failed)" if row["outcome"] == "failed" else ""),
            stage_times.fine(row["seconds"]),
            stage_times.processor(row["processor_seconds"]),
            f"{row['attempt']}",
            stage_times.size(row["peak_bytes"]),
            stage_times.size(row["bytes"]),
            f"{row['host']} {row['process']}",
        )
    return rows


def _notes(found: Traces) -> list[str]:
    from laion_dask.report.stage_times import StageTimes

    lines = [f"* {one.stage}: its last run has not finished; `make repro` resumes it" for one in found.unfinished]
    for trace in found.shown():
        times = StageTimes.of(trace)
        failed = [row["part"] for row in trace.rows if row["outcome"] == "failed"]
        if failed:
            more = f" and {len(failed) - _LISTED} more" if len(failed) > _LISTED else ""
            lines.append(f"{trace.stage}: {len(failed)} failed: {', '.join(failed[:_LISTED])}{more}")
        if times.again:
            lines.append(f"{trace.stage}: {times.again} finished or failed after a worker had died in them")
        if times.unmeasured:
            lines.append(f"{trace.stage}: {times.unmeasured} were finished before and are not measured")
    return [*lines, *(f"{stage}: {reason}" for stage, reason in found.missing.items())]
