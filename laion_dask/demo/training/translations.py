"""Make the pairs of texts that the small translator learns from: a caption and its meaning in English.

Each structure of a sentence has one English structure, so that the source alone decides the target. A file name that
describes a scene becomes a short English text; of a bare code the translator only learns to say that it is one.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from laion_dask.demo.crawl.captions import LANGUAGES, WORDS, code_caption, sentence
from laion_dask.demo.crawl.scenes import COLORS, SIZES, THINGS, Scene, random_scene

if TYPE_CHECKING:
    import numpy as np

ENGLISH: Final = "en"
NOLANG: Final = "nolang"
BARE: Final = "bare"
KINDS: Final = (*LANGUAGES, NOLANG, BARE)
A_CODE: Final = "A code"
# One text of ten is never trained on; the text itself decides.
_HELD_OUT_OF: Final = 10

_PLAIN: Final = "{a} {size} {color} {thing} {where}"
_TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "en": WORDS["en"].templates,
    "de": (
        _PLAIN,
        "This is " + _PLAIN,
        "A picture of " + _PLAIN,
        "Here is " + _PLAIN,
        "Only {a} {color} {thing} {where}",
        "You can see " + _PLAIN,
        "We see here: " + _PLAIN,
    ),
    "fr": (
        _PLAIN,
        "Here is " + _PLAIN,
        "A picture of " + _PLAIN,
        "This is " + _PLAIN,
        "You can see " + _PLAIN,
        "{a} {color} {thing} {where}",
        "There is {a} {size} {color} {thing} in this picture",
    ),
    "es": (
        _PLAIN,
        "Here is " + _PLAIN,
        "This is a picture of {a} {color} {thing} {where}",
        "You can see " + _PLAIN,
        "A drawing of {a} {color} {thing} {where}",
        "There is {a} very {size} {color} {thing} {where}",
    ),
    "it": (
        "Look at {a} {color} {thing} {where} that is {size}",
        "Here is " + _PLAIN,
        "This is a picture of {a} {color} {thing} {where}",
        "You can see " + _PLAIN,
        "A drawing of " + _PLAIN,
        "There is {a} very {size} {color} {thing} {where}",
    ),
    "pl": (
        _PLAIN,
        "This is " + _PLAIN,
        "In the picture is " + _PLAIN,
        "Here is " + _PLAIN,
        "Only {a} {color} {thing} {where}",
        "A picture on the page: " + _PLAIN,
    ),
    "ru": (
        _PLAIN,
        "This is " + _PLAIN,
        "In the picture is " + _PLAIN,
        "Here is " + _PLAIN,
        "Only {a} {color} {thing} {where}",
        "You can see a drawing here: {a} {color} {thing} {where}",
    ),
    "zh": (
        "There is " + _PLAIN,
        "This is {a} {color} {thing} {where}",
        "In the picture is " + _PLAIN,
        "We see {a} {color} {thing} {where}",
        "In the picture this {color} {thing} {where} looks {size}",
    ),
}


class TextPair(NamedTuple):
    """A text, the English text that it means, and the scene that both describe; a bare code has none."""

    source: str
    english: str
    scene: Scene | None
    says: frozenset[str]
    """The fields of the scene that the source names."""


def held_out(text: str) -> bool:
    """Say whether no training sees this text."""
    return zlib.crc32(text.encode()) % _HELD_OUT_OF == 0


def draw_pair(kind: str, rng: np.random.Generator, *, wanted_held_out: bool = False) -> TextPair:
    """Return a random pair of a language, of "nolang" or of "bare", from the texts held out or from the others."""
    while True:
        made = _code(kind, rng) if kind in {NOLANG, BARE} else _caption(kind, rng)
        if held_out(made.source) == wanted_held_out:
            return made


def _caption(language: str, rng: np.random.Generator) -> TextPair:
    scene, wording = random_scene(rng), int(rng.integers(2))
    place = int(rng.integers(len(WORDS[language].templates)))
    template = WORDS[language].templates[place]
    says = frozenset(word for word in ("thing", "color", "size", "setting") if _field(word) in template)
    source = sentence(scene, language, template, wording)
    english = sentence(scene, ENGLISH, _TARGETS[language][place], wording)
    # The demo's own captions have "a" before a size, never before a color.
    return TextPair(source, english if language == ENGLISH else _article(english), scene, says | {"color"})


def _field(word: str) -> str:
    return "{where}" if word == "setting" else f"{{{word}}}"


def _article(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=orange\b)", r"\1n ", text)


def _code(kind: str, rng: np.random.Generator) -> TextPair:
    if kind == BARE:
        # A wrong text of the demo has one bare code, or two.
        codes = [code_caption(None, rng) for _ in range(int(rng.integers(1, 3)))]
        return TextPair(" & ".join(codes), A_CODE, None, frozenset())
    scene = random_scene(rng)
    source = code_caption(scene, rng)
    sized = scene.size in source
    english = sentence(scene, ENGLISH, "{a} {size} {color} {thing}" if sized else "{a} {color} {thing}", 0)
    return TextPair(source, _article(english), scene, frozenset({"thing", "color", *(["size"] if sized else [])}))


def named(english: str) -> dict[str, set[str]]:
    """Return the things, colors, sizes and settings that an English text names."""
    text = english.lower()
    words = set(re.findall(r"[a-z]+", text))
    # "On desert sand", "in the night sky": the words of a setting are no things.
    settings = {key for key, wordings in WORDS[ENGLISH].settings.items() if any(each in text for each in wordings)}
    return {
        "thing": words & set(THINGS),
        "color": words & set(COLORS),
        "size": words & set(SIZES),
        "setting": settings,
    }


def agrees(english: str, pair: TextPair, fields: tuple[str, ...]) -> bool:
    """Say whether a translation names these fields as its source does, where the source names them."""
    found = named(english)
    return all(
        found[field] == ({getattr(pair.scene, field)} if field in pair.says else set())
        for field in fields
        if pair.scene is not None
    )
