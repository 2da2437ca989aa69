"""Draw when which worker ran which part, with a table of the stages, as an SVG file beside the version.

The report's page shows the file but has no time in it: times differ from run to run, and the page is part of the
version.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from laion_dask.report import stage_times
from laion_dask.report.stage_times import StageTimes
from laion_dask.report.timeline_layout import Timeline, lay_out
from laion_dask.runner import trace_file
from laion_dask.runner.trace_file import StageTrace
from laion_dask.storage import templates
from laion_dask.storage.durations import duration
from laion_dask.storage.files import digest
from laion_dask.versions import identity

COLORS: Final = {
    "crawl": "#56769a",
    "extract": "#0072b2",
    "catalog": "#7f5aa2",
    "download": "#d9822b",
    "score": "#1f8a70",
    "group": "#b5495b",
    "filter": "#8c8c2f",
    "translate": "#2b9ab3",
    "caption": "#a0522d",
    "release": "#3f5a36",
    "report": "#777f88",
}
"""Colours by stage: neighbours in time differ in hue, and all are dark enough on white."""

_NAME_CHARS: Final = 12
_LINE_CHARS: Final = 54
"""As many fit a phone."""
# Height of a lane with its gap, by the number of lanes up to which it holds.
_PITCHES_PX: Final = ((24, 16), (64, 10), (160, 6), (480, 4))
_LEAST_PITCH_PX: Final = 2
_NUMBERED_PX: Final = 10
_LINE_PX: Final = 18
_ROW_PX: Final = 40
# A label needs this share of the width on a desk, and on a phone.
_LABEL_DESK: Final = 7.0
_LABEL_PHONE: Final = 22.0


def name(digests: Mapping[str, str], metrics: Path) -> str:
    """Return the name of a version's timeline."""
    return f"timeline-{key(digests, metrics)}.svg"


def key(digests: Mapping[str, str], metrics: Path) -> str:
    """Return what names the files beside a version: a digest of DVC's hashes of its outs, without DVC of its counts."""
    return digest(dict(digests) or identity.stage_metrics(metrics))[:_NAME_CHARS]


def write(data: Path, metrics: Path, digests: Mapping[str, str]) -> Path | None:
    """Draw the stages that have a trace of this version; return the file's path, or None if no stage has one."""
    traces = stage_times.read(data, metrics)
    # The report's own trace is written after this.
    ours = {trace.stage: trace for trace in traces.ours}
    page = draw(
        [ours[stage] for stage in identity.STAGES if stage in ours],
        [stage for stage in identity.STAGES if stage not in ours],
    )
    return place(data, name(digests, metrics), page) if page is not None else None


def place(data: Path, file: str, page: str) -> Path | None:
    """Write a file beside the version, which the report's page shows; return its path, or None where that failed.

    A file that cannot be written is reported on standard error: nothing depends on it.
    """
    path = data / trace_file.FOLDER / file
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(page, encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        trace_file.warn(f"report: {file} was not written: {error}")
        return None
    finally:
        fresh.unlink(missing_ok=True)
    return path


def draw(traces: Sequence[StageTrace], without: Sequence[str] = ()) -> str | None:
    """Return the SVG of these traces, or None if no part was measured; `without` names stages that have no trace."""
    found = lay_out(traces)
    if found is None:
        return None
    pitch = next((px for lanes, px in _PITCHES_PX if found.lanes <= lanes), _LEAST_PITCH_PX)
    times = [StageTimes.of(trace) for trace in traces]
    environment = templates.environment("laion_dask.report", escape=True)
    environment.filters["size"] = stage_times.size
    environment.filters["processor"] = stage_times.processor
    environment.filters["time"] = stage_times.fine
    environment.filters["x"] = lambda value: f"{value:.3f}%"
    return environment.get_template("timeline.svg.j2").render(
        found=found,
        heading=_heading(found, len(times)),
        times=times,
        notes=[_note(one) for one in times],
        total=_total(times),
        without=textwrap.wrap(f"Without times of this version: {', '.join(without)}", _LINE_CHARS) if without else [],
        colors=COLORS,
        other="#777f88",
        pitch=pitch,
        bar=max(pitch - (3 if pitch > _NUMBERED_PX else 1), 1),
        numbered=pitch >= _NUMBERED_PX,
        line=_LINE_PX,
        row=_ROW_PX,
        desk=_LABEL_DESK,
        phone=_LABEL_PHONE,
    )


def _heading(found: Timeline, stages: int) -> list[str]:
    began, ended = (datetime.fromtimestamp(when, UTC) for when in (found.began, found.ended))
    until = f"{ended:%H:%M}" if began.date() == ended.date() else f"{ended:%Y-%m-%d %H:%M}"
    joined = f"drawn as {found.bars:,} bars: close neighbours are joined"
    parts = "1 part" if found.parts == 1 else f"{found.parts:,} parts"
    lanes = "1 worker" if found.lanes == 1 else f"{found.lanes:,} workers"
    hosts = "1 host" if len(found.hosts) == 1 else f"{len(found.hosts):,} hosts"
    return [
        f"{began:%Y-%m-%d %H:%M} to {until} UTC",
        f"{duration(found.seconds)} with at least one part running",
        f"{parts} of {stages} stages on {lanes}, {hosts}",
        *([joined] if found.bars < found.parts else []),
    ]


def _note(one: StageTimes) -> str:
    """Return what stands under a stage: its parts, and the slowest of them; without its name where that is too long."""
    counts = {"again": one.again, "failed": one.failed, "not measured": one.unmeasured}
    parts = "1 part" if one.parts == 1 else f"{one.parts:,} parts"
    said = ", ".join([parts, *(f"{count:,} {what}" for what, count in counts.items() if count)])
    if one.slowest is None:
        return said
    seconds = stage_times.fine(one.slowest["seconds"])
    named = f"{said}; slowest {one.slowest['part']}: {seconds}"
    return named if len(named) <= _LINE_CHARS else f"{said}; slowest {seconds}"


def _total(times: Sequence[StageTimes]) -> dict[str, float]:
    return {
        "seconds": sum(one.seconds for one in times),
        "processor_seconds": sum(one.processor_seconds for one in times),
        "peak": max(one.peak_bytes for one in times),
        "bytes": sum(one.bytes for one in times),
    }
