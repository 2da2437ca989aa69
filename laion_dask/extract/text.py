"""Clean alt texts by the steps of `extract.text_steps`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

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
