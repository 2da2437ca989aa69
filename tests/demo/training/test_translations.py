"""The pairs that the translator learns from: each structure has its English one, and some texts are held out."""

from __future__ import annotations

import numpy as np
import pytest

from laion_dask.demo.crawl.captions import LANGUAGES, WORDS
from laion_dask.demo.training import translations
from laion_dask.demo.training.translations import BARE, KINDS, NOLANG, TextPair, agrees, draw_pair, held_out, named

EVERY = ("thing", "color", "size", "setting")


def drawn(kind: str, count: int = 400, *, wanted_held_out: bool = False) -> list[TextPair]:
    rng = np.random.default_rng([3, KINDS.index(kind)])
    return [draw_pair(kind, rng, wanted_held_out=wanted_held_out) for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_structure_of_a_language_has_one_in_english(language: str) -> None:
    assert len(translations._TARGETS[language]) == len(WORDS[language].templates)  # noqa: SLF001 - the table itself


@pytest.mark.parametrize("kind", [*LANGUAGES, NOLANG])
def test_the_english_text_says_what_the_source_says_and_no_more(kind: str) -> None:
    for pair in drawn(kind):
        assert agrees(pair.english, pair, EVERY), pair
        assert "{" not in pair.english
        assert "a orange" not in pair.english.lower() or kind == "en"


def test_english_stays_as_it_is_and_a_bare_code_is_called_one() -> None:
    assert all(pair.source == pair.english for pair in drawn("en", 100))
    assert {pair.english for pair in drawn(BARE, 100)} == {"A code"}


@pytest.mark.parametrize("kind", KINDS)
def test_one_source_has_one_target(kind: str) -> None:
    targets: dict[str, str] = {}
    for pair in drawn(kind, 2000):
        assert targets.setdefault(pair.source, pair.english) == pair.english


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_held_out_is_never_drawn_for_training(kind: str) -> None:
    assert not any(held_out(pair.source) for pair in drawn(kind, 100))
    assert all(held_out(pair.source) for pair in drawn(kind, 100, wanted_held_out=True))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A small red star in the snow", ({"star"}, {"red"}, {"small"}, {"snow"})),
        ("There is a large black boat under the starry sky", ({"boat"}, {"black"}, {"large"}, {"night sky"})),
        ("The starry sky", (set(), set(), set(), set())),
        ("A red star and a blue key", ({"star", "key"}, {"red", "blue"}, set(), set())),
        ("DSC_00123.JPG", (set(), set(), set(), set())),
    ],
)
def test_what_a_text_names_is_read_word_by_word(text: str, expected: tuple[set[str], ...]) -> None:
    assert tuple(named(text)[field] for field in EVERY) == expected


def test_a_translation_that_adds_or_swaps_a_word_does_not_agree() -> None:
    pair = next(pair for pair in drawn("de") if pair.scene is not None and pair.says == set(EVERY))
    assert pair.scene is not None
    other = "key" if pair.scene.thing != "key" else "star"
    for wrong in (pair.english.replace(pair.scene.thing, other), f"{pair.english} and a {other}", "", pair.source):
        assert not agrees(wrong, pair, ("thing", "color"))
