"""Find a translation model in CTranslate2's format, fetch it where the hub is named, and identify it.

A model is a folder as CTranslate2's converter leaves it: model.bin, config.json, the vocabulary; and beside them the
SentencePiece models of its tokenizer, which the converter copies where it is told so.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Final

from laion_dask import params
from laion_dask.clip import hub
from laion_dask.storage import packaged
from laion_dask.storage.files import sha256

DEMO: Final = packaged.file("demo", "translator")
LOCAL: Final = "local-dir:"
WEIGHTS: Final = "model.bin"
TOKENIZERS: Final = {
    "m2m100": ("sentencepiece.bpe.model",),
    "nllb": ("sentencepiece.bpe.model",),
    "marian": ("source.spm", "target.spm"),
}
"""The SentencePiece files by family: of the source, and of the target where that has its own."""
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
"""Of transformers; Marian's names the model's source language."""
CARD: Final = "README.md"

_HUB: Final = "hf-hub:"
_CONFIG: Final = "config.json"
# CTranslate2 writes JSON; older versions wrote a token a line. Two files where source and target differ.
_VOCABULARIES: Final = (
    ("shared_vocabulary.json",),
    ("shared_vocabulary.txt",),
    ("source_vocabulary.json", "target_vocabulary.json"),
    ("source_vocabulary.txt", "target_vocabulary.txt"),
)
_FETCHED: Final = (WEIGHTS, _CONFIG, "*vocabulary*", "*.spm", "sentencepiece*.model", TOKENIZER_CONFIG, CARD)
_LICENCES: Final = {"m2m100": "MIT", "nllb": "CC-BY-NC-4.0"}


class TranslatorError(Exception):
    """A translation model is missing, or is not what the parameters say; the message has the file and the remedy."""


def find(settings: params.Translate) -> Path:
    """Return the folder of the model, fetched where a hub is named and its cache lacks a file.

    Raises `TranslatorError` with the missing file, the model and the command that makes or fetches it.
    """
    if settings.model.startswith(_HUB):
        return _of_hub(settings.model.removeprefix(_HUB), settings)
    folder = DEMO if settings.model == "demo" else Path(settings.model.removeprefix(LOCAL))
    if missing := _missing(folder, settings.family):
        message = (
            f"{where(settings)}: {folder / missing[0]} is missing. Remedy: a folder in CTranslate2's format with the "
            f"tokenizer of {settings.family} ({', '.join(TOKENIZERS[settings.family])}) beside it; where there is a "
            "network, `python -m laion_dask.translate.convert --model ORG/NAME --output_dir FOLDER` makes one"
        )
        raise TranslatorError(message)
    return folder


def _of_hub(repository: str, settings: params.Translate) -> Path:
    from huggingface_hub import constants, snapshot_download  # noqa: PLC0415 - seconds
    from huggingface_hub.errors import OfflineModeIsEnabled  # noqa: PLC0415

    def make() -> Path:
        folder = Path(snapshot_download(repository, allow_patterns=[*_FETCHED]))
        # A fetch that was interrupted leaves some of the files in the cache.
        if constants.HF_HUB_OFFLINE and _missing(folder, settings.family):
            raise OfflineModeIsEnabled(f"{folder} lacks {_missing(folder, settings.family)[0]}")
        return folder

    try:
        folder = hub.cached_or_fetched(make, f"{repository} ({WEIGHTS} and its tokenizer)")
    except Exception as error:
        # Any exception: the hub's client raises errors of its own and of its transport.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"{where(settings)}: {repository}/{WEIGHTS} is not on this machine and cannot be fetched: {cause}. Remedy: "
            f"where there is a network, run `hf download {repository} --local-dir FOLDER`; then copy the folder here "
            f"and give {LOCAL}FOLDER as the model, or copy the files to {hub.cache()} here"
        )
        raise TranslatorError(message) from error
    if missing := _missing(folder, settings.family):
        message = (
            f"{where(settings)}: {repository} has no {missing[0]}. Remedy: a repository of a model that was converted "
            f"to CTranslate2's format as family {settings.family}; or convert the original with `python -m "
            f"laion_dask.translate.convert --model ORG/NAME --output_dir FOLDER`, and give {LOCAL}FOLDER"
        )
        raise TranslatorError(message)
    return folder


def _missing(folder: Path, family: str) -> list[str]:
    missing = [name for name in (WEIGHTS, _CONFIG) if not (folder / name).is_file()]
    if _vocabulary_files(folder) is None:
        missing.append(_VOCABULARIES[0][0])
    return [*missing, *(name for name in TOKENIZERS[family] if not (folder / name).is_file())]


def _vocabulary_files(folder: Path) -> list[Path] | None:
    """Return the files of the vocabularies of source and target, one where they are the same; None without."""
    for names in _VOCABULARIES:
        if all((folder / name).is_file() for name in names):
            return [folder / name for name in names]
    return None


def vocabularies(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the tokens that a model reads, and those that it writes."""
    found = [_tokens(path) for path in _vocabulary_files(folder) or ()]
    return found[0], found[-1]


def _tokens(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8")
    return frozenset(json.loads(text) if path.suffix == ".json" else text.removesuffix("\n").split("\n"))


def source_language(folder: Path) -> str | None:
    """Return the source language that the tokenizer's configuration names, as Marian's does; None without."""
    try:
        config = json.loads((folder / TOKENIZER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    language = config.get("source_lang") if isinstance(config, dict) else None
    return language if isinstance(language, str) and language else None


def deciding(settings: params.Translate) -> list[Path | str]:
    """Return the sha256 of the weights and the files that decide the texts, for keys; raises `TranslatorError`."""
    folder = find(settings)
    beside = [folder / _CONFIG, *(_vocabulary_files(folder) or ())]
    beside += [folder / name for name in (*TOKENIZERS[settings.family], TOKENIZER_CONFIG) if (folder / name).is_file()]
    return [identify(settings), *beside]


def identify(settings: params.Translate) -> str:
    """Return the sha256 of model.bin; `TranslatorError` where it is not the expected one."""
    file = find(settings) / WEIGHTS
    status = file.stat()
    digest = _sha256(file, status.st_size, status.st_mtime_ns)
    if settings.expect_sha256 is not None and digest != settings.expect_sha256:
        message = (
            f"{where(settings)}: {file} has sha256 {digest}, expected is {settings.expect_sha256}. Remedy: convert or "
            "fetch the model again, or correct expect_sha256 if these weights are the right ones"
        )
        raise TranslatorError(message)
    return digest


@lru_cache(maxsize=8)
def _sha256(file: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - they tell that the file has changed
    return sha256(file)


def about(settings: params.Translate) -> dict[str, str]:
    """Return what identifies the model in metrics, manifest and card; it has no local path."""
    name = settings.model
    if name.startswith(LOCAL):
        name = f"{LOCAL}{Path(name.removeprefix(LOCAL)).name}"
    return {
        "model": name,
        "family": settings.family,
        "weights_sha256": identify(settings),
        "compute": settings.compute,
        "licence": _licence(settings),
    }


def _licence(settings: params.Translate) -> str:
    """Return the licence that the model's card states in its front matter, else that of the family's weights."""
    stated = hub.licence(find(settings))
    return stated or ("unknown" if settings.model == "demo" else _LICENCES.get(settings.family, "unknown"))


def where(settings: params.Translate) -> str:
    """Return the beginning of an error message: the parameter that names the model."""
    return f"translate.model {settings.model!r}, family {settings.family}"
