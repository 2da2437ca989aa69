"""Traces in, a timeline out: lanes, bars that are joined where they are close, pauses cut out."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from made.versions import traces
from made.versions.traces import BEGAN, row

from laion_dask.report import timeline
from laion_dask.report.timeline_layout import LEFT, Timeline, lay_out
from laion_dask.runner.trace_file import StageTrace
from laion_dask.schema.traces import FAILED, UNMEASURED

SVG = "{http://www.w3.org/2000/svg}"


def laid_out(*found: StageTrace) -> Timeline:
    drawn = lay_out(found)
    assert drawn is not None
    return drawn


def drawn(*found: StageTrace, without: tuple[str, ...] = ()) -> ET.Element:
    page = timeline.draw(found, without)
    assert page is not None
    return ET.fromstring(page)  # noqa: S314 - of our own making


def texts(page: ET.Element) -> list[str]:
    return [one.text or "" for one in page.iter(f"{SVG}text")]


def test_each_worker_has_a_row_and_each_part_a_bar_under_its_host() -> None:
    rows = [
        row("score", "a", 0, 10, worker=1),
        row("score", "b", 0, 20, worker=2),
        row("score", "c", 10, 10, worker=1),
        row("score", "d", 0, 5, worker=1, host="node2"),
    ]
    found = laid_out(traces.stage("score", rows))
    assert [(host.name, [len(lane.bars) for lane in host.lanes]) for host in found.hosts] == [
        ("node1", [2, 1]),
        ("node2", [1]),
    ]
    (first, second), (whole,) = (lane.bars for lane in found.hosts[0].lanes)
    assert (first.x, first.width) == pytest.approx((LEFT, (100 - LEFT) / 2))
    assert second.x == pytest.approx(LEFT + first.width)
    assert whole.width == pytest.approx(100 - LEFT)
    assert first.title == "score a: 10 s, worker tcp://node1:40001"
    assert (found.parts, found.bars, found.lanes, found.seconds) == (4, 4, 3, 20)


def test_a_row_goes_on_with_a_worker_of_the_next_stage_and_threads_of_one_worker_have_rows_of_their_own() -> None:
    one = traces.stage("score", [row("score", name, 0, 10, worker=1) for name in ("a", "b", "c")])
    two = traces.stage("filter", [row("filter", "a", 60, 10, worker=9)])
    (host,) = laid_out(one, two).hosts
    assert [[bar.stage for bar in lane.bars] for lane in host.lanes] == [["score", "filter"], ["score"], ["score"]]


def test_pauses_between_stages_are_cut_out_and_those_within_a_stage_stay_unless_they_are_long() -> None:
    score = [row("score", "a", 0, 100), row("score", "b", 105, 95)]
    found = laid_out(traces.stage("score", score), traces.stage("filter", [row("filter", "a", 205, 100)]))
    first, second, third = found.hosts[0].lanes[0].bars
    assert second.x > first.x + first.width + 1  # 5 of 300 seconds in which nothing ran
    assert len(found.cuts) == 1
    assert second.x + second.width < found.cuts[0] < third.x
    assert found.seconds == 300
    # Resumed after a night.
    night = [row("score", "a", 0, 100), row("score", "b", 30_000, 100)]
    assert len(laid_out(traces.stage("score", night)).cuts) == 1


@pytest.mark.parametrize("gap", [0.0, 0.01])
def test_close_bars_are_joined_with_their_number_and_a_gap_that_can_be_seen_stays(gap: float) -> None:
    rows = [row("score", f"{at:04}", at * (0.05 + gap), 0.05) for at in range(1000)]
    rows += [row("score", "late", 90, 0.05), row("score", "last", 100, 100)]
    found = laid_out(traces.stage("score", rows))
    joined, late, last = found.hosts[0].lanes[0].bars
    assert (joined.parts, late.parts, last.parts) == (1000, 1, 1)
    assert joined.title.startswith("score: 1,000 parts in ")
    assert (found.parts, found.bars) == (1002, 3)


def test_a_failed_part_is_never_joined_and_told_with_its_attempt() -> None:
    rows = [row("score", f"{at:04}", at * 0.01, 0.01) for at in range(100)]
    rows[50] |= {"outcome": FAILED, "attempt": 4}
    bars = laid_out(traces.stage("score", [*rows, row("score", "last", 1, 100)])).hosts[0].lanes[0].bars
    assert [(bar.parts, bar.failed) for bar in bars] == [(50, False), (1, True), (49, False), (1, False)]
    assert "attempt 4, failed, worker" in bars[1].title


def test_a_timeline_of_five_thousand_parts_says_how_many_bars_it_has_and_stays_small() -> None:
    many = traces.many(5_000, workers=8, hosts=2)
    page = timeline.draw(many)
    assert page
    assert len(page) < 1_500_000
    found = laid_out(*many)
    assert found.parts == sum(len(trace.rows) for trace in many) == 5_000
    assert sum(bar.parts for host in found.hosts for lane in host.lanes for bar in lane.bars) == 5_000
    assert f"drawn as {found.bars:,} bars: close neighbours are joined" in page
    assert "5,000 parts of 2 stages on 16 workers, 2 hosts" in page


def test_with_very_many_workers_bars_are_joined_until_the_page_is_small() -> None:
    found = laid_out(*traces.many(20_000, workers=16, hosts=20))
    assert 1_000 < found.bars <= 4_000
    assert found.parts == 20_000


def test_nothing_lies_outside_of_the_drawing() -> None:
    for bars in (host.lanes for host in laid_out(*traces.many(2_000, workers=4)).hosts):
        for bar in (bar for lane in bars for bar in lane.bars):
            assert bar.x >= LEFT
            assert bar.x + bar.width <= 100.2
    page = drawn(*traces.many(300, workers=4))
    height = float(page.attrib["height"])
    tables = [one for one in page.iter(f"{SVG}text") if one.text == "Stage"]
    assert len(tables) == 1
    assert all(float(one.attrib["y"]) < height for one in page.iter(f"{SVG}rect"))


def test_the_table_has_the_stages_in_order_their_sum_and_those_without_times() -> None:
    rows = [row("score", "00001", 0, 5_000, bytes=36_500_000, attempt=2), row("score", "00002", 0, 20, outcome=FAILED)]
    said = texts(drawn(traces.stage("score", rows), without=("crawl", "extract")))
    assert said[0] == "2026-05-28 20:26 to 21:50 UTC"
    at = said.index("score", said.index("Stage"))
    assert said[at : at + 6] == [
        "score",
        "1 h 23 min",
        "0.70 h",
        "100 MB",
        "36.5 MB",
        "1 part, 1 again, 1 failed; slowest 00001: 1 h 23 min",
    ]
    assert said[-1] == "Without times of this version: crawl, extract"
    assert said[-6] == "all"


def test_names_from_elsewhere_are_escaped() -> None:
    odd = "<script>alert(1)</script>&\"'"
    page = timeline.draw([traces.stage("score", [row("score", odd, 0, 5, host=odd)])])
    assert page
    assert "<script" not in page
    assert ET.fromstring(page) is not None  # noqa: S314


def test_parts_that_took_no_time_or_were_not_measured_do_no_harm() -> None:
    unmeasured = row("score", "b", 0, 0) | dict.fromkeys(("started", "ended", "seconds", "submitted"))
    still = replace(traces.stage("score", [row("score", "a", 0, 0.0)]), rows=[row("score", "a", 0, 0.0)])
    assert laid_out(still).parts == 1
    assert timeline.draw([still])
    nothing = StageTrace("score", [unmeasured | {"outcome": UNMEASURED}], BEGAN, BEGAN, "x")
    assert timeline.draw([nothing]) is None
    assert timeline.draw([]) is None


@pytest.mark.parametrize("seconds", [0.5, 3, 45, 61, 600, 5_000, 40_000, 500_000, 5_000_000])
def test_the_axis_has_at_most_nine_marks_with_times_that_people_count_in(seconds: float) -> None:
    ticks = laid_out(traces.stage("score", [row("score", "a", 0, seconds)])).ticks
    assert ticks[0].label == "0 s"
    assert 1 <= len(ticks) <= 9
    assert all(re.fullmatch(r"\d+ s|\d+ min( \d+ s)?|[\d,]+ h( \d+ min)?", tick.label) for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


def project(root: Path) -> tuple[Path, Path]:
    data, metrics = root / "data", root / "metrics"
    metrics.mkdir()
    for stage in ("crawl", "score", "report"):
        (data / stage).mkdir(parents=True)
        (metrics / f"{stage}.json").write_text("{}")
        traces.write(data, metrics, stage)
    return data, metrics


def test_the_file_is_named_after_the_version_and_has_its_stages_without_the_report(tmp_path: Path) -> None:
    data, metrics = project(tmp_path)
    digests = {"data/crawl": "0.dir", "data/score": "1.dir"}
    path = timeline.write(data, metrics, digests)
    assert path == data / "trace" / timeline.name(digests, metrics)
    page = path.read_text()
    assert ">score<" in page
    assert ">report<" not in page
    assert sorted(one.name for one in path.parent.iterdir()) == [
        "crawl.parquet",
        "report.parquet",
        "score.parquet",
        path.name,
    ]
    assert timeline.name(dict(reversed(digests.items())), metrics) == path.name
    assert timeline.name(digests | {"data/score": "2.dir"}, metrics) != path.name
    without_dvc = timeline.name({}, metrics)
    (metrics / "score.json").write_text('{"parts": 2}')
    assert timeline.name({}, metrics) != without_dvc
    assert timeline.name(digests, metrics) == path.name


def test_without_a_trace_of_this_version_no_file_is_written(tmp_path: Path) -> None:
    data, metrics = project(tmp_path)
    for stage in ("crawl", "score"):
        (data / stage / "more").write_text("of another version")
    assert timeline.write(data, metrics, {}) is None
    assert list((data / "trace").glob("*.svg")) == []


def test_a_timeline_that_cannot_be_written_fails_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, metrics = project(tmp_path)
    (data / "trace" / timeline.name({}, metrics)).mkdir()
    assert timeline.write(data, metrics, {}) is None
    assert f"report: {timeline.name({}, metrics)} was not written: " in capsys.readouterr().err
