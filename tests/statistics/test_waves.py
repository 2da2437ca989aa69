"""What each crawl brought: every pair of the work list is counted once, under its crawl, as alive or dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import tables

from laion_dask.schema.reasons import KEEP, REASON_STAGE, REASONS
from laion_dask.schema.values import SIGNALS
from laion_dask.statistics import waves
from laion_dask.storage import attempts

FIRST, SECOND = "CC-MAIN-2024-22", "CC-MAIN-2024-26"


def counts(*found: tuple[str, int, int, int, int]) -> dict[str, Any]:
    names = ("pairs", "new", "repeated", "shards")
    return {"catalog": {"waves": {crawl: dict(zip(names, numbers, strict=True)) for crawl, *numbers in found}}}


def build(data: Path, *shards: tuple[str, list[str]]) -> Path:
    """Write a shard for each crawl and its reasons: of the download, or of the filter for what was downloaded."""
    number = 0
    for shard, (crawl, reasons) in enumerate(shards):
        images, verdicts = [], []
        for reason in reasons:
            uid = tables.uid(number := number + 1)
            downloaded = REASON_STAGE.get(reason) != "download"
            # The download stores nothing of what a list of known content withholds, its crawl neither.
            held = "" if reason in {"listed_hash", "listed_address"} else crawl
            images.append({"uid": uid, "crawl": held, "reason": KEEP if downloaded else reason})
            verdicts.append({"uid": uid, "shard": shard, "reason": reason})
        tables.write(data / "download" / f"{shard:05}.parquet", tables.images(*images))
        tables.write(data / "filter" / f"{shard:05}.parquet", tables.verdicts(*verdicts))
    return data


def test_crawls_are_counted_in_their_order_with_links_by_what_became_of_them(tmp_path: Path) -> None:
    # A later crawl may have a name that sorts before that of an earlier one.
    data = build(
        tmp_path,
        (SECOND, [KEEP, "low_similarity", "robots", "not_found", "timeout"]),
        (SECOND, [KEEP, "listed_hash", "not_an_image"]),
        (FIRST, [KEEP, "tdmrep", "host_budget"]),
    )
    found = waves.collect(data, counts((SECOND, 20, 9, 0, 2), (FIRST, 7, 3, 2, 1)))
    assert found == (
        waves.Wave(SECOND, 20, 9, 0, 8, 3, {"refused": 1, "gone": 2, "unreachable": 1, "listed": 1}, 2),
        waves.Wave(FIRST, 7, 3, 2, 3, 1, {"refused": 1, "gone": 0, "unreachable": 1, "listed": 0}, 1),
    )
    waves.write(tmp_path / waves.NAME, found)
    assert waves.read(tmp_path / waves.NAME) == found
    assert waves.metrics(found)[f"waves.{FIRST}.repeated"] == 2


REASON = st.sampled_from([KEEP, *REASONS["download"], *REASONS["filter"]])


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([FIRST, SECOND]), st.lists(REASON, max_size=9)), min_size=1, max_size=4))
def test_alive_and_dead_make_up_what_was_asked_for(
    tmp_path_factory: pytest.TempPathFactory, shards: list[tuple[str, list[str]]]
) -> None:
    shards.sort(key=lambda shard: shard[0])
    data = build(tmp_path_factory.mktemp("data"), *shards)
    of_first = sum(crawl == FIRST for crawl, _ in shards)
    counted = counts((FIRST, 9, 9, 0, of_first), (SECOND, 9, 9, 0, len(shards) - of_first))
    for wave in waves.collect(data, counted):
        reasons = [reason for crawl, of in shards for reason in of if crawl == wave.crawl]
        assert wave.asked == len(reasons) == wave.alive + sum(wave.dead.values())
        assert wave.kept == reasons.count(KEEP) <= wave.alive


def test_a_version_whose_catalog_has_not_counted_by_crawl_has_none(tmp_path: Path) -> None:
    data = build(tmp_path, (FIRST, [KEEP]))
    assert waves.collect(data, {"catalog": {"pairs": {}}}) == waves.collect(data, {}) == ()


def test_a_crawl_without_a_new_pair_and_a_version_without_shards_count_zeros(tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    (found,) = waves.collect(tmp_path, counts((FIRST, 4, 0, 4, 0)))
    assert (found.repeated, found.asked, found.alive, found.kept) == (4, 0, 0, 0)


def test_missing_verdicts_name_the_stage_to_run(tmp_path: Path) -> None:
    data = build(tmp_path, (FIRST, [KEEP]))
    (data / "filter" / "00000.parquet").unlink()
    with pytest.raises(attempts.MissingStageError, match="run the stage filter again"):
        waves.collect(data, counts((FIRST, 1, 1, 0, 1)))


def test_every_reason_of_the_download_is_in_one_group_and_no_other_reason_is() -> None:
    groups = {reason: waves.group_of(reason) for reason in (*REASON_STAGE, KEEP)}
    assert {reason for reason, group in groups.items() if group} == {*REASONS["download"]}
    assert {groups[signal] for signal in SIGNALS} == {waves.REFUSED}
    assert {groups[name] for name in ("not_found", "http_error", "not_an_image", "changed_bytes")} == {waves.GONE}
    assert {group for group in groups.values() if group} == {*waves.DEAD}
