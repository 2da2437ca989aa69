"""Words in texts of many scripts: whole ones are found whatever their case and form, parts of others are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from laion_dask.texts import keywords
from laion_dask.texts.keywords import KeywordError, Words, fold


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        # Fault 9 of LAION-5B's code: `kid` and `teen` as substrings with their case.
        ("kid", "a kidney", False),
        ("teen", "Teen", True),
        ("kid", "KID!", True),
        ("kid", "the kid's toy", True),
        ("kid", "my_kid2.jpg", True),
        ("kid", "kid-friendly", True),
        ("18", "in 2018", False),
        ("18", "age18", True),
        ("baby girl", "a Baby \t GIRL", True),
        ("baby girl", "baby, girl", False),
        ("strasse", "Straße", True),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", True),
        ("kid", "\uff4b\uff49\uff44", True),
        ("kid", "k\u00adi\u200dd", True),
        ("café", "cafe\u0301", True),
        ("cafe", "cafe\u0301", False),
        ("straße", "STRASSENBAHN", False),
        # Cyrillic
        ("\u0441\u0442\u0440\u0430\u0445", "\u0421\u0442\u0420\u0410\u0425, и", True),
        ("страх", "бесстрашный страхование", False),
        # Arabic, with vowel signs
        ("ولد", "هذا ولد.", True),
        ("ولد", "مولد", False),
        # Devanagari: vowel signs belong to the letter before them.
        ("बच्चा", "बच्चा है", True),
        ("बच्च", "बच्चा है", False),
        # Scripts without spaces
        ("子供", "これは子供です", True),
        ("아이", "아이", True),
        ("เด็ก", "น่ารักเด็กๆ", True),
        ("アイス", "アイスランド", False),
        ("アイス", "ｱｲｽ", True),
        # The first of two places is no whole word.
        ("kid", "kidney kid", True),
    ],
)
def test_a_word_is_found_where_it_stands_whole(word: str, text: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert Words([fold(word)]).found(text) is expected


def test_one_word_inside_another_is_found_beside_it() -> None:
    words = Words([fold(word) for word in ("kid photo", "kid", "photo of")])
    assert words.found("a kid photos")
    assert words.found("kidphoto photo of")
    assert not words.found("kids photos")


def test_captions_are_looked_at_where_they_are_asked_for_and_null_has_no_word(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# of a user\n\nkid  # a word\nTwo  words\n", encoding="utf-8-sig")
    captions = pa.chunked_array([["a kid", None], ["two words", "none", "kid"]], pa.string())
    assert keywords.read(path) == ["kid", "two words"]
    assert keywords.hits(captions, [path]).tolist() == [True, False, True, False, True]
    among = np.array([False, True, True, True, False])
    assert keywords.hits(captions, [path], among=among).tolist() == [False, False, True, False, False]
    assert not keywords.hits(captions, []).any()


def test_a_list_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("one\n")
    assert Words.of(path).found("one")
    path.write_text("another\n")
    assert not Words.of(path).found("one")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"fine\n\xff\xfe\n", r"words\.txt:2: no UTF-8\. Remedy"),
        (b"fine\nalso\n...\n", r"words\.txt:3: a word without letters\. Remedy"),
    ],
)
def test_a_bad_line_is_refused_by_number(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(KeywordError, match=message):
        keywords.read(path)


def test_a_missing_list_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(KeywordError, match=r"which is missing\. Remedy: correct the path"):
        keywords.read(tmp_path / "none")
