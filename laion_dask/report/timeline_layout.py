"""Lay out a timeline: which worker ran which part when, on one axis from which pauses are cut.

Positions are shares of the width of the drawing, in percent, so that it can be as wide as its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from laion_dask.runner.trace_file import Row, StageTrace
from laion_dask.schema.traces import FAILED
from laion_dask.storage.durations import duration

LEFT: Final = 8.0
"""Where the axis begins; to its left stand the numbers of the lanes."""

_GAP: Final = 0.8
"""Width of a pause that was cut out; less where there are many."""
_MOST_IN_GAPS: Final = 16.0
# Within a stage, a time in which no part ran shows that workers were waiting; only a long one is cut out.
_LONG_SHARE: Final = 0.1
# A bar that is narrower is joined with its neighbour: 0.2 % of 1,072 px are 2 px.
_NARROW: Final = 0.2
_MOST_BARS: Final = 4_000
_LEAST_WIDTH: Final = 0.12
# A clock that is being corrected lets a part begin a little before the end of the one before.
_CLOCK_S: Final = 0.05
_MOST_TICKS: Final = 8
_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)
_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Bar:
    """One part, or several that follow each other closely, on a lane."""

    stage: str
    x: float
    width: float
    parts: int
    failed: bool
    even: bool
    """Neighbours differ, so that one can tell them apart."""
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """The bars of one worker, and after its end of another on the same host."""

    number: int
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Host:
    """The lanes of one machine."""

    name: str
    lanes: Sequence[Lane]


@dataclass(frozen=True, slots=True)
class Band:
    """The time of one stage on the axis."""

    stage: str
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the axis; those that are not `main` are left out on a narrow screen."""

    x: float
    label: str
    main: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn."""

    hosts: Sequence[Host]
    bands: Sequence[Band]
    ticks: Sequence[Tick]
    cuts: Sequence[float]
    """Where pauses were cut out."""
    began: float
    ended: float
    seconds: float
    """Length of the axis."""
    parts: int
    bars: int

    @property
    def lanes(self) -> int:
        """The number of lanes on all hosts."""
        return sum(len(host.lanes) for host in self.hosts)


@dataclass(frozen=True, slots=True)
class _Run:
    """One row of a trace on a lane."""

    start: float
    end: float
    stage: str
    row: Row


class _Axis:
    """Maps times to positions; the spans between `segments` are cut out."""

    def __init__(self, segments: Sequence[tuple[float, float]]) -> None:
        self.segments = segments
        self.seconds = sum(end - start for start, end in segments)
        self.gap = min(_GAP, _MOST_IN_GAPS / len(segments))
        self._scale = (100 - LEFT - self.gap * (len(segments) - 1)) / max(self.seconds, 1e-9)
        self._starts = [start for start, _ in segments]
        # Seconds of the axis before each segment.
        self._before = [0.0]
        for start, end in segments:
            self._before.append(self._before[-1] + end - start)

    def x(self, when: float) -> float:
        place = max(bisect_right(self._starts, when) - 1, 0)
        start, end = self.segments[place]
        return self._at(place, min(max(when, start), end) - start)

    def x_of(self, seconds: float) -> float:
        """Return the position of a number of seconds of the axis."""
        place = min(bisect_right(self._before, seconds) - 1, len(self.segments) - 1)
        return self._at(place, seconds - self._before[place])

    def cuts(self) -> list[float]:
        return [self._at(place, 0.0) - self.gap / 2 for place in range(1, len(self.segments))]

    def _at(self, place: int, seconds: float) -> float:
        return LEFT + place * self.gap + (self._before[place] + seconds) * self._scale


def lay_out(traces: Iterable[StageTrace]) -> Timeline | None:
    """Return the timeline of the parts that were measured; None where there are none."""
    runs = [
        _Run(row["started"], row["ended"], trace.stage, row)
        for trace in traces
        for row in trace.rows
        if row["started"] is not None
    ]
    if not runs:
        return None
    runs.sort(key=lambda run: (run.start, run.end, run.stage, run.row["part"]))
    axis = _Axis(_segments(runs))
    lanes = _lanes(runs)
    narrow = _NARROW
    while True:
        hosts = [
            Host(name, [Lane(number, _bars(lane, axis, narrow)) for number, lane in enumerate(of_host, 1)])
            for name, of_host in lanes.items()
        ]
        bars = sum(len(lane.bars) for host in hosts for lane in host.lanes)
        if bars <= _MOST_BARS or narrow > 100:
            break
        narrow *= 2
    return Timeline(
        hosts=hosts,
        bands=_bands(runs, axis),
        ticks=_ticks(axis),
        cuts=axis.cuts(),
        began=runs[0].start,
        ended=max(run.end for run in runs),
        seconds=axis.seconds,
        parts=len(runs),
        bars=bars,
    )


def _segments(runs: Sequence[_Run]) -> list[tuple[float, float]]:
    """Return the spans of time that stay on the axis: a pause between two stages is cut, and any long one."""
    busy, until = 0.0, float("-inf")
    for run in runs:
        busy += max(run.end - max(run.start, until), 0.0)
        until = max(until, run.end)
    segments: list[tuple[float, float]] = []
    stage = ""
    for run in runs:
        pause = run.start - segments[-1][1] if segments else 0.0
        if not segments or (pause > 0 and (run.stage != stage or pause > _LONG_SHARE * busy)):
            segments.append((run.start, run.end))
        else:
            segments[-1] = segments[-1][0], max(segments[-1][1], run.end)
        stage = run.stage
    return segments


def _lanes(runs: Sequence[_Run]) -> dict[str, list[list[_Run]]]:
    """Put runs on lanes, by host: a thread of a worker has a lane from its first part to its last one."""
    threads: dict[tuple[str, str, int], list[list[_Run]]] = defaultdict(list)
    for run in runs:
        of_worker = threads[run.row["host"], run.row["worker"], run.row["process"]]
        free = next((one for one in of_worker if one[-1].end <= run.start + _CLOCK_S), None)
        if free is None:
            of_worker.append([run])
        else:
            free.append(run)
    hosts: dict[str, list[list[_Run]]] = {}
    blocks = sorted((one for of_worker in threads.values() for one in of_worker), key=lambda block: block[0].start)
    for block in blocks:
        of_host = hosts.setdefault(block[0].row["host"], [])
        free = next((lane for lane in of_host if lane[-1].end <= block[0].start + _CLOCK_S), None)
        if free is None:
            of_host.append(block)
        else:
            free += block
    return dict(sorted(hosts.items()))


def _bars(lane: Sequence[_Run], axis: _Axis, narrow: float) -> list[Bar]:
    """Draw runs as bars: narrow neighbours of one stage with no gap that could be seen are joined."""
    groups: list[list[_Run]] = []
    for run in lane:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and last.stage == run.stage
            and (last.row["outcome"] == FAILED) == (run.row["outcome"] == FAILED)
            and max(axis.x(last.end) - axis.x(last.start), axis.x(run.end) - axis.x(run.start)) < narrow
            and axis.x(run.start) - axis.x(last.end) < narrow / 2
        ):
            groups[-1].append(run)
        else:
            groups.append([run])
    return [_bar(group, axis, even=place % 2 == 0) for place, group in enumerate(groups)]


def _bar(group: Sequence[_Run], axis: _Axis, *, even: bool) -> Bar:
    first, last = group[0], group[-1]
    x = axis.x(first.start)
    width = max(axis.x(last.end) - x, _LEAST_WIDTH)
    failed = first.row["outcome"] == FAILED
    if len(group) == 1:
        title = f"{first.stage} {first.row['part']}: {duration(first.end - first.start)}"
    else:
        title = f"{first.stage}: {len(group):,} parts in {duration(last.end - first.start)}"
    attempt = max(run.row["attempt"] for run in group)
    details = [f"attempt {attempt}"] * (attempt > 1) + ["failed"] * failed + [f"worker {first.row['worker']}"]
    return Bar(first.stage, x, width, len(group), failed, even, ", ".join([title, *details]))


def _bands(runs: Sequence[_Run], axis: _Axis) -> list[Band]:
    """Return the extent of each stage in each segment."""
    found: dict[tuple[int, str], list[Any]] = {}
    starts = [start for start, _ in axis.segments]
    for run in runs:
        place = max(bisect_right(starts, run.start) - 1, 0)
        extent = found.setdefault((place, run.stage), [run.start, run.end])
        extent[1] = max(extent[1], run.end)
    return [
        Band(stage, axis.x(start), max(axis.x(end) - axis.x(start), _LEAST_WIDTH))
        for (_, stage), (start, end) in found.items()
    ]


def _ticks(axis: _Axis) -> list[Tick]:
    step = next((one for one in _STEPS_S if axis.seconds / one <= _MOST_TICKS), _STEPS_S[-1])
    while axis.seconds / step > _MOST_TICKS:
        step *= 2
    count = int(axis.seconds / step) + 1
    return [Tick(axis.x_of(place * step), _short(place * step), place % 2 == 0) for place in range(count)]


def _short(seconds: int) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds} s"
    if seconds < _HOUR_S:
        minutes, rest = divmod(seconds, _MINUTE_S)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, rest = divmod(seconds, _HOUR_S)
    return f"{hours:,} h" + (f" {rest // _MINUTE_S} min" if rest else "")
