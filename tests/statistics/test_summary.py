"""Numbers of a made-up version, compared with a plain count of its rows."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.versions import sample_version
from scipy.stats import binomtest

from laion_dask.params import Params
from laion_dask.statistics import summary
from laion_dask.statistics.intervals import wilson
from laion_dask.statistics.summary import Statistics


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    data, metrics = sample_version.write(tmp_path_factory.mktemp("version"), links=250)
    return data, sample_version.load_metrics(metrics)


@pytest.fixture(scope="module")
def numbers(version: tuple[Path, dict[str, Any]], defaults: Params) -> Statistics:
    data, metrics = version
    return summary.collect(data, defaults, metrics)


@pytest.fixture(scope="module")
def rows(version: tuple[Path, dict[str, Any]]) -> list[dict[str, Any]]:
    data, _ = version
    joined: dict[str, dict[str, Any]] = {}
    for stage in ("download", "score", "filter"):
        for path in sorted((data / stage).glob("0*.parquet")):
            for row in pq.read_table(path).to_pylist():
                name = {"filter": "verdict"}.get(stage, "reason")
                joined.setdefault(row["uid"], {}).update({name if key == "reason" else key: row[key] for key in row})
    return list(joined.values())


@pytest.mark.parametrize(
    ("successes", "total", "expected"),
    [
        (0, 0, (0.0, 1.0)),
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (5, 10, (0.2366, 0.7634)),  # Newcombe 1998, method 3
        (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, table I
    ],
)
def test_the_wilson_interval_is_the_published_one(successes: int, total: int, expected: tuple[float, float]) -> None:
    assert wilson(successes, total) == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_a_wilson_interval_has_the_digits_of_scipy(successes: int, more: int) -> None:
    for some in (successes, 0, successes + more):
        expected = binomtest(some, successes + more).proportion_ci(method="wilson")
        assert wilson(some, successes + more) == (expected.low, expected.high)


@given(st.integers(0, 500), st.integers(1, 500))
def test_an_interval_holds_the_share_and_stays_inside_zero_and_one(successes: int, more: int) -> None:
    total = successes + more
    low, high = wilson(successes, total)
    assert 0 <= low <= successes / total <= high <= 1


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=60))
def test_percentiles_of_counts_are_those_of_the_values(values: list[int]) -> None:
    found = summary.percentiles(Counter(values), (5, 25, 50, 75, 95))
    assert found == tuple(np.percentile(values, (5, 25, 50, 75, 95), method="inverted_cdf"))


def test_percentiles_of_nothing_are_nothing() -> None:
    assert summary.percentiles({}, (50,)) == ()


def test_each_step_of_the_funnel_sees_what_the_one_before_kept(version: tuple[Path, dict[str, Any]]) -> None:
    steps = summary.funnel(version[1])
    assert [step.stage for step in steps] == ["extract", "catalog", "download", "score", "group", "filter", "release"]
    for before, after in pairwise(steps):
        assert before.kept == after.seen
    for step in steps:
        assert step.kept + sum(drop.count for drop in step.dropped) == step.seen
        assert all(drop.meaning for drop in step.dropped)


def test_stages_that_did_not_run_have_no_step() -> None:
    assert summary.funnel({"catalog": {"pairs": {"seen": 1, "kept": 1, "dropped": {}}}})[0].stage == "catalog"
    assert summary.funnel({}) == []


def test_splits_count_every_attempt_once(numbers: Statistics, rows: list[dict[str, Any]]) -> None:
    for split in numbers.splits:
        inside = [row for row in rows if split.split in {row["split"], "all"}]
        assert split.attempts == len(inside)
        assert split.downloaded == sum(row["reason"] == "keep" for row in inside)
        assert split.kept == sum(row["verdict"] == "keep" for row in inside)


def test_histograms_hold_every_scored_pair_and_the_threshold_of_their_split(
    numbers: Statistics, rows: list[dict[str, Any]], defaults: Params
) -> None:
    scored = Counter(row["split"] for row in rows if not np.isnan(row["similarity"]))
    kept = Counter(row["split"] for row in rows if row["verdict"] == "keep")
    for histogram in numbers.similarity:
        assert sum(histogram.kept) == kept[histogram.split]
        assert sum(histogram.kept) + sum(histogram.dropped) == scored[histogram.split]
        assert histogram.threshold == getattr(defaults.filter.similarity, histogram.split)
        assert len(histogram.edges) == defaults.report.histogram_bins + 1
        assert (histogram.edges[0], histogram.edges[-1]) == (-0.2, 1.0)


def test_languages_and_hosts_are_ranked_and_add_up(numbers: Statistics, rows: list[dict[str, Any]]) -> None:
    kept = sum(row["verdict"] == "keep" for row in rows)
    assert sum(language.kept for language in numbers.languages) == kept
    assert [row.scored for row in numbers.languages] == sorted((row.scored for row in numbers.languages), reverse=True)
    tries = Counter(row["host"] for row in rows)
    assert [host.attempts for host in numbers.hosts] == sorted(tries.values(), reverse=True)[: len(numbers.hosts)]
    assert numbers.hosts_total == len(tries)
    assert all(host.success == host.downloaded / host.attempts for host in numbers.hosts)


def test_safety_rates_are_over_downloaded_images_whatever_dropped_them(
    numbers: Statistics, rows: list[dict[str, Any]], version: tuple[Path, dict[str, Any]]
) -> None:
    rates = {(rate.name, rate.split): rate for rate in numbers.safety}
    downloaded = [row for row in rows if row["reason"] == "keep"]
    for split in ("en", "multi", "nolang"):
        inside = [row for row in downloaded if row["split"] == split]
        assert rates["unsafe_of_scored", split].count == sum(row["punsafe"] > 0.5 for row in inside)
        assert rates["watermark_of_scored", split].count == sum(row["pwatermark"] > 0.8 for row in inside)
        assert rates["unsafe_of_scored", split].total == len(inside)
    assert rates["listed_of_received", "all"].count == sum(row["verdict"] == "listed_hash" for row in rows)
    assert rates["opt_out_robots_of_attempts", "all"].count == sum(row["reason"] == "robots" for row in rows)
    assert rates["opt_out_of_attempts", "all"].total == len(rows)
    opt_outs = version[1]["extract"]["links"]["dropped"]["page_opt_out"]
    assert rates["page_opt_out_of_links", "all"].count == opt_outs
    assert ("page_opt_out_of_links", "en") not in rates
    removed = version[1]["catalog"]["pairs"]["dropped"]
    later = sum(row["verdict"] in {"removed_hash", "removed_later"} for row in rows)
    assert rates["removed_of_pairs", "all"].count == removed["removed_url"] + removed["removed_domain"] + later
    for rate in numbers.safety:
        assert rate.low <= (rate.rate or 0) <= rate.high


def test_opt_outs_that_are_recorded_but_do_not_bind_are_counted(tmp_path: Path, defaults: Params) -> None:
    data, metrics = sample_version.write(tmp_path, links=60, shards=1)
    images = data / "download" / "00000.parquet"
    kept = next(row for row in pq.read_table(images).to_pylist() if row["reason"] == "keep")
    before = {
        (rate.name, rate.split): rate.count
        for rate in summary.collect(data, defaults, sample_version.load_metrics(metrics)).safety
    }
    sample_version.change(images, kept["uid"], {"rights": "refused", "rights_signal": "content_usage"})
    pairs = data / "extract" / "pairs" / "00.parquet"
    sample_version.change(pairs, kept["uid"], {"page_signals": "noai"})
    after = {
        (rate.name, rate.split): rate.count
        for rate in summary.collect(data, defaults, sample_version.load_metrics(metrics)).safety
    }
    signal = "opt_out_content_usage_of_attempts", "all"
    assert after[signal] == before[signal] + 1
    assert after["page_opt_out_of_links", "all"] > before["page_opt_out_of_links", "all"]


def test_sizes_are_those_of_kept_pairs(numbers: Statistics, rows: list[dict[str, Any]]) -> None:
    for size in numbers.sizes:
        inside = [row for row in rows if row["verdict"] == "keep" and row["split"] == size.split]
        assert size.pairs == len(inside)
        if size.measure == "width":
            widths = [row["original_width"] for row in inside]
            assert size.percentiles[2] == np.percentile(widths, 50, method="inverted_cdf")


def test_the_numbers_are_plain_json_without_nan(numbers: Statistics) -> None:
    assert json.loads(json.dumps(numbers.as_dict(), allow_nan=False))["splits"]


def test_a_version_without_pairs_has_numbers_too(tmp_path: Path, defaults: Params) -> None:
    data, _ = sample_version.write(tmp_path, links=40, shards=1)
    for stage in ("download", "score", "filter"):
        for path in (data / stage).glob("0*.parquet"):
            path.unlink()
    numbers = summary.collect(data, defaults, {})
    assert numbers.hosts == ()
    assert next(rate for rate in numbers.safety if rate.name == "unsafe_of_scored").rate is None
