"""The engine writes what transformers writes: token by token, to each row's limit, whatever the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.texts import translators
from made.texts.translators import Made

from laion_dask.translate import engine
from laion_dask.translate.engine import Written
from laion_dask.translate.models import TranslatorError

# Of four lengths.
TEXTS = [" ".join(translators.TEXTS[at : at + 1 + at % 4]) for at in range(0, 600, 31)]


@pytest.fixture(scope="module", params=["m2m100", "nllb", "marian"])
def made(request: pytest.FixtureRequest, translator_folder: Path) -> Made:
    return translators.make(translator_folder, request.param)


def sources(model: engine.Engine, texts: list[str]) -> list[list[str]]:
    return [model.tokens.source(pieces, "") for pieces in model.tokens.pieces(texts)]


def of_transformers(made: Made, texts: list[str], max_length: int, beams: int) -> list[list[str]]:
    """What `generate` of transformers writes, a text at a time, without padding and the tokens before the text."""
    import torch
    import transformers

    tokenizer = translators.tokenizer(made)
    network: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(made.saved).eval()
    forced = {"m2m100": "__en__", "nllb": "eng_Latn"}.get(made.family)
    found = []
    for text in texts:
        read = tokenizer(f">>eng<<{text}" if made.family == "marian" else text, return_tensors="pt")
        with torch.inference_mode():
            ids = network.generate(
                **read,
                max_length=max_length,
                num_beams=beams,
                forced_bos_token_id=tokenizer.convert_tokens_to_ids(forced) if forced else None,
            )[0]
        found.append(tokenizer.convert_ids_to_tokens(ids[2 if forced else 1 :]))
    return found


def test_the_tokens_are_those_that_transformers_generates_to_the_same_limit(made: Made) -> None:
    rules, texts = made.rules(max_tokens=30), TEXTS[:8]
    model = engine.load(rules)
    read = sources(model, texts)
    limits = [model.limit(one, rules.max_tokens) for one in read]
    ours = model.translate(read, limits, beams=1, batch=4)
    theirs = of_transformers(made, texts, 30, 1)
    # A network with random weights never writes the end of itself.
    assert {one.cut for one in ours} == {True}
    assert [one.tokens for one in ours] == theirs
    assert {len(one) for one in theirs} == {29 if made.family == "marian" else 28}


def test_a_row_is_what_it_is_alone_whatever_the_batch_and_its_limit_in_row_order(made: Made) -> None:
    model = engine.load(made.rules())
    read = sources(model, TEXTS)
    limits = [model.limit(one, None) for one in read]
    assert len(set(limits)) > 3, "rows of one batch have different limits"
    whole = model.translate(read, limits, beams=1, batch=len(read))
    assert whole == model.translate(read, limits, beams=1, batch=5)
    alone = [model.translate([one], [limit], beams=1, batch=1)[0] for one, limit in zip(read, limits, strict=True)]
    assert whole == alone
    assert [len(one.tokens) for one in whole] == [2 * len(one) for one in read]


class Small:
    """A translator whose memory holds three rows, or that fails otherwise."""

    def __init__(self, translator: Any, error: str) -> None:  # noqa: ANN401 - of CTranslate2
        self.translator, self.error = translator, error
        self.asked: list[int] = []

    def translate_batch(self, rows: list[list[str]], **options: Any) -> Any:  # noqa: ANN401
        self.asked.append(len(rows))
        if len(rows) > 3:
            raise RuntimeError(self.error)
        return self.translator.translate_batch(rows, **options)


def test_out_of_memory_halves_the_batch_and_is_remembered(translator_folder: Path) -> None:
    model = engine.load(translators.make(translator_folder, "m2m100").rules())
    read = sources(model, TEXTS[:10])
    expected = model.translate(read, [9] * 10, beams=1, batch=8)
    small = Small(model.translator, "CUDA failed with error out of memory")
    limited = replace(model, translator=small)
    assert limited.translate(read, [9] * 10, beams=1, batch=8) == expected
    assert small.asked == [8, 4, 2, 2, 2, 2, 2]
    assert limited.translate(read, [9] * 10, beams=1, batch=8) == expected
    assert small.asked[7:] == [2] * 5


def test_another_error_is_not_taken_for_a_lack_of_memory(translator_folder: Path) -> None:
    model = engine.load(translators.make(translator_folder, "m2m100").rules())
    faulty = replace(model, translator=Small(model.translator, "a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        faulty.translate(sources(model, TEXTS[:10]), [9] * 10, beams=1, batch=8)


def test_a_model_says_how_many_positions_it_has(made: Made) -> None:
    model = engine.load(made.rules())
    assert model.positions == translators.POSITIONS
    longest = ["red"] * (translators.POSITIONS - 1) + ["</s>"]
    assert model.limit(longest, None) == translators.POSITIONS
    assert model.translate([longest], [translators.POSITIONS], beams=2, batch=1)[0].cut


@pytest.mark.parametrize(
    ("max_tokens", "family", "limit"),
    [(30, "m2m100", 29), (30, "marian", 29), (2, "m2m100", 2), (2, "marian", 1), (None, "m2m100", 11)],
)
def test_the_limit_counts_tokens_as_max_length_of_transformers(
    translator_folder: Path, max_tokens: int | None, family: str, limit: int
) -> None:
    model = engine.load(translators.make(translator_folder, family).rules())
    assert model.limit(["__de__", "▁a", "▁b", "▁c", "</s>"], max_tokens) == limit


@pytest.mark.parametrize(
    ("tokens", "cut", "repeats"),
    [
        ("a a a a", True, True),
        ("a a a a", False, False),
        ("a a a", True, False),
        ("x y a b a b a b a b", True, True),
        ("a b a b a b a b c", True, False),
        ("a b a b a b a", True, False),
        ("1 2 3 4 5 6 7 8 " * 4, True, True),
        ("1 2 3 4 5 6 7 8 9 " * 4, True, False),
        ("", True, False),
    ],
)
def test_a_text_repeats_itself_if_it_is_cut_in_an_n_gram_that_came_four_times(
    tokens: str, *, cut: bool, repeats: bool
) -> None:
    assert engine.repeats(Written(tokens.split(), cut)) is repeats


@given(
    head=st.lists(st.integers(0, 9)), gram=st.lists(st.integers(0, 9), min_size=1, max_size=8), more=st.integers(4, 9)
)
@settings(max_examples=50, deadline=None)
def test_any_repetition_up_to_the_end_is_seen(head: list[int], gram: list[int], more: int) -> None:
    assert engine.repeats(Written([str(one) for one in head + gram * more], cut=True))


def test_numbers_that_this_machine_cannot_compute_with_are_refused_with_those_that_it_can(
    translator_folder: Path,
) -> None:
    rules = translators.make(translator_folder, "m2m100").rules(compute="int8_bfloat16")
    with pytest.raises(TranslatorError, match=r"compute int8_bfloat16.*Remedy: translate.compute with one of .*int8"):
        engine.load(rules)


def test_a_model_is_loaded_once_for_all_that_may_be_asked_of_it(translator_folder: Path) -> None:
    made = translators.make(translator_folder, "m2m100")
    assert engine.load(made.rules(beams=1)) is engine.load(made.rules(beams=5, batch=3, splits=("en",)))


def test_without_a_package_of_cublas_nothing_is_loaded_and_its_lack_is_told(
    translator_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctranslate2

    engine._load_cublas()  # noqa: SLF001

    class WithoutCublas:
        def __init__(self, *_: object, **__: object) -> None: ...

        def translate_batch(self, *_: object, **__: object) -> None:
            message = "Library libcublas.so.12 is not found or cannot be loaded"
            raise RuntimeError(message)

    monkeypatch.setattr(ctranslate2, "Translator", WithoutCublas)
    rules = translators.make(translator_folder, "m2m100").rules(expect_sha256=None, compute="int8_float16")
    with pytest.raises(TranslatorError, match=r"libcublas.so.12 is not found.*Remedy: `pip install nvidia-cublas"):
        engine.load(rules)
