"""Counts of parts in, one line out: what a person who waits for a stage wants to know, in the terminal's width."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from laion_dask.download import rates
from laion_dask.download.rates import DownloadRates
from laion_dask.extract.rates import ExtractRates
from laion_dask.runner import progress as progress_module
from laion_dask.runner import progress_line
from laion_dask.runner.progress import Progress
from laion_dask.runner.progress_line import Field, ProgressLine, RowLine


def counts(kept: int, slow: list[tuple[str, int, float]], **dropped: int) -> dict[str, Any]:
    ledger = {"seen": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}
    return {"images": ledger, "slow": [{"host": host, "tries": n, "seconds": s} for host, n, s in slow]}


def test_the_line_has_rate_success_reasons_slowest_hosts_and_time_left() -> None:
    progress = Progress("download", "images", DownloadRates())
    progress.start(4, [], [10, 10, 10, 10])
    assert progress.line() == "download 0/4 parts"
    progress.begin("00000")
    progress.finish("00000", 10, counts(6, [("a.example", 2, 9.0), ("b.example", 1, 0.5)], not_found=3, timeout=1))
    progress.finish("00001", 10, counts(9, [("c.example", 3, 3.0)], robots=1))
    words = progress.line().split("  ")
    assert words[0] == "download 2/4 parts"
    assert words[1].startswith("20 images, ")
    assert words[1].endswith("/s, 75% good")
    assert words[2] == "0 s left"
    assert words[3] == "not_found 3, timeout 1, robots 1"
    assert words[4] == "slowest a.example 4.5 s, c.example 1.0 s"


def test_a_further_round_counts_its_own_parts_and_joining_counts_no_image_again() -> None:
    progress = Progress("download", "images", DownloadRates())
    progress.start(1, [], [10])
    progress.finish("00000", 10, counts(8, [], timeout=2))
    progress.start(1, [], [2])
    progress.finish("00000-2", 2, counts(1, [], timeout=1))
    progress.start(1, [], [10])
    progress.finish("00000", 10, {"images": {"seen": 10, "kept": 9, "dropped": {"timeout": 1}}, "bytes": 5})
    assert progress.line().startswith("download 1/1 parts  12 images, ")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that stages see: as many seconds as its attribute `now` says."""
    time = SimpleNamespace(now=1_000.0)
    time.monotonic = lambda: time.now
    for module in (progress_module, rates):
        monkeypatch.setattr(module, "time", time)
    return time


def busy(clock: SimpleNamespace, stage: str, make: type[ProgressLine]) -> Progress:
    """A stage whose line has all of its fields: a part finished in five minutes, one running for hours."""
    progress = Progress(stage, "images", make())
    progress.start(40, [], [10] * 40)
    for name in ("00000", "CC-MAIN-20240412101354-20240412131354-00617"):
        progress.begin(name)
    progress.started("CC-MAIN-20240412101354-20240412131354-00617", 7_500)
    ledger = {"seen": 10_000, "kept": 9_000, "dropped": {"not_found": 700, "timeout": 200, "robots": 100}}
    slow = [{"host": "images.a-long-name-of-a-host.example", "tries": 2, "seconds": 9.0}]
    numbers = {"pages": 4_000, "bytes": 10**8, "slow": slow, "seconds": {"decode": 1.0, "forward": 8.0, "write": 1.0}}
    clock.now += 300
    progress.finish("00000", 10, {"images": ledger, "links": ledger, **numbers})
    progress.stop()
    return progress


LINES = [("score", RowLine), ("extract", ExtractRates), ("download", DownloadRates)]


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize(("stage", "line"), LINES)
def test_the_line_is_never_wider_than_the_terminal_and_begins_with_the_parts(
    clock: SimpleNamespace, stage: str, line: type[ProgressLine], width: int
) -> None:
    text = busy(clock, stage, line).line(width)
    assert len(text) <= width
    assert text.startswith(stage)
    assert "1/40" in text


@pytest.mark.parametrize(
    ("stage", "line", "width", "said"),
    [
        ("score", RowLine, 40, ("score 1/40", "/s", " left")),
        ("score", RowLine, 80, ("1/40 parts", "10,000 images, 33/s", " left", "oldest 2 h 10 min")),
        ("extract", ExtractRates, 44, ("1/40", "pages/s", " left")),
        ("extract", ExtractRates, 80, ("1/40 WATs", "pages/s", "pairs/s", " left", "oldest 2 h 10 min")),
        ("download", DownloadRates, 40, ("1/40", "/s", " left")),
        ("download", DownloadRates, 80, ("1/40 parts", "90% good", " left", "not_found 700")),
    ],
)
def test_what_matters_most_is_shown_first_where_there_is_little_room(
    clock: SimpleNamespace, stage: str, line: type[ProgressLine], width: int, said: tuple[str, ...]
) -> None:
    text = busy(clock, stage, line).line(width)
    assert [word for word in said if word not in text] == [], text


def test_without_a_width_as_in_a_log_nothing_is_left_out(clock: SimpleNamespace) -> None:
    text = busy(clock, "score", RowLine).line()
    assert "10,000 images, " in text
    assert "decode 10%, forward 80%, write 10%" in text
    assert text.endswith("oldest CC-MAIN-20240412101354-20240412131354-00617 2 h 10 min")


def test_the_oldest_part_is_counted_from_its_start_on_a_worker() -> None:
    progress = Progress("score", "images")
    progress.start(3, [], [1, 1, 1])
    for name in ("a", "b", "c"):
        progress.begin(name)
    assert "oldest" not in progress.line()  # they wait in the scheduler
    progress.started("b", 200)
    progress.started("a", 20)
    assert progress.line().endswith("oldest b 3 min 20 s")
    progress.begin("b")  # its worker has died, and it waits again
    assert progress.line().endswith("oldest a 20 s")
    progress.finish("a", 1, {})
    progress.started("a", 30)  # heard late
    progress.started("d", 30)  # of another run
    assert "oldest" not in progress.line()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0, "0 s"), (12.4, "12 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (65, "1 min 05 s"), (200, "3 min 20 s")),
        *((3_599.4, "59 min 59 s"), (3_599.6, "1 h 00 min"), (7_500, "2 h 05 min"), (1_123_500, "312 h 05 min")),
    ],
)
def test_times_are_said_in_hours_minutes_and_seconds(seconds: float, said: str) -> None:
    assert progress_line.duration(seconds) == said


def test_fields_are_dropped_and_shortened_by_rank_and_a_line_that_cannot_fit_is_cut() -> None:
    fields = [Field.of(0, "stage 1/2 parts", "stage 1/2"), Field.of(2, "long field", "short"), Field.of(1, "left")]
    expected = {
        None: "stage 1/2 parts  long field  left",
        33: "stage 1/2 parts  long field  left",
        32: "stage 1/2 parts  short  left",
        27: "stage 1/2  long field  left",
        21: "stage 1/2 parts  left",
        15: "stage 1/2  left",
        14: "stage 1/2",
        6: "stage…",
        1: "…",
    }
    assert {width: progress_line.fit(fields, width) for width in expected} == expected


def test_signs_that_take_two_columns_count_as_two_and_controls_are_escaped_before_they_are_counted() -> None:
    from rich.cells import cell_len

    progress = Progress("score", "images")
    progress.start(1, [], [1])
    progress.begin("\N{CJK UNIFIED IDEOGRAPH-6F22}" * 20 + "\x1b[2J")
    progress.started("\N{CJK UNIFIED IDEOGRAPH-6F22}" * 20 + "\x1b[2J", 5)
    assert "\x1b" not in progress.line(200)
    for width in (40, 60, 70, 80):
        assert cell_len(progress.line(width, cell_len)) <= width
