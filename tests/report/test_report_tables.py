"""CSV tables beside the report: the numbers of the page, and sums that hold."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.report import report_tables
from laion_dask.statistics import rates, summary, truth

TABLES = {"funnel", "kept", "safety", "similarity", "sweeps", "languages", "hosts", "sizes", "truth"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> dict[str, list[dict[str, str]]]:
    root = tmp_path_factory.mktemp("tables")
    data, metrics = sample_version.write(root, links=120, shards=1)
    counts = sample_version.load_metrics(metrics)
    steps, numbers = summary.funnel(counts), summary.collect(data, defaults, counts)
    decisions = truth.decisions(data, defaults, counts)
    sweeps = rates.collect(data, defaults, ()).sweeps
    written = report_tables.write(root / "out", steps, numbers, decisions, sweeps, defaults)
    return {path.stem: list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) for path in written}


def test_there_is_a_table_for_each_part_of_the_report(tables: dict[str, list[dict[str, str]]]) -> None:
    assert set(tables) == {
        *["funnel", "kept", "safety", "similarity", "sweeps", "languages", "hosts", "sizes", "truth"]
    }
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


def test_the_bars_of_a_split_hold_every_scored_pair_and_stand_beside_their_threshold(
    tables: dict[str, list[dict[str, str]]], defaults: Params
) -> None:
    kept = {row["split"]: row for row in tables["kept"]}
    for split in ("en", "multi", "nolang"):
        bars = [row for row in tables["similarity"] if row["split"] == split]
        assert sum(int(row["kept"]) + int(row["dropped"]) for row in bars) == int(kept[split]["scored"]) > 0
        assert [row["to"] for row in bars[:-1]] == [row["from"] for row in bars[1:]]
        assert {float(row["threshold"]) for row in bars} == {getattr(defaults.filter.similarity, split)}


@pytest.mark.parametrize(
    ("score", "split", "chosen"),
    [("similarity", "en", "0.25"), ("similarity", "all", ""), ("punsafe", "all", "0.5"), ("aesthetic", "en", "")],
)
def test_a_sweep_falls_with_its_threshold_and_names_the_one_of_the_version(
    tables: dict[str, list[dict[str, str]]], score: str, split: str, chosen: str
) -> None:
    points = [row for row in tables["sweeps"] if (row["score"], row["split"]) == (score, split)]
    assert len(points) > 10
    assert {row["chosen"] for row in points} == {chosen}
    shares = [float(row["share"]) for row in points]
    assert shares == sorted(shares, reverse=True)
    assert all(float(row["low"]) <= float(row["share"]) <= float(row["high"]) for row in points)


def test_without_labels_there_is_no_table_of_decisions(tmp_path: Path, defaults: Params) -> None:
    data, metrics = sample_version.write(tmp_path, links=40, shards=1)
    counts = sample_version.load_metrics(metrics)
    numbers = summary.collect(data, defaults, counts)
    written = report_tables.write(tmp_path / "out", summary.funnel(counts), numbers, [], [], defaults)
    assert "truth" not in {path.stem for path in written}
