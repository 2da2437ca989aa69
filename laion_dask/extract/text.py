"""Clean alt texts by the steps of `extract.text_steps`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

import ftfy
from ftfy import badness, chardata

STEPS: Final[dict[str, str]] = {
    "repair": "ftfy repairs encodings, ligatures, full-width letters and surrogates; entities and curly quotes stay",
    "ftfy": "ftfy with its defaults, as LAION-5B's code: also decodes entities and straightens quotes",
    "visible": "removes characters without a glyph, by a fixed list: controls, zero widths, directions, private use",
    "printable": "removes what Python calls not printable, as LAION-5B's code: also line breaks, tabs and rare spaces",
    "lines": "replaces each newline by a space, as LAION-5B's code",
    "spaces": "replaces each run of white space by one space; none at the ends, nor after the cut",
    "strip": "removes white space at both ends, only before the cut, as LAION-5B's code",
    "escape": "after the cut, as LAION-5B's code: replaces tab, newline and | by spaces, doubles each backslash",
}
"""What each step of `extract.text_steps` does, in one sentence."""

# Raw texts are first cut to this multiple of max_chars: 61,192 characters were seen, and megabytes are possible.
_RAW_CHARS_PER_CHAR: Final = 20


class Cleaner:
    """Applies the steps of `extract.text_steps` in order, and a limit of `max_chars` code points (None: no limit).

    A call returns the cleaned text; `finish` then cuts it, after rules on length were applied. Raises ValueError for an
    unknown step.
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
        # No step changes such a text (tested), which most texts are; this check costs less than a single step.
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
        """Return a cleaned text cut to `max_chars`, and escaped if that is a step."""
        if self._max_chars is not None and len(text) > self._max_chars:
            text = text[: self._max_chars]
            text = text.rstrip() if self._trims else text
        return _escape(text) if self._escapes else text


_FTFY: Final = ftfy.TextFixerConfig(
    # WATs since 2019 have decoded text, so a remaining entity is literal. Older ones are decoded by their date.
    unescape_html=False,
    uncurl_quotes=False,
    explain=False,
)

# What ftfy removes or converts: controls, line breaks, surrogates; also newlines, since it works line by line, and
# U+0149, since it becomes two characters, one of them a quote.
_BROKEN: Final = re.compile(
    "[\x00-\x08\x0a\x0b\x0d-\x1f\x7f-\x9f\u0149\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff]"
)
# What ftfy replaces by other characters: ligatures, full-width and half-width characters.
_FORMS: Final = chardata.LIGATURES | chardata.WIDTH_MAP
_UNUSUAL: Final = re.compile(f"[{''.join(map(chr, _FORMS))}]")

# ftfy's search for broken encodings costs 5 microseconds; a text that it changes has one of these (tested) ...
_RARE: Final = re.compile(
    "["
    + "".join(
        characters
        for name, characters in badness.MOJIBAKE_CATEGORIES.items()
        if name not in {"common", "kaomoji", "upper_common", "lower_common"}
    )
    + "\u00b0\u00d9\u0402]"
)
# ... and two adjacent characters beyond ASCII, or a suspect single one; most Western texts have neither.
_CLOSE: Final = re.compile("[^\x00-\x7f](?:[^\x00-\x7f]|(?<=[\x80-\x9f\u0152\u0153\u00c2\u00c3]))")
_QUOTES: Final = re.compile("[\u02bc\u2018-\u201f]")


def _repair(text: str) -> str:
    repaired = _repaired_quickly(text)
    return ftfy.fix_text(text, _FTFY) if repaired is None else repaired


def _ftfy(text: str) -> str:
    repaired = _repaired_quickly(text)
    return ftfy.fix_text(text) if repaired is None or "&" in repaired or _QUOTES.search(repaired) else repaired


def _repaired_quickly(text: str) -> str | None:
    """Return the result of `ftfy.fix_text` without entities and quotes, or None if only ftfy can tell (tested)."""
    if _BROKEN.search(text) or _is_mojibake(text):
        return None
    repaired = unicodedata.normalize("NFC", text.translate(_FORMS) if _UNUSUAL.search(text) else text)
    # ftfy repeats its steps until nothing changes.
    if repaired != text and (_BROKEN.search(repaired) or _UNUSUAL.search(repaired) or _is_mojibake(repaired)):
        return None
    return repaired


def _is_mojibake(text: str) -> bool:
    return bool(_RARE.search(text) and _CLOSE.search(text)) and badness.is_bad(text)


# Invisible characters, by a fixed list: str.isprintable depends on the interpreter's Unicode version. Without white
# space, which is collapsed, and the joiners U+200C and U+200D, which Persian, Hindi and emoji need.
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
