"""Find the folder of a model of transformers, fetch what it lacks, and identify its weights by their sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask.clip import hub
from laion_dask.clip.clip import ModelError
from laion_dask.clip.weights import LOCAL, quiet
from laion_dask.storage import packaged
from laion_dask.storage.files import sha256

DEMO: Final = packaged.file("demo", "captioner")
_HUB: Final = "hf-hub:"
_CONFIG: Final = "config.json"
_ONE_FILE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
# Weights as safetensors only: files of other formats can hold code.
_FETCHED: Final = ("*.json", "*.safetensors", "*.txt", "*.model", "README.md")


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model of transformers, as a parameter names it."""

    key: str
    """The parameter, for messages."""
    model: str
    expect_sha256: str | None

    @property
    def known_as(self) -> str:
        """The model's name without the local path of its folder."""
        return f"{LOCAL}{Path(self.model.removeprefix(LOCAL)).name}" if self.model.startswith(LOCAL) else self.model


def find(spec: NamedModel) -> Path:
    """Return the folder with configuration and weights, fetched where a hub name asks for it and the cache lacks it.

    Raises `ModelError` with the file, the name and the command that fetches it.
    """
    if spec.model.startswith(_HUB):
        return _of_hub(spec, spec.model.removeprefix(_HUB))
    if spec.model != "demo" and not spec.model.startswith(LOCAL):
        raise ModelError(f"{_where(spec)}: no such model. Remedy: demo, {LOCAL}PATH or {_HUB}ORG/NAME")
    folder = DEMO if spec.model == "demo" else Path(spec.model.removeprefix(LOCAL))
    if missing := _missing(folder):
        message = (
            f"{_where(spec)}: {folder / missing} is missing. Remedy: a folder as transformers saves it, with {_CONFIG} "
            f"and weights as .safetensors; `hf download ORG/NAME --local-dir FOLDER` fetches one"
        )
        raise ModelError(message)
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Return the files of the weights, sorted: one, or those that an index names. Raises ValueError for a bad index."""
    if (folder / _INDEX).is_file() and not (folder / _ONE_FILE).is_file():
        named = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({folder / Path(name).name for name in named})
    return [folder / _ONE_FILE]


def identify(spec: NamedModel) -> str:
    """Return the sha256 of the weights; `ModelError` where it is not the expected one.

    For weights in several files: of their sha256s, one a line, in the order of their names.
    """
    folder = find(spec)
    digests = [sha256(file) for file in weight_files(folder)]
    one = digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    if spec.expect_sha256 is not None and one != spec.expect_sha256:
        message = (
            f"{_where(spec)}: the weights in {folder} have sha256 {one}, expected is {spec.expect_sha256}. Remedy: "
            "fetch them again, or correct expect_sha256 if these weights are the right ones"
        )
        raise ModelError(message)
    return one


def beside(spec: NamedModel) -> list[Path]:
    """Return the files that decide the texts beside the weights: configuration, vocabulary, how images are prepared."""
    folder = find(spec)
    return sorted(path for path in folder.iterdir() if path.suffix in {".json", ".txt", ".model"} and path.is_file())


@contextmanager
def no_bars() -> Iterator[None]:
    """Let transformers show no progress bar while it loads weights."""
    from transformers.utils import logging  # noqa: PLC0415 - seconds

    bars: Any = logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _of_hub(spec: NamedModel, repository: str) -> Path:
    from huggingface_hub import constants, snapshot_download  # noqa: PLC0415 - seconds
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    def make() -> Path:
        folder = Path(snapshot_download(repository, allow_patterns=[*_FETCHED]))
        missing = _missing(folder)
        if missing and constants.HF_HUB_OFFLINE:
            raise LocalEntryNotFoundError(f"the cache lacks {missing}")
        if missing:
            raise FileNotFoundError(f"the repository has no {missing}")
        return folder

    try:
        with quiet():
            return hub.cached_or_fetched(make, f"{repository}/{_ONE_FILE}")
    except Exception as error:
        # Any exception: the hub's client raises errors of its own and of its transport.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"{_where(spec)}: {repository}/{_ONE_FILE} is not on this machine and cannot be fetched: {cause}. Remedy: "
            f"where there is a network, run `hf download {repository}"
            f"{''.join(f' --include {pattern!r}' for pattern in _FETCHED)}`; then copy the files to {hub.cache()} "
            f"here, or give {LOCAL}FOLDER as the model"
        )
        raise ModelError(message) from error


def _missing(folder: Path) -> str | None:
    """Return the name of a file that a model needs and the folder lacks."""
    if not (folder / _CONFIG).is_file():
        return _CONFIG
    return next((file.name for file in weight_files(folder) if not file.is_file()), None)


def _where(spec: NamedModel) -> str:
    return f"{spec.key}: model {spec.model!r}"
