"""A model is found or its missing file is named with the command that makes it; it is identified by its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made.texts import translators
from made.texts.translators import Made

from laion_dask.storage.files import sha256
from laion_dask.translate import convert, engine, models
from laion_dask.translate.models import TranslatorError


@pytest.fixture
def made(translator_folder: Path) -> Made:
    return translators.make(translator_folder, "m2m100")


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "m2m"))


@pytest.mark.parametrize("family", ["m2m100", "nllb", "marian"])
def test_the_converter_leaves_all_that_a_family_needs(translator_folder: Path, family: str) -> None:
    made = translators.make(translator_folder, family)
    assert models.find(made.rules()) == made.folder
    expected = {"model.bin", "config.json", "shared_vocabulary.json", "tokenizer_config.json", "README.md"}
    assert {path.name for path in made.folder.iterdir()} == expected | {*models.TOKENIZERS[family]}


def test_the_command_converts_to_int8_and_refuses_to_replace_a_folder(made: Made, tmp_path: Path) -> None:
    arguments = ["--model", str(made.saved), "--output_dir", str(tmp_path / "int8")]
    convert.main(arguments)
    assert (tmp_path / "int8" / "model.bin").stat().st_size < 0.6 * (made.folder / "model.bin").stat().st_size
    engine.load(translators.rules(tmp_path / "int8", "m2m100", compute="int8"))
    with pytest.raises(RuntimeError, match="already exists"):
        convert.main(arguments)
    convert.main([*arguments, "--force"])


@pytest.mark.parametrize("name", ["model.bin", "config.json", "shared_vocabulary.json", "sentencepiece.bpe.model"])
def test_a_missing_file_is_named_with_the_model_and_the_command_that_makes_it(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(TranslatorError) as missing:
        models.find(translators.rules(copy, "m2m100"))
    message = str(missing.value)
    assert f"{copy / name} is missing" in message
    assert f"translate.model 'local-dir:{copy}', family m2m100" in message
    assert "python -m laion_dask.translate.convert --model ORG/NAME --output_dir FOLDER" in message


def test_a_model_of_the_hub_that_is_not_on_this_machine_is_named_with_the_command_that_fetches_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    rules = translators.rules(tmp_path, "nllb", model="hf-hub:org/translator")
    with pytest.raises(TranslatorError) as missing:
        models.find(rules)
    message = str(missing.value)
    assert "org/translator/model.bin is not on this machine and cannot be fetched" in message
    assert "hf download org/translator --local-dir FOLDER" in message
    assert "local-dir:FOLDER" in message


@pytest.mark.parametrize("missing", ["", "sentencepiece.bpe.model"])
def test_a_model_in_the_hub_s_cache_is_used_without_a_request_if_it_is_whole(
    made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    repository, commit = tmp_path / "models--org--translator", "a" * 40
    snapshot = repository / "snapshots" / commit
    shutil.copytree(made.folder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    rules = translators.rules(tmp_path, "m2m100", model="hf-hub:org/translator")
    if missing:
        (snapshot / missing).unlink()
        with pytest.raises(TranslatorError, match="cannot be fetched"):
            models.find(rules)
        return
    assert models.find(rules) == snapshot
    assert models.about(rules)["model"] == "hf-hub:org/translator"


def test_other_weights_than_expected_are_refused(copy: Path) -> None:
    digest = sha256(copy / "model.bin")
    assert models.identify(translators.rules(copy, "m2m100", expect_sha256=digest)) == digest
    rules = translators.rules(copy, "m2m100", expect_sha256="0" * 64)
    for use in (models.identify, models.deciding, engine.load):
        with pytest.raises(TranslatorError, match=rf"has sha256 {digest}, expected is 0{{64}}.*Remedy: "):
            use(rules)


def test_a_file_that_is_no_model_is_refused_with_its_name(copy: Path) -> None:
    (copy / "sentencepiece.bpe.model").write_bytes(b"x")
    with pytest.raises(TranslatorError, match=r"sentencepiece.bpe.model is no SentencePiece model"):
        engine.load(translators.rules(copy, "m2m100"))
    (copy / "model.bin").write_bytes(b"x" * 99)
    with pytest.raises(TranslatorError, match=r"cannot be loaded on this cpu"):
        engine.load(translators.rules(copy, "m2m100"))


@pytest.mark.parametrize(
    ("card", "family", "licence"),
    [
        (None, "m2m100", "MIT"),
        (None, "nllb", "CC-BY-NC-4.0"),
        (None, "marian", "unknown"),
        ("---\nlicense: cc-by-4.0\n---\n", "m2m100", "cc-by-4.0"),
        ("---\ntags: [a]\nlicense:\n- apache-2.0\nlanguage: de\n---\n", "marian", "apache-2.0"),
        ("---\nlicense: 'mit'\n---", "marian", "mit"),
        ("# No front matter\nlicense: mit\n", "marian", "unknown"),
        ("---\nlanguage: de\n---\nlicense: mit\n", "marian", "unknown"),
        ("---\nlanguage: de\n---\nlicense: mit\n", "nllb", "CC-BY-NC-4.0"),
    ],
)
def test_the_licence_is_that_of_the_card_or_of_the_family(
    translator_folder: Path, tmp_path: Path, card: str | None, family: str, licence: str
) -> None:
    folder = Path(shutil.copytree(translators.make(translator_folder, family).folder, tmp_path / "copy"))
    (folder / "README.md").unlink()
    if card is not None:
        (folder / "README.md").write_text(card)
    rules = translators.rules(folder, family, compute="int8")
    assert models.about(rules) == {
        "model": "local-dir:copy",
        "family": family,
        "weights_sha256": sha256(folder / "model.bin"),
        "compute": "int8",
        "licence": licence,
    }
