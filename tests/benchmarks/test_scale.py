"""Figures of sizes: kept over an interruption, compared with the size before; tables of docs/scale.md as printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made.places import ROOT

from benchmarks.scale import bench, estimate
from benchmarks.scale.results import Results, Size
from benchmarks.scale.whole import STAGES

SMALL = {"crawl": {"demo_pages": 100}}
LARGE = {"crawl": {"demo_pages": 1_000}}


def figures(seconds: float, driver_mb: float = 200.0) -> dict[str, float]:
    sizes = {"worker_mb": 150.0, "other_mb": 90.0, "files": 3, "bytes": 10_000}
    return {"seconds": seconds, "processor_s": 2 * seconds, "driver_mb": driver_mb, **sizes}


def complete(size: Size, pairs: int, seconds: float, driver_mb: float = 200.0) -> Size:
    size.pairs, size.stages = pairs, {stage: figures(seconds, driver_mb) for stage in STAGES}
    return size


def test_figures_of_finished_stages_are_there_after_an_interruption(tmp_path: Path) -> None:
    first = Results(tmp_path / "results.json", {100: SMALL, 1_000: LARGE}, workers=2)
    complete(first.sizes[0], 130, 1.0)
    first.sizes[1].stages["inputs"] = figures(0.5)
    first.write()
    small, large = Results(tmp_path / "results.json", {100: SMALL, 1_000: LARGE}, workers=2).sizes
    assert (small.complete, small.pairs, large.complete, [*large.stages]) == (True, 130, False, ["inputs"])


@pytest.mark.parametrize(("asked", "workers"), [({100: LARGE}, 2), ({100: SMALL}, 4)], ids=["parameters", "workers"])
def test_figures_of_other_parameters_or_workers_are_not_taken_over(
    asked: dict[int, dict[str, object]], workers: int, tmp_path: Path
) -> None:
    first = Results(tmp_path / "results.json", {100: SMALL}, workers=2)
    complete(first.sizes[0], 130, 1.0)
    first.write()
    assert not Results(tmp_path / "results.json", asked, workers=workers).sizes[0].stages


def test_another_size_in_the_file_stays_in_it(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for pages, values in ((100, SMALL), (1_000, LARGE)):
        results = Results(path, {pages: values}, workers=2)
        complete(results.sizes[0], pages, 1.0)
        results.write()
    assert set(json.loads(path.read_text())) == {"100", "1000"}


def test_the_time_left_is_that_of_the_size_before_times_the_pages(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", {100: SMALL, 1_000: LARGE}, workers=2)
    assert results.seconds_left() is None
    complete(results.sizes[0], 130, 1.0)
    assert results.seconds_left() == 10.0 * len(STAGES)
    results.sizes[1].stages["inputs"] = figures(9.0)
    assert results.seconds_left() == 10.0 * (len(STAGES) - 1)


@pytest.mark.parametrize(
    ("seconds", "driver_mb", "holds"),
    [(11.0, 229.0, [True] * 4), (11.2, 229.0, [False, False, True, True]), (11.0, 231.0, [True, True, False, False])],
    ids=["all hold", "slower a pair", "a larger driver"],
)
def test_the_largest_size_is_compared_with_the_one_before(seconds: float, driver_mb: float, holds: list[bool]) -> None:
    before = complete(Size(100, SMALL, "a"), 100, 1.0)
    last = complete(Size(1_000, LARGE, "b"), 1_000, seconds, driver_mb)
    oldest = complete(Size(10, SMALL, "c"), 10, 100.0, 1.0)
    assert [bar.holds for bar in bench.bars([oldest, before, last])] == holds


@pytest.mark.parametrize(
    ("pages", "wats", "buckets", "shard_rows"),
    [(240, 2, 8, 64), (3_000, 24, 8, 512), (6_000, 48, 8, 512), (30_000, 240, 16, 2_048), (100_000, 800, 64, 2_048)],
)
def test_wats_buckets_and_shards_grow_with_the_crawl(pages: int, wats: int, buckets: int, shard_rows: int) -> None:
    values = bench.values(pages, new_texts=False)
    crawl, catalog = values["crawl"], values["catalog"]
    assert crawl is not None
    assert catalog is not None
    assert (crawl["demo_wats"], catalog["buckets"], catalog["shard_rows"]) == (wats, buckets, shard_rows)


@pytest.mark.parametrize("name", estimate.FACTORS)
def test_each_factor_stands_in_the_results_of_its_command(name: str) -> None:
    factor = estimate.FACTORS[name]
    results = (ROOT / "benchmarks" / "results" / factor.file).read_text()
    assert factor.line in results
    assert f"{factor.value:,}" in factor.line
    assert f"\n{factor.command.removeprefix('make ')}: " in (ROOT / "Makefile").read_text()


def test_twice_the_pairs_take_twice_of_everything() -> None:
    once, twice = (estimate.lines(pairs, estimate.Assumed(), 18_000.0) for pairs in (1e9, 2e9))
    for one, two in zip(once, twice, strict=True):
        assert two.core_hours == pytest.approx(2 * one.core_hours, rel=1e-4)
        assert two.gpu_hours == pytest.approx(2 * one.gpu_hours, rel=1e-4)
        assert two.stored_tb == pytest.approx(2 * one.stored_tb, rel=1e-4)


def test_the_tables_of_the_page_are_those_that_the_estimate_prints() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    missing = [line for line in estimate.document(estimate.Assumed()).splitlines() if line not in page]
    assert not missing, "run `python -m benchmarks.scale.estimate` and put its tables into docs/scale.md"
