"""Numbers against thresholds: each rule below, at and above its limit; the first rule that drops names the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask import duplicates, params, schema, select
from laion_dask.select import HashListError, read_hash_lists
from laion_dask.verdict import KEEP, REASONS, Ledger

NONE: select.Hashes = {}
NAN = float("nan")
MD5, SHA256 = "a" * 32, "b" * 64

RULES = params.Filter(
    similarity=params.Similarity(en=0.28, multi=0.26, nolang=0.3),
    min_words=3,
    min_side_px=200,
    max_aspect_ratio=3.0,
    max_punsafe=0.5,
    max_pwatermark=0.8,
    hash_lists=(),
    duplicate_images="drop",
    near_duplicates="keep",
    near_max_distance=31,
    near_min_cosine=0.9,
    semantic_duplicates=None,
    evaluation_max_distance=None,
    evaluation_min_cosine=None,
)


def judge(
    images: pa.Table,
    scores: pa.Table,
    *,
    rules: params.Filter = RULES,
    listed: select.Hashes = NONE,
    removed: select.Hashes = NONE,
) -> list[str]:
    return list(select.judge(images, scores, rules, listed, removed))


def just(number: float, up: float) -> float:
    """Return the next single-precision number above or below: the scores are single."""
    return float(np.nextafter(np.float32(number), np.float32(up)))


@pytest.mark.parametrize(
    ("image", "score", "expected"),
    [
        ({}, {}, KEEP),
        ({"original_width": 199, "original_height": 400}, {}, "image_too_small"),
        ({"original_width": 400, "original_height": 199}, {}, "image_too_small"),
        ({"original_width": 200, "original_height": 200}, {}, KEEP),
        ({"original_width": 201, "original_height": 201}, {}, KEEP),
        ({"original_width": 600, "original_height": 200}, {}, KEEP),
        ({"original_width": 601, "original_height": 200}, {}, "aspect_ratio"),
        ({"original_width": 200, "original_height": 601}, {}, "aspect_ratio"),
        ({"original_width": 201, "original_height": 602}, {}, KEEP),
        ({"caption": "two words"}, {}, "few_words"),
        ({"caption": "  two \t words\n"}, {}, "few_words"),
        ({"caption": "just three words"}, {}, KEEP),
        ({"caption": "three\u2003wide\u00a0spaces"}, {}, KEEP),
        ({}, {"punsafe": just(0.5, 0)}, KEEP),
        ({}, {"punsafe": 0.5}, KEEP),
        ({}, {"punsafe": just(0.5, 1)}, "unsafe"),
        ({}, {"pwatermark": just(0.8, 0)}, KEEP),
        ({}, {"pwatermark": 0.8}, KEEP),
        ({}, {"pwatermark": just(0.8, 1)}, "watermark"),
        ({}, {"similarity": just(0.28, 0)}, "low_similarity"),
        ({}, {"similarity": 0.28}, KEEP),
        ({}, {"similarity": just(0.28, 1)}, KEEP),
        ({"split": "multi"}, {"similarity": 0.26}, KEEP),
        ({"split": "multi"}, {"similarity": just(0.26, 0)}, "low_similarity"),
        ({"split": "nolang"}, {"similarity": 0.29}, "low_similarity"),
        ({"split": "nolang"}, {"similarity": 0.3}, KEEP),
        ({}, {"similarity": NAN}, "low_similarity"),
        ({}, {"punsafe": NAN, "pwatermark": NAN, "aesthetic": NAN}, KEEP),
        ({}, {"aesthetic": -5.0}, KEEP),
        ({"md5": MD5}, {}, "listed_hash"),
        ({"sha256": SHA256}, {}, "listed_hash"),
        ({"sha256": "c" * 64}, {}, "removed_hash"),
        ({"md5": "c" * 32}, {}, KEEP),
    ],
)
def test_a_row_ends_as_its_rule_says(image: dict[str, Any], score: dict[str, Any], expected: str) -> None:
    listed = {"md5": frozenset({MD5}), "sha256": frozenset({SHA256})}
    removed = {"md5": frozenset[str](), "sha256": frozenset({"c" * 64})}
    assert judge(tables.images(image), tables.scores(score), listed=listed, removed=removed) == [expected]


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "removed_hash": ({"sha256": SHA256}, {}),
    "listed_hash": ({"md5": MD5}, {}),
    "image_too_small": ({"original_height": 100}, {}),
    "aspect_ratio": ({"original_width": 2000}, {}),
    "few_words": ({"caption": "words"}, {}),
    "unsafe": ({}, {"punsafe": 0.9}),
    "watermark": ({}, {"pwatermark": 0.9}),
    "low_similarity": ({}, {"similarity": 0.1}),
}


def wrong_in(reasons: list[str]) -> tuple[pa.Table, pa.Table]:
    image: dict[str, Any] = {}
    score: dict[str, Any] = {}
    for reason in reasons:
        image |= WRONG[reason][0]
        score |= WRONG[reason][1]
    return tables.images(image), tables.scores(score)


def test_the_rules_stand_in_the_order_of_the_closed_list() -> None:
    last = ["evaluation_set", "duplicate_image", "near_duplicate", "semantic_duplicate"]
    assert [*WRONG, *last] == list(REASONS["filter"])


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(WRONG)), min_size=1, unique=True))
def test_the_first_rule_that_drops_names_the_reason(reasons: list[str]) -> None:
    images, scores = wrong_in(reasons)
    found = judge(images, scores, listed={"md5": frozenset({MD5})}, removed={"sha256": frozenset({SHA256})})
    assert found == [next(reason for reason in REASONS["filter"] if reason in reasons)]


def test_rows_that_failed_at_download_keep_their_reason() -> None:
    images = tables.images({"reason": "robots"}, {}, {"reason": "not_an_image", "caption": "x"})
    nothing = {"similarity": NAN, "aesthetic": NAN, "punsafe": NAN, "pwatermark": NAN}
    assert judge(images, tables.scores(nothing, {}, nothing)) == ["robots", KEEP, "not_an_image"]


def test_scores_are_joined_by_uid_whatever_their_order() -> None:
    images = tables.images({}, {}, {})
    scores = tables.scores({"similarity": 0.1}, {"punsafe": 0.9}, {}, {"similarity": NAN})
    expected = ["low_similarity", "unsafe", KEEP]
    assert judge(images, scores) == expected
    assert judge(images, scores.take([3, 1, 2, 0])) == expected
    assert judge(images.take([2, 0, 1]), scores.take([1, 0, 3, 2])) == [KEEP, "low_similarity", "unsafe"]


def test_a_missing_score_stops_the_stage() -> None:
    with pytest.raises(ValueError, match="1 pairs have no row in the scores: run the stage score again"):
        judge(tables.images({}, {}), tables.scores({}))


def test_an_empty_shard_has_no_verdicts() -> None:
    assert judge(tables.images(), tables.scores()) == []


# Lists of known content


def test_hash_lists_hold_md5_and_sha256_with_comments(tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text(f"# a list\n\n{MD5.upper()}\n  {SHA256}  # from a partner\n")
    second.write_text(f"{'0' * 32}\r\n{MD5}\n")
    assert read_hash_lists([first, second]) == {"md5": {MD5, "0" * 32}, "sha256": {SHA256}}
    assert read_hash_lists([]) == {"md5": frozenset(), "sha256": frozenset()}


@pytest.mark.parametrize(
    "entry", ["f" * 31, "f" * 33, "e" * 40, "z" * 32, "é" * 16, f"{'f' * 32} {'f' * 32}", "secret"]
)
def test_a_bad_line_is_refused_by_number_and_never_shown(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "known.txt"
    path.write_text(f"{MD5}\n# fine so far\n{entry}\n", encoding="utf-8")
    with pytest.raises(HashListError) as refused:
        read_hash_lists([path])
    assert str(refused.value) == f"{path}:3: no md5 or sha256 in hex. Remedy: 32 or 64 hex digits a line"


def test_a_missing_list_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HashListError, match=r"which is missing\. Remedy: correct the path or take it out"):
        read_hash_lists([tmp_path / "none.txt"])


# One shard


def test_a_shard_gets_a_verdict_for_every_attempt_and_counts_those_with_an_image(tmp_path: Path) -> None:
    images = tables.images({}, {"reason": "robots"}, {"split": "multi"}, {"md5": MD5})
    scores = tables.scores({"punsafe": 0.9}, {"similarity": NAN}, {}, {})
    counts = select.select(
        tmp_path,
        name="00017",
        images=tables.write(tmp_path / "images", images),
        scores=tables.write(tmp_path / "scores", scores),
        groups=tables.write(tmp_path / "groups", tables.groups({}, {"uid": tables.uid(2)}, {"uid": tables.uid(3)})),
        settings=RULES,
        losers_file=tables.write(tmp_path / "losers", duplicates.LOSERS.empty_table()),
        listed={"md5": frozenset({MD5})},
        removed=NONE,
    )
    assert counts == {
        "pairs": {"seen": 3, "kept": 1, "dropped": {"listed_hash": 1, "unsafe": 1}},
        "verdicts": 4,
    }
    Ledger.from_dict(counts["pairs"]).check("filter", expected=3)
    verdicts = schema.VERDICTS.check(pq.read_table(tmp_path / "00017.parquet"))
    assert verdicts["reason"].to_pylist() == ["unsafe", "robots", KEEP, "listed_hash"]
    assert verdicts["uid"].to_pylist() == images["uid"].to_pylist()
    assert verdicts["split"].to_pylist() == ["en", "en", "multi", "en"]
    assert set(verdicts["shard"].to_pylist()) == {17}
