"""Decisions judged against labels: right ones, and each way to be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.schema.reasons import REASON_STAGE
from laion_dask.statistics import truth
from laion_dask.statistics.truth import DecisionScore


def judge(data: Path, metrics: Path, settings: Params) -> dict[str, DecisionScore]:
    found = truth.decisions(data, settings, sample_version.load_metrics(metrics))
    return {decision.name: decision for decision in found}


def counts(decision: DecisionScore) -> tuple[int, int, int]:
    return decision.true_positives, decision.false_positives, decision.false_negatives


@pytest.fixture
def version(tmp_path: Path) -> tuple[Path, Path]:
    return sample_version.write(tmp_path, links=250, shards=1)


def labels(data: Path) -> list[dict[str, Any]]:
    return pq.read_table(data / "crawl" / "truth.parquet").to_pylist()


def test_every_reason_that_the_labels_know_is_judged_and_decided_rightly(
    version: tuple[Path, Path], defaults: Params
) -> None:
    data, metrics = version
    found = judge(data, metrics, defaults)
    expected = [row["expected"] for row in labels(data)]
    assert set(expected) <= set(found)
    for name in set(expected) - {"keep", *truth.DETECTORS}:
        assert counts(found[name]) == (expected.count(name), 0, 0), name
    assert list(found)[:3] == ["no_alt", "text_too_short", "page_opt_out"]
    for name in ("identity", "language", "split_en", "split_multi", "split_nolang"):
        assert found[name].precision == found[name].recall == 1


def test_detectors_are_judged_by_score_over_all_downloaded_images(version: tuple[Path, Path], defaults: Params) -> None:
    data, metrics = version
    images = pq.read_table(data / "download" / "00000.parquet").to_pylist()
    scores = {row["uid"]: row for row in pq.read_table(data / "score" / "00000.parquet").to_pylist()}
    got = [row["uid"] for row in images if row["reason"] == "keep"]
    truths = {row["uid"]: row for row in labels(data) if row["expected"] != "duplicate_pair"}
    unsafe = judge(data, metrics, defaults)["unsafe"]
    assert unsafe.judged == len(got)
    assert unsafe.true_positives == sum(scores[uid]["punsafe"] > 0.5 and truths[uid]["unsafe"] for uid in got)
    assert unsafe.false_negatives == sum(scores[uid]["punsafe"] <= 0.5 and truths[uid]["unsafe"] for uid in got)
    # An image that another rule drops first is judged all the same.
    small = next(uid for uid in got if truths[uid]["expected"] == "image_too_small" and scores[uid]["punsafe"] <= 0.5)
    sample_version.change(data / "score" / "00000.parquet", small, {"punsafe": 0.99})
    assert judge(data, metrics, defaults)["unsafe"].false_positives == unsafe.false_positives + 1


def test_a_pair_dropped_for_the_wrong_reason_is_missed_by_one_and_false_for_the_other(
    version: tuple[Path, Path], defaults: Params
) -> None:
    data, metrics = version
    before = judge(data, metrics, defaults)
    uid = next(row["uid"] for row in labels(data) if row["expected"] == "robots")
    sample_version.change(data / "filter" / "00000.parquet", uid, {"reason": "not_found"})
    after = judge(data, metrics, defaults)
    right, false, missed = counts(before["robots"])
    assert counts(after["robots"]) == (right - 1, false, missed + 1)
    right, false, missed = counts(before["not_found"])
    assert counts(after["not_found"]) == (right, false + 1, missed)


def test_a_pair_of_which_only_the_uid_is_written_is_known_by_its_first_link(
    version: tuple[Path, Path], defaults: Params
) -> None:
    data, metrics = version
    before = judge(data, metrics, defaults)
    uid = next(row["uid"] for row in labels(data) if row["expected"] == "not_found")
    # As download writes what stands on a list of known content.
    sample_version.change(data / "download" / "00000.parquet", uid, {"url": "", "wat": "", "page_url": ""})
    assert judge(data, metrics, defaults) == before


def test_a_pair_that_extract_lost_is_the_false_positive_of_the_reason_that_its_ledger_counts(
    version: tuple[Path, Path], defaults: Params
) -> None:
    data, metrics = version
    found = sample_version.load_metrics(metrics)
    path = data / "extract" / "pairs" / "00.parquet"
    uid = next(row["uid"] for row in labels(data) if row["expected"] == "not_found")
    table = pq.read_table(path)
    pq.write_table(table.filter([other != uid for other in table["uid"].to_pylist()]), path)
    found["extract"]["links"]["dropped"]["page_opt_out"] += 1
    after = {decision.name: decision for decision in truth.decisions(data, defaults, found)}
    assert after["page_opt_out"].false_positives == 1
    assert after["text_too_short"].false_positives == 0
    assert after["not_found"].false_negatives == 1
    assert after["identity"].false_negatives == 1


def test_a_reason_that_nobody_expected_is_shown_as_false(version: tuple[Path, Path], defaults: Params) -> None:
    data, metrics = version
    uid = next(row["uid"] for row in labels(data) if row["expected"] == "timeout")
    sample_version.change(data / "filter" / "00000.parquet", uid, {"reason": "redirects"})
    assert counts(judge(data, metrics, defaults)["redirects"]) == (0, 1, 0)
    assert judge(data, metrics, defaults)["redirects"].recall is None


def test_a_copy_whose_original_another_rule_took_is_no_duplicate_any_more(
    version: tuple[Path, Path], defaults: Params
) -> None:
    data, metrics = version
    images = pq.read_table(data / "download" / "00000.parquet").to_pylist()
    verdicts = {row["uid"]: row["reason"] for row in pq.read_table(data / "filter" / "00000.parquet").to_pylist()}
    copy = next(row for row in images if verdicts[row["uid"]] == "duplicate_image")
    original = next(row for row in images if row["sha256"] == copy["sha256"] and row["uid"] != copy["uid"])
    before = judge(data, metrics, defaults)["duplicate_image"]
    sample_version.change(data / "filter" / "00000.parquet", original["uid"], {"reason": "low_similarity"})
    sample_version.change(data / "filter" / "00000.parquet", copy["uid"], {"reason": "keep"})
    after = judge(data, metrics, defaults)["duplicate_image"]
    assert (after.false_positives, after.false_negatives) == (before.false_positives, before.false_negatives)
    assert after.true_positives == before.true_positives - 1


def test_a_copy_that_is_kept_beside_its_original_is_missed(version: tuple[Path, Path], defaults: Params) -> None:
    data, metrics = version
    uid = next(
        row["uid"]
        for row in pq.read_table(data / "filter" / "00000.parquet").to_pylist()
        if row["reason"] == "duplicate_image"
    )
    sample_version.change(data / "filter" / "00000.parquet", uid, {"reason": "keep"})
    assert judge(data, metrics, defaults)["duplicate_image"].false_negatives == 1


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["keep", "near_duplicate"], (1, 0, 0)),
        (["keep", "keep"], (0, 0, 1)),
        (["near_duplicate", "keep"], (0, 1, 1)),
        # Its original is gone by another rule: it may stay, and would be dropped wrongly.
        (["unsafe", "near_duplicate"], (0, 1, 0)),
    ],
)
def test_a_near_duplicate_is_judged_by_the_original_that_its_label_names(
    version: tuple[Path, Path], defaults: Params, verdicts: list[str], expected: tuple[int, int, int]
) -> None:
    data, metrics = version
    kept = {
        row["uid"] for row in pq.read_table(data / "filter" / "00000.parquet").to_pylist() if row["reason"] == "keep"
    }
    pair = sorted((row for row in labels(data) if row["uid"] in kept), key=lambda row: str(row["uid"]))[:2]
    sample_version.change(data / "crawl" / "truth.parquet", pair[1]["uid"], {"original": pair[0]["url"]})
    for row, verdict in zip(pair, verdicts, strict=True):
        sample_version.change(data / "filter" / "00000.parquet", row["uid"], {"reason": verdict})
    assert counts(judge(data, metrics, defaults)["near_duplicate"]) == expected


def test_a_wrong_uid_shows_as_an_error_of_identity(version: tuple[Path, Path], defaults: Params) -> None:
    data, metrics = version
    uid = next(row["uid"] for row in labels(data) if row["expected"] == "not_found")
    sample_version.change(data / "extract" / "pairs" / "00.parquet", uid, {"uid": "0" * 32})
    identity = judge(data, metrics, defaults)["identity"]
    assert (identity.false_positives, identity.false_negatives) == (1, 1)


def test_decisions_stand_in_the_order_of_the_stages(version: tuple[Path, Path], defaults: Params) -> None:
    # The language that was found is a decision too, beside the filter's rule of that name.
    found = [name for name in judge(*version, defaults) if name in REASON_STAGE and name != "language"]
    assert found == [reason for reason in REASON_STAGE if reason in found]


def test_without_labels_nothing_is_judged(version: tuple[Path, Path], defaults: Params) -> None:
    data, metrics = version
    (data / "crawl" / "truth.parquet").unlink()
    assert judge(data, metrics, defaults) == {}
