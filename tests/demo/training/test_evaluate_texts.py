"""The committed captioner and translator: how right they are on what was held out, and who reads their folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from laion_dask.demo.crawl.captions import LANGUAGES
from laion_dask.demo.crawl.scenes import Scene
from laion_dask.demo.training import evaluate_texts
from laion_dask.demo.training.captioner import FOLDER as CAPTIONER
from laion_dask.demo.training.captioner import PROMPT
from laion_dask.demo.training.evaluate_texts import SmallCaptioner, SmallTranslator
from laion_dask.demo.training.translations import BARE, ENGLISH, NOLANG, agrees
from laion_dask.demo.training.translator import FOLDER as TRANSLATOR

if TYPE_CHECKING:
    from PIL import Image

ENOUGH = 0.95


@pytest.fixture(scope="module")
def translator() -> SmallTranslator:
    return evaluate_texts.load_translator()


@pytest.fixture(scope="module")
def captioner() -> SmallCaptioner:
    return evaluate_texts.load_captioner()


@pytest.fixture(scope="module")
def held_out() -> tuple[list[Scene], list[Image.Image]]:
    return evaluate_texts.held_out_pictures(240)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("told", [True, False])
def test_translations_name_thing_and_color_whether_the_language_is_told_or_not(
    translator: SmallTranslator, language: str, *, told: bool
) -> None:
    pairs = evaluate_texts.held_out_pairs(language, 200)
    texts = evaluate_texts.translate(translator, [pair.source for pair in pairs], language if told else None)
    right = [agrees(text, pair, evaluate_texts.CORE) for text, pair in zip(texts, pairs, strict=True)]
    assert sum(right) / len(right) >= ENOUGH


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_say_size_and_setting_where_the_source_does(translator: SmallTranslator, language: str) -> None:
    pairs = evaluate_texts.held_out_pairs(language, 200)
    texts = evaluate_texts.translate(translator, [pair.source for pair in pairs], language)
    right = [agrees(text, pair, evaluate_texts.EVERY) for text, pair in zip(texts, pairs, strict=True)]
    assert sum(right) / len(right) >= ENOUGH


def test_file_names_that_describe_a_scene_become_english(translator: SmallTranslator) -> None:
    pairs = evaluate_texts.held_out_pairs(NOLANG, 200)
    texts = evaluate_texts.translate(translator, [pair.source for pair in pairs], ENGLISH)
    right = [agrees(text, pair, evaluate_texts.EVERY) for text, pair in zip(texts, pairs, strict=True)]
    assert sum(right) / len(right) >= ENOUGH


@pytest.mark.parametrize(
    ("source", "language", "expected"),
    [
        ("Das ist ein kleiner roter Stern im Schnee", "de", "This is a small red star in the snow"),
        ("Voici une petite maison verte sous un ciel étoilé", "fr", "Here is a small green house under the starry sky"),
        ("Dibujo de un pez naranja junto al mar", "es", "A drawing of an orange fish by the sea"),
        ("Ecco una chiave nera e grande nel deserto", "it", "Here is a large black key in the desert"),
        ("To jest duże białe drzewo na łące", "pl", "This is a large white tree on a meadow"),
        ("Это маленькая синяя лодка у моря", "ru", "This is a small blue boat by the sea"),  # noqa: RUF001 - Russian
        ("草地上有一朵很小的紫色花", "zh", "There is a small purple flower on a meadow"),
        ("There is a large yellow moon in the snow", "en", "There is a large yellow moon in the snow"),
        ("balloon-black-large_0042.jpg", "en", "A large black balloon"),
    ],
)
def test_what_it_writes_is_what_it_wrote(
    translator: SmallTranslator, source: str, language: str, expected: str
) -> None:
    assert evaluate_texts.translate(translator, [source], language) == [expected]


@pytest.mark.parametrize("top_p", [None, 0.9])
def test_captions_name_thing_and_color(
    captioner: SmallCaptioner, held_out: tuple[list[Scene], list[Image.Image]], top_p: float | None
) -> None:
    scenes, pictures = held_out
    texts = evaluate_texts.captions(captioner, pictures, top_p=top_p)
    right = [evaluate_texts.named_right(text, scene) for text, scene in zip(texts, scenes, strict=True)]
    assert sum(core for core, _ in right) / len(right) >= ENOUGH
    assert sum(every for _, every in right) / len(right) >= 0.9


def test_samples_of_one_picture_differ_and_those_of_a_seed_do_not(
    captioner: SmallCaptioner, held_out: tuple[list[Scene], list[Image.Image]]
) -> None:
    same = held_out[1][:1] * 16
    one, again, other = (evaluate_texts.captions(captioner, same, top_p=0.9, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) >= 3
    assert not any(text.startswith(PROMPT) or "[" in text for text in one)


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        (
            TRANSLATOR,
            {"model.bin", "config.json", "shared_vocabulary.json", "sentencepiece.bpe.model", "vocab.json"}
            | {"tokenizer_config.json", "README.md"},
        ),
        (
            CAPTIONER,
            {"model.safetensors", "config.json", "generation_config.json", "preprocessor_config.json"}
            | {"tokenizer.json", "tokenizer_config.json", "vocab.txt", "README.md"},
        ),
    ],
)
def test_a_folder_is_small_complete_and_under_a_licence(folder: Path, files: set[str]) -> None:
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert set(sizes) == files
    assert sum(sizes.values()) <= 8 * 2**20
    _, front, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    assert "license: mit\n" in front


def test_the_translator_is_read_as_its_module_says(translator: SmallTranslator) -> None:
    tokenizer = translator.tokenizer
    tokenizer.src_lang = "de"
    source = tokenizer.convert_ids_to_tokens(tokenizer("Ein kleiner roter Stern im Schnee")["input_ids"])
    assert (source[0], source[-1]) == ("__de__", "</s>")
    result = translator.translator.translate_batch([source], target_prefix=[["__en__"]])
    found = tokenizer.decode(tokenizer.convert_tokens_to_ids(result[0].hypotheses[0][1:]), skip_special_tokens=True)
    assert found == "A small red star in the snow"


def test_the_captioner_is_read_as_its_module_says(
    captioner: SmallCaptioner, held_out: tuple[list[Scene], list[Image.Image]]
) -> None:
    picture = held_out[1][0]
    prompt = captioner.words(PROMPT, return_tensors="pt", return_token_type_ids=False)
    pixels = captioner.images(picture, return_tensors="pt")
    tokens = captioner.model.generate(**pixels, **prompt, do_sample=False, max_new_tokens=20)
    text = captioner.words.decode(tokens[0], skip_special_tokens=True)
    assert text == PROMPT + evaluate_texts.captions(captioner, [picture])[0]


def test_the_reports_name_every_language_and_both_ways_to_sample(
    translator: SmallTranslator, captioner: SmallCaptioner
) -> None:
    printed = evaluate_texts.report_translator(evaluate_texts.evaluate_translator(translator, 4))
    assert all(word in printed for word in (*LANGUAGES, NOLANG, BARE, "no language"))
    printed = evaluate_texts.report_captioner(evaluate_texts.evaluate_captioner(captioner, 4))
    assert all(word in printed for word in ("likeliest", "top_p 0.9"))
