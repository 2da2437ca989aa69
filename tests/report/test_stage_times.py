"""Traces in, what each stage took out; and only of the version that is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made.versions import traces
from made.versions.traces import BEGAN, row

from laion_dask.report import stage_times
from laion_dask.report.stage_times import StageTimes
from laion_dask.schema.traces import FAILED, UNMEASURED
from laion_dask.versions import identity


def project(root: Path, *stages: str) -> tuple[Path, Path]:
    data, metrics = root / "data", root / "metrics"
    metrics.mkdir(parents=True)
    for stage in stages:
        (data / stage).mkdir(parents=True)
        (data / stage / "out.txt").write_text(stage)
        (metrics / f"{stage}.json").write_text("{}")
        traces.write(data, metrics, stage)
    return data, metrics


def test_parts_are_added_up_and_a_part_that_is_not_measured_counts_as_a_part() -> None:
    rows = [
        row("score", "a", 0, 4.0, peak_bytes=5, bytes=10),
        row("score", "b", 0, 6.0, peak_bytes=9, bytes=20, attempt=3),
        row("score", "c", 4, 1.0, peak_bytes=7, bytes=0, outcome=FAILED),
        row("score", "d", 0, 0.0, outcome=UNMEASURED)
        | dict.fromkeys(
            ("attempt", "submitted", "started", "ended", "seconds", "processor_seconds", "peak_bytes", "bytes")
        ),
    ]
    found = StageTimes.of(replace(traces.stage("score", rows[:3]), rows=rows, began=BEGAN - 1, ended=BEGAN + 8))
    assert found == StageTimes(
        stage="score",
        seconds=9.0,
        processor_seconds=5.5,
        parts=3,
        failed=1,
        unmeasured=1,
        again=1,
        slowest=rows[1],
        peak_bytes=9,
        bytes=30,
        finished=True,
    )


def test_the_time_of_a_resumed_stage_has_the_time_in_which_earlier_parts_ran_once() -> None:
    rows = [row("score", "a", 0, 10.0), row("score", "b", 5, 10.0), row("score", "c", 100, 3.0)]
    trace = replace(traces.stage("score", rows), began=BEGAN + 98, ended=BEGAN + 104)
    # Six seconds of the last run, and fifteen in which a part ran before.
    assert StageTimes.of(trace).seconds == pytest.approx(21.0)


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(1, 3)], 2), ([(5, 6), (1, 3)], 3), ([(1, 5), (2, 3), (4, 7)], 6), ([(1, 1)], 0)],
)
def test_what_is_covered_by_several_intervals_is_counted_once(
    intervals: list[tuple[float, float]], length: float
) -> None:
    assert stage_times.covered(intervals) == length


def test_only_traces_of_this_version_are_its_times_and_the_others_are_told(tmp_path: Path) -> None:
    data, metrics = project(tmp_path, "crawl", "extract", "score", "filter", "release", "report")
    (data / "extract" / "out.txt").write_text("of another version")
    traces.write(data, metrics, "score", finished=False)
    (data / "trace" / "filter.parquet").unlink()
    (data / "trace" / "release.parquet").write_bytes(b"damaged")
    found = stage_times.read(data, metrics)
    assert [trace.stage for trace in found.ours] == ["crawl", "report"]
    assert [trace.stage for trace in found.unfinished] == ["score"]
    assert [trace.stage for trace in found.shown()] == ["crawl", "score", "report"]
    assert found.missing["extract"] == "its trace is of another version"
    assert found.missing["filter"].startswith("it has no trace: ")
    assert "release.parquet cannot be read" in found.missing["release"]
    assert found.missing["caption"] == "it has not run"


def test_mlflow_gets_seconds_processor_hours_and_memory_of_stages_with_a_trace(tmp_path: Path) -> None:
    data, metrics = project(tmp_path, "crawl", "score", "report")
    (metrics / "crawl.json").write_text('{"parts": 1}')
    found = stage_times.metrics(data, metrics)
    assert set(found) == {"system/score seconds", "system/score processor hours", "system/peak memory GB"}
    assert found["system/score processor hours"] == pytest.approx(3 / 3600, abs=1e-6)
    assert found["system/peak memory GB"] == 2.0
    assert stage_times.metrics(tmp_path / "nothing", metrics) == {}


def test_every_stage_of_a_version_is_asked_for_and_the_report() -> None:
    assert (*identity.STAGES, "report") == stage_times.STAGES


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.00 kB"),
        (36_540, "36.5 kB"),
        (361e6, "361 MB"),
        (999.6e6, "1.00 GB"),
        (2e18, "2000 PB"),
    ],
)
def test_bytes_have_three_digits(value: float, said: str) -> None:
    assert stage_times.size(value) == said


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (0, "0.0 s"),
        (0.001, "3.6 s"),
        (0.05, "3 min 00 s"),
        (0.1, "0.10 h"),
        (3.254, "3.25 h"),
        (36.55, "36.5 h"),
        (1250, "1,250 h"),
    ],
)
def test_processor_time_is_told_in_hours_and_where_there_are_few_as_a_time(hours: float, said: str) -> None:
    assert stage_times.processor(hours * 3600) == said
