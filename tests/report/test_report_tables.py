"""CSV tables beside the report: the numbers of the page, and sums that hold."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.report import report_tables
from laion_dask.statistics import summary, truth


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> dict[str, list[dict[str, str]]]:
    root = tmp_path_factory.mktemp("tables")
    data, metrics = sample_version.write(root, links=120, shards=1)
    counts = sample_version.load_metrics(metrics)
    steps, numbers = summary.funnel(counts), summary.collect(data, defaults, counts)
    written = report_tables.write(root / "out", steps, numbers, truth.decisions(data, defaults, counts))
    return {path.stem: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in written}


def test_there_is_a_table_for_each_part_of_the_report(tables: dict[str, list[dict[str, str]]]) -> None:
    assert set(tables) == {"funnel", "kept", "safety", "languages", "hosts", "sizes", "truth"}
    assert all(tables.values())


def test_what_a_stage_saw_is_what_it_kept_and_dropped(tables: dict[str, list[dict[str, str]]]) -> None:
    stages = {row["stage"] for row in tables["funnel"]}
    assert stages == {"extract", "catalog", "download", "score", "group", "filter", "release"}
    for stage in stages:
        rows = {row["reason"]: int(row["count"]) for row in tables["funnel"] if row["stage"] == stage}
        seen = rows.pop("seen")
        assert seen == sum(rows.values())


def test_shares_lie_in_their_intervals_and_have_six_digits(tables: dict[str, list[dict[str, str]]]) -> None:
    for row in tables["safety"]:
        if row["share"]:
            assert float(row["low"]) <= float(row["share"]) <= float(row["high"])
            assert len(row["share"].partition(".")[2]) <= 6


def test_pairs_kept_by_split_add_up(tables: dict[str, list[dict[str, str]]]) -> None:
    kept = {row["split"]: int(row["kept"]) for row in tables["kept"]}
    assert kept["all"] == kept["en"] + kept["multi"] + kept["nolang"]


def test_without_labels_there_is_no_table_of_decisions(tmp_path: Path, defaults: Params) -> None:
    data, metrics = sample_version.write(tmp_path, links=40, shards=1)
    counts = sample_version.load_metrics(metrics)
    numbers = summary.collect(data, defaults, counts)
    written = report_tables.write(tmp_path / "out", summary.funnel(counts), numbers, [])
    assert "truth" not in {path.stem for path in written}
