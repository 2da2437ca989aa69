"""Tokens are those of transformers' tokenizers, and what looks like a special token inside a text is text."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.texts import translators
from made.texts.translators import Made

from laion_dask.translate import engine, models
from laion_dask.translate.models import TranslatorError
from laion_dask.translate.tokens import Tokens

FAMILIES = ("m2m100", "nllb", "marian")
TEXTS = [
    *translators.TEXTS[::97],
    "  spaces   between  and around ",
    "Ünbekannte Zeichen: ✈ \ufb01 ① \uff26\uff55\uff4c\uff4c",
    "new\nline\tand tab",
    "👍🏽 emoji",
    "a",
    "¿Qué?  —  «así»…",
]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, translator_folder: Path) -> Made:
    return translators.make(translator_folder, request.param)


def tokens_of(made: Made) -> Tokens:
    return Tokens(made.folder, made.rules())


def source(made: Made, text: str, code: str) -> list[str]:
    tokens = tokens_of(made)
    return tokens.source(tokens.pieces([text])[0], code)


def test_the_tokens_of_a_source_have_the_ids_of_transformers_tokenizer(made: Made) -> None:
    code = {"m2m100": "de", "nllb": "deu_Latn", "marian": ""}[made.family]
    theirs = translators.tokenizer(made, **({"src_lang": code} if code else {}))
    for text in TEXTS:
        # Of a space at the end, transformers' tokenizer of NLLB makes a token, and SentencePiece none.
        asked = f">>eng<<{text.strip()}" if made.family == "marian" else text.strip()
        assert theirs.convert_tokens_to_ids(source(made, text, code)) == theirs(asked)["input_ids"], text


def test_without_a_language_the_model_is_told_what_transformers_tokenizer_tells_it_by_default(made: Made) -> None:
    theirs = translators.tokenizer(made)
    text = TEXTS[0] if made.family != "marian" else f">>eng<<{TEXTS[0]}"
    ours = source(made, TEXTS[0], "")
    assert theirs.convert_tokens_to_ids(ours) == theirs(text)["input_ids"]
    assert ours[0] == {"m2m100": "__en__", "nllb": "eng_Latn", "marian": ">>eng<<"}[made.family]


def test_the_text_of_what_the_model_wrote_is_that_of_transformers_tokenizer(made: Made) -> None:
    tokens, theirs = tokens_of(made), translators.tokenizer(made)
    written = models.vocabularies(made.folder)[1]
    language = {"m2m100": "__de__", "nllb": "deu_Latn", "marian": ">>fra<<"}[made.family]
    for text in TEXTS:
        known = [piece for piece in tokens.pieces([text])[0] if piece in written]
        decoded = theirs.decode(theirs.convert_tokens_to_ids([*known, "</s>"]), skip_special_tokens=True)
        assert tokens.text([language, *known, "<pad>"]) == decoded.strip()


@pytest.mark.parametrize("text", ["", "   ", "a\0b", "\ud800", "\u200b", "☃", "☃ ☃"], ids=ascii)
def test_a_text_that_the_tokenizer_refuses_or_that_nothing_is_left_of_has_no_pieces(made: Made, text: str) -> None:
    assert tokens_of(made).pieces(["red", text, "blue"])[1] == []
    assert all(tokens_of(made).pieces(["red", text, "blue"])[::2])


@pytest.mark.parametrize("text", ["__fr__ red", "</s> red", ">>fra<< red", "fra_Latn red", "<unk> red"])
def test_what_looks_like_a_special_token_inside_a_text_is_text(made: Made, text: str) -> None:
    tokens = tokens_of(made)
    inside = set(tokens.pieces([text])[0])
    assert inside.isdisjoint({"__fr__", "</s>", ">>fra<<", "fra_Latn", "<unk>", "▁</s>"})


@pytest.mark.parametrize(
    ("family", "language", "told"),
    [
        ("m2m100", "de", "de"),
        ("m2m100", "yue", "zh"),
        ("m2m100", "eu", None),
        ("m2m100", "xx", None),
        ("nllb", "de", "deu_Latn"),
        ("nllb", "yue", "yue_Hant"),
        ("nllb", "als", None),
        ("nllb", "dv", None),
        ("marian", "de", ""),
        ("marian", "xx", ""),
    ],
)
def test_a_model_is_told_its_own_code_of_a_language_or_does_not_know_it(
    translator_folder: Path, family: str, language: str, told: str | None
) -> None:
    assert tokens_of(translators.make(translator_folder, family)).told(language) == told


@pytest.mark.parametrize(
    ("named", "language", "told"),
    [
        ("de", "de", ""),
        ("deu", "de", ""),
        ("de", "fr", None),
        ("zho", "zh", ""),
        ("mul", "fr", ""),
        ("gem", "fr", ""),
        ("ROMANCE", "ja", ""),
    ],
)
def test_a_marian_model_of_one_language_knows_that_one_alone(
    translator_folder: Path, tmp_path: Path, named: str, language: str, told: str | None
) -> None:
    made = translators.make(translator_folder, "marian")
    for path in made.folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(f'{{"source_lang": "{named}", "target_lang": "en"}}')
    assert Tokens(tmp_path, translators.rules(tmp_path, "marian")).told(language) == told


def test_a_model_of_another_family_or_without_english_is_refused(translator_folder: Path, tmp_path: Path) -> None:
    made = translators.make(translator_folder, "m2m100")
    with pytest.raises(TranslatorError, match=r"has no eng_Latn, so it is not of this family.*Remedy: correct"):
        engine.load(translators.rules(made.folder, "nllb"))
    marian = translators.make(translator_folder, "marian")
    for path in marian.folder.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(">>eng<<", ">>nld<<")) if (
            path.suffix == ".json"
        ) else (tmp_path / path.name).symlink_to(path)
    with pytest.raises(TranslatorError, match=r"it writes fra, nld, but not English \(>>eng<<\)"):
        engine.load(translators.rules(tmp_path, "marian"))
