"""Numbers against thresholds: each rule below, at and above its limit; the first rule that drops names the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from listing import index

from laion_dask import known, params, schema, select
from laion_dask.list_params import KeywordList
from laion_dask.verdict import KEEP, REASONS, Ledger

NONE: select.Hashes = {}
NAN = float("nan")
MD5, SHA256, PDQ = "a" * 32, "b" * 64, "0" * 64

RULES = params.Filter(
    similarity=params.Similarity(en=0.28, multi=0.26, nolang=0.3),
    min_words=3,
    min_side_px=200,
    max_aspect_ratio=3.0,
    max_punsafe=0.5,
    max_pwatermark=0.8,
    keywords=(),
    keyword_punsafe=0.95,
    duplicate_images="drop",
)


def judge(
    images: pa.Table,
    scores: pa.Table,
    *,
    rules: params.Filter = RULES,
    listed: Sequence[known.Index] = (),
    removed: select.Hashes = NONE,
    winners: pa.Table | None = None,
) -> list[str]:
    empty = select.WINNERS.empty_table()
    return list(select.judge(images, scores, rules, listed, removed, empty if winners is None else winners))


def just(number: float, up: float) -> float:
    """Return the next single-precision number above or below: the scores are single."""
    return float(np.nextafter(np.float32(number), np.float32(up)))


@pytest.fixture(scope="module")
def with_words(tmp_path_factory: pytest.TempPathFactory) -> params.Filter:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("kid\n")
    changes = {"keywords": (KeywordList(name="words", file=str(path)),), "keyword_punsafe": 0.4}
    return RULES.model_copy(update=changes)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> known.Index:
    return index(tmp_path_factory.mktemp("lists"), "md5", MD5)


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
        ({"md5": MD5}, {}, "listed_later"),
        ({"sha256": SHA256}, {}, "listed_later"),
        ({"pdq": PDQ, "pdq_quality": 50}, {}, "listed_later"),
        ({"pdq": "f" * 7 + PDQ[7:], "pdq_quality": 50}, {}, "listed_later"),
        ({"pdq": "f" * 8 + PDQ[8:], "pdq_quality": 50}, {}, KEEP),
        ({"pdq": PDQ, "pdq_quality": 49}, {}, KEEP),
        ({"pdq": None, "pdq_quality": None}, {}, KEEP),
        ({"caption": "a kid on stage"}, {"punsafe": just(0.4, 1)}, "unsafe_keyword"),
        ({"caption": "a kid on stage"}, {"punsafe": 0.4}, KEEP),
        ({"caption": "a kidney on stage"}, {"punsafe": 0.45}, KEEP),
        ({"caption": "a kid on stage"}, {"punsafe": NAN}, KEEP),
        ({"sha256": "c" * 64}, {}, "removed_hash"),
        ({"md5": "c" * 32}, {}, KEEP),
    ],
)
def test_a_row_ends_as_its_rule_says(
    tmp_path: Path, with_words: params.Filter, image: dict[str, Any], score: dict[str, Any], expected: str
) -> None:
    entries = {"md5": MD5, "sha256": SHA256, "pdq": PDQ}
    listed = [index(tmp_path, kind, entry, name=kind) for kind, entry in entries.items()]
    removed = {"md5": frozenset[str](), "sha256": frozenset({"c" * 64})}
    images, scores = tables.images(image), tables.scores(score)
    assert judge(images, scores, rules=with_words, listed=listed, removed=removed) == [expected]


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "removed_hash": ({"sha256": SHA256}, {}),
    "listed_later": ({"md5": MD5}, {}),
    "image_too_small": ({"original_height": 100}, {}),
    "aspect_ratio": ({"original_width": 2000}, {}),
    "few_words": ({"caption": "kid"}, {}),
    "unsafe": ({}, {"punsafe": 0.9}),
    "unsafe_keyword": ({"caption": "a kid on stage"}, {"punsafe": 0.45}),
    "watermark": ({}, {"pwatermark": 0.9}),
    "low_similarity": ({}, {"similarity": 0.1}),
}


def wrong_in(reasons: list[str]) -> tuple[pa.Table, pa.Table]:
    image: dict[str, Any] = {}
    score: dict[str, Any] = {}
    for reason in reasons:
        image |= WRONG[reason][0]
        score |= WRONG[reason][1]
    # Of two rules about one number or text, both have to hold.
    image |= WRONG["few_words"][0] if "few_words" in reasons else {}
    score |= WRONG["unsafe"][1] if "unsafe" in reasons else {}
    return tables.images(image), tables.scores(score)


def test_the_rules_stand_in_the_order_of_the_closed_list() -> None:
    assert [*WRONG, "duplicate_image"] == list(REASONS["filter"])


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(WRONG)), min_size=1, unique=True))
def test_the_first_rule_that_drops_names_the_reason(
    listed: known.Index, with_words: params.Filter, reasons: list[str]
) -> None:
    images, scores = wrong_in(reasons)
    found = judge(images, scores, rules=with_words, listed=[listed], removed={"sha256": frozenset({SHA256})})
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


# Equal images


def shards(tmp_path: Path, images: pa.Table, scores: pa.Table) -> tuple[list[Path], list[Path]]:
    """Cut tables into shards of two rows; the scores lie in another order than the images."""
    found: tuple[list[Path], list[Path]] = ([], [])
    for number, start in enumerate(range(0, images.num_rows, 2)):
        found[0].append(tables.write(tmp_path / "images" / f"{number:05}.parquet", images.slice(start, 2)))
        uids = images.slice(start, 2)["uid"].to_pylist()
        rows = [row for row in reversed(scores.to_pylist()) if row["uid"] in uids]
        table = pa.Table.from_pylist(rows, schema=schema.SCORES.schema)
        found[1].append(tables.write(tmp_path / "scores" / f"{number:05}.parquet", table))
    return found


SAME, OTHER = {"sha256": "1" * 64}, {"sha256": "2" * 64}


def test_of_equal_images_the_lowest_uid_that_passes_stays(tmp_path: Path) -> None:
    rows = [
        {},
        {**SAME, "uid": tables.uid(9)},
        SAME,
        SAME,
        {**OTHER},
        {"reason": "timeout"},
        {**OTHER, "uid": tables.uid(1)},
    ]
    images = tables.images(*rows)
    scores = tables.scores(*({"uid": uid} for uid in images["uid"].to_pylist()))
    # Of the three, the lowest uid fails another rule.
    low = scores.to_pylist()
    low[2]["similarity"] = 0.0
    scores = pa.Table.from_pylist(low, schema=schema.SCORES.schema)
    paths = shards(tmp_path, images, scores)
    winners = select.winners(*paths, RULES, (), NONE)
    assert winners.to_pylist() == [
        {"sha256": "1" * 64, "uid": tables.uid(3)},
        {"sha256": "2" * 64, "uid": tables.uid(1)},
    ]
    assert judge(images, scores, winners=winners) == [
        KEEP,
        "duplicate_image",
        "low_similarity",
        KEEP,
        "duplicate_image",
        "timeout",
        KEEP,
    ]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=9))
def test_each_image_that_passes_is_kept_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, bool]]
) -> None:
    images = tables.images(*({"sha256": str(picture) * 64} for picture, _ in rows))
    scores = tables.scores(*({"punsafe": 0.1 if passes else 0.9} for _, passes in rows))
    winners = select.winners(*shards(tmp_path_factory.mktemp("shards"), images, scores), RULES, (), NONE)
    verdicts = judge(images, scores, winners=winners)
    for picture in range(3):
        found = [verdict for verdict, (own, passes) in zip(verdicts, rows, strict=True) if own == picture and passes]
        assert found == ([KEEP] + ["duplicate_image"] * len(found))[: len(found)]


def test_all_equal_images_stay_where_the_parameters_say_so(tmp_path: Path) -> None:
    images, scores = tables.images(SAME, SAME), tables.scores({}, {})
    keep = RULES.model_copy(update={"duplicate_images": "keep"})
    assert select.winners(*shards(tmp_path, images, scores), keep, (), NONE).num_rows == 0
    found = pa.table({"sha256": ["1" * 64], "uid": [tables.uid(0)]}, schema=select.WINNERS)
    assert judge(images, scores, rules=keep, winners=found) == [KEEP, KEEP]


@pytest.mark.parametrize("rows", [[], [{}, {}], [{"reason": "timeout"}, {"reason": "timeout"}]])
def test_without_equal_images_nobody_wins(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    paths = shards(tmp_path, tables.images(*rows), tables.scores(*rows and [{}, {}]))
    assert select.winners(*paths, RULES, (), NONE).equals(select.WINNERS.empty_table())


# One shard


def test_a_shard_gets_a_verdict_for_every_attempt_and_counts_those_with_an_image(tmp_path: Path) -> None:
    images = tables.images({}, {"reason": "robots"}, {"split": "multi"}, {"md5": MD5})
    scores = tables.scores({"punsafe": 0.9}, {"similarity": NAN}, {}, {})
    counts = select.select(
        tmp_path,
        name="00017",
        images=tables.write(tmp_path / "images", images),
        scores=tables.write(tmp_path / "scores", scores),
        settings=RULES,
        winners_file=tables.write(tmp_path / "winners", select.WINNERS.empty_table()),
        listed=[index(tmp_path, "md5", MD5), index(tmp_path, "md5", "9" * 32, name="other")],
        removed=NONE,
    )
    assert counts == {
        "pairs": {"seen": 3, "kept": 1, "dropped": {"listed_later": 1, "unsafe": 1}},
        "verdicts": 4,
        "listed": {"partner": 1, "other": 0},
    }
    Ledger.from_dict(counts["pairs"]).check("filter", expected=3)
    verdicts = schema.VERDICTS.check(pq.read_table(tmp_path / "00017.parquet"))
    assert verdicts["reason"].to_pylist() == ["unsafe", "robots", KEEP, "listed_later"]
    assert verdicts["uid"].to_pylist() == images["uid"].to_pylist()
    assert verdicts["split"].to_pylist() == ["en", "en", "multi", "en"]
    assert set(verdicts["shard"].to_pylist()) == {17}
