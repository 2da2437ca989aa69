"""Lists of entries by language, as MetaCLIP 2 finds and balances them."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import judging, over_all, tables

from laion_dask import params
from laion_dask.filter import over_all as over_all_rules
from laion_dask.filter.sampling import balance_lists
from laion_dask.filter.sampling.balance import EntriesError
from laion_dask.schema.reasons import KEEP

COUNTS = st.lists(st.integers(0, 400), min_size=1, max_size=40)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Lists of English, Chinese and all other languages."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "en.txt").write_text("fox\nunicorn\nnever\n")
    (folder / "zh.json").write_text(json.dumps(["狐", "UFO", "独角兽"]))
    (folder / "other.txt").write_text("renard\nlicorne\nlynx\n")
    return folder


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("a fox, a unicorn", "en", ("en", [0, 1])),
        (" fox ", "en", ("en", [0])),
        ("foxes", "en", ("en", [])),
        ("fox", "zh", ("zh", [])),
        ("一只红色的狐狸", "zh", ("zh", [0])),
        ("独角兽和UFO", "zh", ("zh", [2])),
        ("独角兽 UFO", "zh", ("zh", [1, 2])),
        ("un renard", "fr", ("other", [0])),
        ("un renard", "", ("other", [0])),
        ("un renard", None, ("other", [0])),
    ],
)
def test_a_text_is_searched_for_the_entries_of_its_language(
    lists: Path, text: str, language: str | None, found: tuple[str, list[int]]
) -> None:
    names, entries = balance_lists.find(lists, "digest", [text], [language])
    assert (names.to_pylist(), entries.to_pylist()) == ([found[0]], [found[1]])


def test_without_a_list_for_the_rest_such_texts_have_no_entry(lists: Path) -> None:
    (lists / "other.txt").unlink()
    names, entries = balance_lists.find(lists, "digest", ["un renard", "fox"], ["fr", "en"])
    assert (names.to_pylist(), entries.to_pylist()) == (["other", "en"], [[], [0]])


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("fox", " fox "),
        ("狐", "狐"),
        ("T恤", " T恤"),
        ("恤T", "恤T "),
        ("(fox)", "(fox)"),
        ("แมว", "แมว"),
        ("《a", "《a "),
    ],
)
def test_an_entry_needs_a_space_where_it_does_not_begin_or_end_with_a_mark_or_an_unspaced_script(
    entry: str, expected: str
) -> None:
    assert balance_lists.pattern(entry) == expected


def published(counts: dict[str, list[int]], t: int) -> dict[str, int]:
    """Compute the thresholds entry by entry, as curate.py describes them: t_to_p of English, p_to_t of the others."""
    tail = sum(one for one in counts["en"] if one < t) / sum(counts["en"])
    found = {"en": t}
    for language in counts.keys() - {"en"}:
        ordered, best = sorted(counts[language]), (float("inf"), 0)
        for place in range(len(ordered)):
            distance = abs(sum(ordered[: place + 1]) / sum(ordered) - tail)
            best = min(best, (distance, place), key=lambda one: one[0])
            found[language] = ordered[best[1]]
    return found


def test_the_tail_of_english_gives_the_thresholds_of_the_others() -> None:
    # 30 of 130 matches in English fall on entries of fewer than 20 pairs; in Chinese 10 of 50 is nearest to that share.
    counts = {"en": [10, 20, 100, 0], "zh": [40, 4, 6], "de": [7]}
    tail, t = balance_lists.thresholds({name: np.array(found) for name, found in counts.items()}, 20)
    assert tail == pytest.approx(10 / 130)
    assert t == {"en": 20, "zh": 4, "de": 7} == published(counts, 20)


@settings(max_examples=60)
@given(COUNTS.filter(any), st.dictionaries(st.sampled_from(["de", "zh"]), COUNTS.filter(any)), st.integers(1, 300))
def test_thresholds_are_those_of_the_published_formula(
    english: list[int], others: dict[str, list[int]], t: int
) -> None:
    counts = {"en": english, **others}
    _, found = balance_lists.thresholds({name: np.array(one) for name, one in counts.items()}, t)
    assert found == published(counts, t)


def test_where_no_text_has_an_entry_there_is_nothing_to_balance() -> None:
    assert balance_lists.thresholds({}, 20) == (0.0, {})
    assert balance_lists.thresholds({"de": np.array([0])}, 20) == (0.0, {"de": 20})


@pytest.mark.parametrize("counts", [{"de": np.array([3])}, {"en": np.array([0, 0]), "de": np.array([3])}])
def test_without_english_matches_there_is_no_tail(counts: dict[str, np.ndarray]) -> None:
    with pytest.raises(EntriesError, match=r"no English pair has an entry.*Remedy: entries"):
        balance_lists.thresholds(counts, 20)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no lists"),
        (["de.txt"], "has no list for English"),
        (["en.md"], "has no lists"),
        (["en.json", "en.txt"], "has two files for en"),
    ],
)
def test_a_folder_that_is_none_of_lists_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text("fox\n")
    with pytest.raises(EntriesError, match=rf"{message}.*Remedy: a file for each language"):
        balance_lists.files(tmp_path)


TEXTS = {
    "en": ["a fox", "a unicorn", "a fox and a unicorn", "nothing"],
    "zh": ["狐狸", "独角兽", "没有"],
    "fr": ["renard"],
}
RARE = {"a unicorn", "独角兽"}


def pool_of_pairs(size: int) -> tuple[pa.Table, pa.Table]:
    """Make pairs in three languages, the first text of each nine times as often as the others."""
    rng = random.Random(5)
    rows = []
    for number in range(size):
        language = rng.choice([*TEXTS])
        text = rng.choices(TEXTS[language], [9, *(1 for _ in TEXTS[language][1:])])[0]
        rows.append({"uid": f"{rng.getrandbits(128):032x}", "caption": text, "language": language, "slot": number})
    images = tables.images(*({key: row[key] for key in ("uid", "caption", "language")} for row in rows))
    return images, tables.scores(*({"uid": row["uid"], "slot": row["slot"]} for row in rows))


def balanced(lists: Path, t: int, **more: Any) -> params.Filter:  # noqa: ANN401 - values of any rule
    rule = {"by_language": str(lists), "t": t, "seed": 1}
    return judging.changed(balance=rule, min_words=0, duplicate_images="keep", **more)


def test_the_verdicts_do_not_depend_on_the_cut_into_shards(lists: Path, tmp_path: Path) -> None:
    images, scores = pool_of_pairs(900)
    wanted = balanced(lists, 60)
    whole, (one,) = over_all.verdicts(tmp_path / "whole", [(images, scores)], wanted)
    order = np.random.default_rng(0).permutation(900)
    shards = [(images.take(rows), scores.take(rows)) for rows in np.array_split(order, 4)]
    parts, several = over_all.verdicts(tmp_path / "parts", shards, wanted)
    assert parts == whole
    counts = Counter(whole.values())
    assert counts[KEEP] + counts["unbalanced"] == 900 == sum(part.counts["pairs"]["seen"] for part in several)
    assert one.counts["pairs"]["kept"] == counts[KEEP] == sum(part.counts["pairs"]["kept"] for part in several)
    told = [over_all_rules.publish(wanted, tmp_path / name / "plan", tmp_path) for name in ("whole", "parts")]
    assert told[0] == told[1]
    assert {*told[0]["balance"]["t"]} == {"en", "zh", "other"}


def test_rare_entries_stay_common_ones_are_thinned_out_and_texts_without_any_go(lists: Path, tmp_path: Path) -> None:
    images, scores = pool_of_pairs(3_000)
    found, _ = over_all.verdicts(tmp_path, [(images, scores)], balanced(lists, 200))
    kept, seen = Counter[str](), Counter[str]()
    for uid, text in zip(images["uid"].to_pylist(), images["caption"].to_pylist(), strict=True):
        seen[text] += 1
        kept[text] += found[uid] == KEEP
    thresholds = over_all_rules.publish(balanced(lists, 200), tmp_path / "plan", tmp_path)["balance"]["t"]
    assert {text: kept[text] for text in ("nothing", "没有")} == {"nothing": 0, "没有": 0}
    assert {text: kept[text] for text in RARE} == {text: seen[text] for text in RARE}
    assert thresholds["zh"] == seen["独角兽"]
    chance = thresholds["en"] / (seen["a fox"] + seen["a fox and a unicorn"])
    assert abs(kept["a fox"] - seen["a fox"] * chance) < 4 * (seen["a fox"] * chance * (1 - chance)) ** 0.5
    assert seen["a fox"] * chance < seen["a fox"] / 3


def test_the_coins_of_a_language_are_the_same_whichever_others_there_are(lists: Path, tmp_path: Path) -> None:
    images, scores = pool_of_pairs(600)
    every, _ = over_all.verdicts(tmp_path / "every", [(images, scores)], balanced(lists, 40))
    english, _ = over_all.verdicts(tmp_path / "en", [(images, scores)], balanced(lists, 40, languages=["en"]))
    codes = dict(zip(images["uid"].to_pylist(), images["language"].to_pylist(), strict=True))
    assert {uid: every[uid] for uid in every if codes[uid] == "en"} == {
        uid: english[uid] for uid in english if codes[uid] == "en"
    }


def test_a_pool_whose_texts_have_no_entry_keeps_none(lists: Path, tmp_path: Path) -> None:
    texts = [{"caption": "nothing", "language": language} for language in ("en", "fr", "")]
    tables_ = tables.images(*texts), tables.scores({}, {}, {})
    found, _ = over_all.verdicts(tmp_path / "some", [tables_], balanced(lists, 20))
    assert {*found.values()} == {"unbalanced"}
    none, _ = over_all.verdicts(tmp_path / "none", [], balanced(lists, 20))
    assert none == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": {"t": 5, "seed": 1}}, "neither of entries and by_language"),
        ({"balance": {"entries": "e", "by_language": "f", "t": 5, "seed": 1}}, "both of entries and by_language"),
        ({"balance": {"by_language": "f", "t": 5, "seed": 1}, "languages": ["de"]}, "de leaves out en"),
    ],
)
def test_a_balance_without_its_list_or_without_english_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"{message}.*Remedy"):
        judging.changed(**changes)
