"""The card's rates are those of the report."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.release import rate_lines
from laion_dask.release.rate_lines import RateRow, cell
from laion_dask.statistics import rates
from laion_dask.statistics.intervals import Share


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data, _ = sample_version.write(tmp_path_factory.mktemp("version"), links=300)
    # Signals that are recorded and do not bind, and a reason that comes before the filter.
    images = data / "download" / "00000.parquet"
    for place, row in enumerate(pq.read_table(images).to_pylist()):
        if row["reason"] == "keep" and place % 40 < 2:
            sample_version.change(images, row["uid"], {"rights": "refused", "rights_signal": "c2pa"})
        if row["reason"] == "keep" and place % 40 == 3:
            sample_version.change(images, row["uid"], {"page_signals": "noai"})
    return data


def test_every_share_of_the_card_is_that_of_the_report(version: Path, defaults: Params) -> None:
    found = rate_lines.measure(version, defaults.filter)
    hosts = [row.group for row in found if row.by == "host"]
    reported = {
        (one.by, one.group, one.measure): Share(one.count, one.total, one.rate, one.low, one.high)
        for one in rates.collect(version, defaults, hosts).groups
    }
    shares = {(row.by, row.group, name): share for row in found for name, share in row.shares.items() if share.total}
    assert {by for by, _, _ in shares} == {"split", "language", "host"}
    assert {name: share for name, share in shares.items() if reported.get(name) != share} == {}
    held = {name for (_, group, name), share in shares.items() if group == "all" and share.count}
    assert held >= {
        *("unsafe_of_scored", "watermark_of_scored", "listed_of_received", "opt_out_of_attempts"),
        *("opt_out_robots_of_attempts", "opt_out_c2pa_of_attempts", "page_opt_out_of_attempts", "removed_of_pairs"),
    }


def test_languages_and_hosts_are_those_that_most_was_asked_of(version: Path, defaults: Params) -> None:
    asked = [
        row for path in sorted((version / "download").glob("0*.parquet")) for row in pq.read_table(path).to_pylist()
    ]
    found = rate_lines.measure(version, defaults.filter)
    for by in ("language", "host"):
        counts = Counter(row[by] or "nolang" for row in asked)
        rows = [(row.group, row.attempts) for row in found if row.by == by]
        assert rows == sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:5]


def test_a_signal_that_does_not_occur_has_no_line_and_what_was_not_looked_at_no_share(
    version: Path, defaults: Params
) -> None:
    lines = dict(rate_lines.by_split(rate_lines.measure(version, defaults.filter)))
    assert "- by `robots`" in lines
    assert "- by `content_usage`" not in lines
    assert cell(Share.of(0, 0)) == ""
    assert cell(Share.of(1, 8)) == "12.50 % (2.24 to 47.09)"
    assert rate_lines.by_split([]) == []
    assert rate_lines.by_split([RateRow("language", "en", 3, {})]) == []


def test_a_version_without_shards_has_no_rates(tmp_path: Path, defaults: Params) -> None:
    (tmp_path / "download").mkdir()
    assert rate_lines.measure(tmp_path, defaults.filter) == []
