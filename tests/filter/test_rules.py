"""Each rule below, at and above its limit; the first rule that drops names the reason, and every one leaves its bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.places import ROOT
from made.texts.listing import index
from made.versions import judging, tables

from laion_dask import params
from laion_dask.blocklists import known_lists
from laion_dask.filter import part, rules, uid_sets
from laion_dask.schema.reasons import KEEP, NAMED_BITS, REASONS, RULE_BITS

NAN = float("nan")
SHA256 = "b" * 64


@pytest.fixture(scope="module")
def removed(tmp_path_factory: pytest.TempPathFactory) -> rules.Files:
    """Removals of two images, by sha256."""
    folder = tmp_path_factory.mktemp("removed")
    return rules.Files(str(folder), removed=[known_lists.of_digests("sha256", {"c" * 64, SHA256}, folder)])


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
        ({}, {"similarity": None}, "low_similarity"),
        ({}, {"punsafe": NAN, "pwatermark": NAN, "aesthetic": NAN}, KEEP),
        ({}, {"punsafe": None, "pwatermark": None}, KEEP),
        ({}, {"aesthetic": -5.0}, KEEP),
        ({"sha256": "c" * 64}, {}, "removed_hash"),
        ({"md5": "c" * 32}, {}, KEEP),
    ],
)
def test_a_row_ends_as_its_rule_says(
    removed: rules.Files, image: dict[str, Any], score: dict[str, Any], expected: str
) -> None:
    assert judging.verdicts(tables.images(image), tables.scores(score), files=removed) == [expected]


LIMITS: dict[str, Any] = {"name": "own", "column": "aesthetic"}


@pytest.mark.parametrize(
    ("change", "image", "score", "expected"),
    [
        ({"min_chars": 6}, {"caption": "a b c"}, {}, "few_chars"),
        ({"min_chars": 6}, {"caption": "a b cd"}, {}, KEEP),
        ({"min_chars": 6}, {"caption": "é ü ñ"}, {}, "few_chars"),
        ({"min_bytes": 5000}, {"bytes": 4999}, {}, "few_bytes"),
        ({"min_bytes": 5000}, {"bytes": 5000}, {}, KEEP),
        ({"languages": ("en", "de")}, {"language": "de"}, {}, KEEP),
        ({"languages": ("en",)}, {"language": "de"}, {}, "language"),
        ({"languages": ("en",)}, {"language": ""}, {}, "language"),
        ({"max_punsafe": 1.0}, {}, {"punsafe": 1.0}, KEEP),
        ({"max_pwatermark": 1.0}, {}, {"pwatermark": 1.0}, KEEP),
        ({"max_aspect_ratio": 1e6, "min_side_px": 0}, {"original_width": 5000, "original_height": 1}, {}, KEEP),
        ({"thresholds": [{**LIMITS, "min": 4.1}]}, {}, {"aesthetic": 4.1}, KEEP),
        ({"thresholds": [{**LIMITS, "min": 4.1}]}, {}, {"aesthetic": just(4.1, 0)}, "threshold"),
        ({"thresholds": [{**LIMITS, "above": 4.1}]}, {}, {"aesthetic": 4.1}, "threshold"),
        ({"thresholds": [{**LIMITS, "above": 4.1}]}, {}, {"aesthetic": just(4.1, 9)}, KEEP),
        ({"thresholds": [{**LIMITS, "max": 4.1}]}, {}, {"aesthetic": 4.1}, KEEP),
        ({"thresholds": [{**LIMITS, "max": 4.1}]}, {}, {"aesthetic": just(4.1, 9)}, "threshold"),
        ({"thresholds": [{**LIMITS, "below": 4.1}]}, {}, {"aesthetic": 4.1}, "threshold"),
        ({"thresholds": [{**LIMITS, "min": 2, "max": 3}]}, {}, {"aesthetic": 2.5}, KEEP),
        ({"thresholds": [{**LIMITS, "min": 2, "max": 3}]}, {}, {"aesthetic": 3.5}, "threshold"),
        ({"thresholds": [{**LIMITS, "min": 2}]}, {}, {"aesthetic": NAN}, "threshold"),
        ({"thresholds": [{**LIMITS, "min": 2, "missing": "keep"}]}, {}, {"aesthetic": NAN}, KEEP),
        ({"thresholds": [{**LIMITS, "min": 2, "missing": "keep"}]}, {}, {"aesthetic": None}, KEEP),
        ({"thresholds": [{**LIMITS, "min": 9, "splits": ["multi"]}]}, {}, {}, KEEP),
        ({"thresholds": [{**LIMITS, "min": 9, "splits": ["multi"]}]}, {"split": "multi"}, {}, "threshold"),
        ({"thresholds": [{"name": "w", "column": "original_width", "min": 1024}]}, {}, {}, "threshold"),
        ({"thresholds": [{"name": "w", "column": "original_width", "min": 640}]}, {}, {}, KEEP),
        ({"where": "aesthetic > 5 and original_width > 600"}, {}, {}, KEEP),
        ({"where": "aesthetic > 6"}, {}, {}, "where"),
        ({"where": "aesthetic > 5"}, {}, {"aesthetic": NAN}, "where"),
    ],
)
def test_a_row_ends_as_a_further_rule_says(
    change: dict[str, Any], image: dict[str, Any], score: dict[str, Any], expected: str
) -> None:
    own = {} if "caption" in image else {"caption": "three more words"}
    found = judging.verdicts(tables.images(own | image), tables.scores(score), judging.changed(min_words=0, **change))
    assert found == [expected]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"md5": "a" * 32}, "listed_later"),
        ({"sha256": "b" * 64}, "listed_later"),
        ({"pdq": "0" * 64, "pdq_quality": 50}, "listed_later"),
        ({"pdq": "f" * 7 + "0" * 57, "pdq_quality": 50}, "listed_later"),
        ({"pdq": "f" * 8 + "0" * 56, "pdq_quality": 50}, KEEP),
        ({"pdq": "0" * 64, "pdq_quality": 49}, KEEP),
        ({"pdq": None, "pdq_quality": None}, KEEP),
        ({"md5": "b" * 32}, KEEP),
        ({"md5": "a" * 32, "sha256": "c" * 64}, "removed_hash"),
    ],
)
def test_an_image_of_a_list_that_came_after_the_download_goes(
    tmp_path: Path, removed: rules.Files, image: dict[str, Any], expected: str
) -> None:
    entries = {"md5": "a" * 32, "sha256": "b" * 64, "pdq": "0" * 64}
    listed = tuple(index(tmp_path, kind, entry, name=kind) for kind, entry in entries.items())
    files = rules.Files(
        "both", removed=() if "sha256" in image and image["sha256"] == SHA256 else removed.removed, listed=listed
    )
    assert judging.verdicts(tables.images(image), tables.scores({}), judging.RULES, files=files) == [expected]


@pytest.mark.parametrize(
    ("text", "punsafe", "expected"),
    [
        ("a forbidden thing here", 0.96, "unsafe_keyword"),
        ("a Forbidden, thing here", 0.96, "unsafe_keyword"),
        ("a forbidden thing here", 0.95, KEEP),
        ("a forbiddenly thing here", 0.96, KEEP),
        ("two  listed words? a phrase", 0.99, "unsafe_keyword"),
        ("the Forbidden's house, a_forbidden.jpg", 0.99, "unsafe_keyword"),
        ("a forbidden thing here", NAN, KEEP),
    ],
)
def test_a_listed_word_drops_only_what_is_unsafe_by_far(
    tmp_path: Path, text: str, punsafe: float, expected: str
) -> None:
    (tmp_path / "words.txt").write_text("forbidden\n\na phrase\n")
    change = {"keywords": {"file": str(tmp_path / "words.txt"), "above_punsafe": 0.95}, "max_punsafe": 1.0}
    images, scores = tables.images({"caption": text}), tables.scores({"punsafe": punsafe})
    assert judging.verdicts(images, scores, judging.changed(**change), files=rules.Files(str(tmp_path))) == [expected]


def test_a_text_needs_a_token_out_of_the_entities_just_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "nouns.txt").write_text("fox\ndog\n")
    texts = ["a red fox", "a red Fox", "a fox, red", "", "dog", "\tdog\n"]
    change = judging.changed(text_entities=str(tmp_path / "nouns.txt"), min_words=0)
    images = tables.images(*({"caption": text} for text in texts))
    found = judging.verdicts(images, tables.scores(*({} for _ in texts)), change, files=rules.Files(str(tmp_path)))
    assert found == [KEEP, "no_entity", "no_entity", "no_entity", KEEP, KEEP]


def test_laion400m_drops_what_its_tag_names() -> None:
    scores = tables.scores({}, {}, {}).append_column("laion400m_drop", pa.array(["", "words", None]))
    images = tables.images({}, {}, {})
    assert judging.verdicts(images, scores, judging.changed(laion400m="drop")) == [KEEP, "laion400m", KEEP]
    assert judging.verdicts(images, scores, judging.changed(laion400m="keep")) == [KEEP, KEEP, KEEP]


def test_sets_of_uids_intersect_and_subtract(tmp_path: Path) -> None:
    def subset(name: str, *numbers: int) -> Path:
        uid_sets.write(tmp_path / name, pa.array([tables.uid(number) for number in numbers]))
        return tmp_path / name

    files = rules.Files(
        str(tmp_path), keep_uids=(subset("a.npy", 0, 1, 2), subset("b.npy", 1, 2, 9)), drop_uids=(subset("c.npy", 2),)
    )
    images, scores = tables.images({}, {}, {}, {}), tables.scores({}, {}, {}, {})
    found, names = judging.decide(images, scores, files=files)
    assert found == ["not_in_set", KEEP, "in_excluded_set", "not_in_set"]
    assert names[3] == {"not_in_set"}


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "removed_hash": ({"sha256": SHA256}, {}),
    "few_bytes": ({"bytes": 9}, {}),
    "image_too_small": ({"original_height": 190}, {}),
    "aspect_ratio": ({"original_width": 2000}, {}),
    "few_words": ({"caption": "words"}, {}),
    "language": ({"language": "de"}, {}),
    "unsafe": ({}, {"punsafe": 0.9}),
    "watermark": ({}, {"pwatermark": 0.9}),
    "low_similarity": ({}, {"similarity": 0.1}),
    "threshold": ({}, {"aesthetic": 1.0}),
    "where": ({"original_width": 2000}, {}),
}
ALL = {
    "max_aspect_ratio": 4.0,
    "min_bytes": 10,
    "languages": ("en",),
    "thresholds": [{"name": "beauty", "column": "aesthetic", "min": 2}],
    "where": "original_width < 1000",
}


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(WRONG)), min_size=1, unique=True))
def test_the_first_rule_that_drops_names_the_reason_and_all_leave_their_bits(
    removed: rules.Files, wrong: list[str]
) -> None:
    image: dict[str, Any] = {}
    score: dict[str, Any] = {}
    for reason in wrong:
        image |= WRONG[reason][0]
        score |= WRONG[reason][1]
    # An image of 2,000 px breaks two rules.
    found = {*wrong} | ({"aspect_ratio", "where"} if image.get("original_width") else set())
    reasons, names = judging.decide(tables.images(image), tables.scores(score), judging.changed(**ALL), removed)
    assert reasons == [next(reason for reason in REASONS["filter"] if reason in found)]
    assert names == [{"threshold_beauty" if reason == "threshold" else reason for reason in found}]


def test_every_fixed_rule_has_a_bit_of_its_own_below_those_with_a_name() -> None:
    assert len({*RULE_BITS.values()}) == len(RULE_BITS)
    assert max(RULE_BITS.values()) < NAMED_BITS
    assert {*RULE_BITS} | {"threshold", "below_top"} == {*REASONS["filter"]}
    named = judging.changed(
        thresholds=[{"name": f"t{number}", "column": "aesthetic", "min": 1} for number in range(16)],
        top=[{"name": f"t{number}", "column": "aesthetic", "fraction": 0.5} for number in range(8)],
    )
    bits = [bit for _, bit in rules.bits(named).values()]
    assert len({*bits}) == len(bits)
    assert max(bits) < 64


def test_rows_that_failed_at_download_keep_their_reason_and_have_no_bits() -> None:
    images = tables.images({"reason": "robots"}, {}, {"reason": "not_an_image", "caption": "x"})
    nothing = {"similarity": NAN, "aesthetic": NAN, "punsafe": NAN, "pwatermark": NAN}
    found, names = judging.decide(images, tables.scores(nothing, {}, nothing))
    assert found == ["robots", KEEP, "not_an_image"]
    assert names == [set(), set(), set()]


def test_scores_are_joined_by_uid_whatever_their_order() -> None:
    images = tables.images({}, {}, {})
    scores = tables.scores({"similarity": 0.1}, {"punsafe": 0.9}, {}, {"similarity": NAN})
    expected = ["low_similarity", "unsafe", KEEP]
    assert judging.verdicts(images, scores) == expected
    assert judging.verdicts(images, scores.take([3, 1, 2, 0])) == expected
    assert judging.verdicts(images.take([2, 0, 1]), scores.take([1, 0, 3, 2])) == [KEEP, "low_similarity", "unsafe"]


def test_a_missing_score_stops_the_stage() -> None:
    with pytest.raises(ValueError, match="1 pairs have no row in the scores: run the stage score again"):
        part.join(tables.images({}, {}), tables.scores({}))


def test_an_empty_shard_has_no_verdicts() -> None:
    assert judging.verdicts(tables.images(), tables.scores(), judging.changed(**ALL)) == []


def test_only_the_columns_that_a_rule_reads_are_read() -> None:
    known = [*tables.images().column_names, "similarity", "punsafe", "pwatermark", "aesthetic"]
    bare = judging.changed(min_words=0, min_side_px=0, max_aspect_ratio=1e6, max_punsafe=1.0, max_pwatermark=1.0)
    assert set(rules.columns(bare, known, judging.NOTHING)) == {"uid", "split", "reason", "similarity"}
    more = bare.model_copy(update={"min_words": 3, "where": "Aesthetic > 5 and md5 <> ''"})
    assert set(rules.columns(more, known, judging.NOTHING)) == {
        "uid", "split", "reason", "similarity", "caption", "aesthetic", "md5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [{"name": "a", "column": "aesthetic"}]}, "has no limit. Remedy: min, above, max or below"),
        ({"thresholds": [{**LIMITS, "min": 2, "below": 1}]}, "2 is above 1: no pair could be kept"),
        ({"thresholds": [{**LIMITS, "min": 2}] * 2}, "own is used twice"),
        ({"top": [{"name": "a", "column": "b", "fraction": 0}]}, "greater than 0"),
        ({"computed": [{"column": "n", "kind": "normsim", "model": "m"}]}, "Remedy: add targets"),
        ({"computed": [{"column": "n", "kind": "negcliploss", "model": "m", "norm": 2}]}, "Remedy: add batch"),
        ({"languages": []}, "at least 1"),
        ({"keywords": {"file": "words.txt"}}, "filter.keywords.above_punsafe is missing"),
        ({"image_based": {"model": "demo"}}, "filter.image_based.centroids is missing"),
        ({"balance": {"entries": "entries.txt", "t": 20}}, "filter.balance.seed is missing"),
        ({"thresholds": [{**LIMITS, "column": "b; c", "min": 1}]}, "filter.thresholds.0.column = 'b; c'"),
        ({"computed": [{"column": "n", "kind": "cosine", "model": "m"}]}, "filter.computed.0.kind = 'cosine'"),
        ({"balance": {"entries": "x", "t": 0, "seed": 1}}, "greater than or equal to 1"),
    ],
)
def test_absurd_rules_are_refused(change: dict[str, Any], message: str) -> None:
    values = params.load(ROOT / "params.yaml").model_dump(mode="json")
    values["filter"] |= change
    with pytest.raises(params.ParamsError, match=message):
        params.parse(values)
