"""Find which captions contain a word of a list: whole words, in any case and script.

Text and words are compared in NFKC and case-folded. A word begins and ends at the boundaries of UAX 29 (Unicode text
segmentation), and also at an apostrophe, a dot or an underscore, and between a letter and a digit: alt texts are often
file names (`kid's`, `teen_2.jpg`). Scripts without spaces (Han, Hiragana, Thai and others) have no such boundaries, so
their words match anywhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex
from ahocorasick_rs import AhoCorasick

from laion_dask.storage import strict_rows

_NO_SPACES: Final = regex.compile(r"[\p{Script=Han}\p{Script=Hiragana}\p{Line_Break=Complex_Context}]")
_IGNORED: Final = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
_MARK: Final = regex.compile(r"[\p{M}\p{Emoji_Modifier}]")
_DIGIT: Final = regex.compile(r"\p{N}")
_LETTER: Final = regex.compile(r"[\p{L}\p{Other_Alphabetic}\p{Extender}]")


class KeywordError(Exception):
    """A list of keywords cannot be read; the message names file and line, never the word."""


def hits(
    captions: pa.ChunkedArray, files: Sequence[Path], among: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Return which captions (rows,) contain a word of the files; only rows of `among` are searched. Null has none."""
    words = Words.of(*files)
    matches = np.zeros(len(captions), bool)
    rows = np.arange(len(captions)) if among is None else np.flatnonzero(among)
    texts = captions.take(pa.array(rows)).to_pylist()
    matches[rows] = [words.found(text or "") for text in texts]
    return matches


def read(path: Path) -> list[str]:
    """Read a list, folded: a word or phrase a line, UTF-8, `#` begins a comment. Raises `KeywordError`."""
    if not path.is_file():
        message = f"filter.keywords names {path}, which is missing. Remedy: correct the path or take it out"
        raise KeywordError(message)
    words = []
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(strict_rows.lines(stream, path), start=1):
                word = fold(line.partition("#")[0])
                if word and not any(_LETTER.match(char) or _DIGIT.match(char) for char in word):
                    raise KeywordError(f"{path}:{number}: a word without letters. Remedy: a word or a phrase a line")
                words += [word] if word else []
    except strict_rows.RowsError as error:
        raise KeywordError(str(error)) from None
    return words


def fold(text: str) -> str:
    """Normalise text for comparison: toNFKC_Casefold (Unicode Standard, 3.13), white space as single spaces."""
    if not text.isascii():
        text = _IGNORED.sub("", unicodedata.normalize("NFKC", text))
    # Case folding can leave sequences that NFKC composes.
    return " ".join(unicodedata.normalize("NFKC", text.casefold()).split())


class Words:
    """Words of all lists, found in one pass over a text."""

    def __init__(self, words: Sequence[str]) -> None:
        unique = sorted(set(words))
        self._finder = AhoCorasick(unique) if unique else None

    @staticmethod
    @lru_cache(maxsize=8)
    def _read(files: tuple[tuple[Path, int, int], ...]) -> Words:
        return Words([word for path, _, _ in files for word in read(path)])

    @classmethod
    def of(cls, *paths: Path) -> Words:
        """Return the words of some files, cached by each process until a file changes."""
        return cls._read(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths))

    def found(self, text: str) -> bool:
        """Return whether the text contains one of the words as a whole word."""
        if self._finder is None:
            return False
        folded = fold(text)
        places = self._finder.find_matches_as_indexes(folded, overlapping=True)
        return any(boundary(folded, start) and boundary(folded, end) for _, start, end in places)


def boundary(text: str, place: int) -> bool:
    """Return whether a word may begin or end before the character at `place`."""
    if place in {0, len(text)}:
        return True
    after = _kind(text[place])
    if after == "mark":
        return False
    # Marks belong to the letter before them.
    before = place - 1
    while before and _kind(text[before]) == "mark":
        before -= 1
    return _kind(text[before]) != after or after in {"other", "no spaces"}


@cache
def _kind(char: str) -> str:
    if _MARK.match(char):
        return "mark"
    if _NO_SPACES.match(char):
        return "no spaces"
    if _DIGIT.match(char):
        return "digit"
    return "letter" if _LETTER.match(char) else "other"
