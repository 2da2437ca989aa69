"""Find a CLIP model's weights and tokenizer, fetch what is missing, and identify the weights by their sha256."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.clip import hub
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.storage.files import sha256

LOCAL: Final = "local-dir:"


_HUB: Final = "hf-hub:"


_CONFIG: Final = "open_clip_config.json"


# The order in which open_clip looks for weights in a folder.
_WEIGHTS: Final = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)


# The hub's first choice for a repository; open_clip falls back to the .bin of the same name.
_HUB_FILE: Final = _WEIGHTS[0]


_READABLE: Final = "make it readable for this user"


def find(spec: params.Model) -> Path:
    """Return the file with the weights, fetched where a tag or hub name asks for it and the hub's cache lacks it.

    Raises `ModelError` with the file, the tag and the command that fetches it.
    """
    if spec.model == "demo" or spec.model.startswith(LOCAL):
        return _in_folder(DEMO_MODEL if spec.model == "demo" else Path(spec.model.removeprefix(LOCAL)), spec)
    if spec.model.startswith(_HUB):
        return _of_hub(spec.model.removeprefix(_HUB), spec)
    if spec.pretrained is None:
        message = (
            f"{where(spec)}: no weights are named, so they would be random. Remedy: pretrained with a tag of "
            f"`python -c \"import open_clip; print(open_clip.list_pretrained_tags_by_model('{spec.model}'))\"`, or the "
            "path of a checkpoint"
        )
        raise ModelError(message)
    file = Path(spec.pretrained)
    return _checked(file, spec) if file.is_file() else _of_tag(spec)


def _checked(file: Path, spec: params.Model) -> Path:
    """Return a file named by the user, if it begins like safetensors, a zip or a pickle; else raise `ModelError`."""
    try:
        with file.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise ModelError(f"{where(spec)}: {file} cannot be read ({error.strerror}). Remedy: {_READABLE}") from error
    if head.startswith((b"PK\x03\x04", b"\x80")) or head[8:] == b"{":
        return file
    raise ModelError(f"{where(spec)}: {file} is not a file of weights. Remedy: a checkpoint of torch, or .safetensors")


def fetch_tokenizer(spec: params.Model) -> None:
    """Find the tokenizer and the text tower's configuration of a model, or fetch them from the hub.

    Returns at once for models that need neither. Raises `ModelError` with the name and the command that fetches it.
    """
    text = _text_config(spec)
    folder = spec.model.removeprefix(LOCAL) if spec.model.startswith(LOCAL) else None
    names = {kind: text.get(f"hf_{kind}_name") for kind in ("tokenizer", "model")}
    if names["tokenizer"]:
        # open_clip looks for the tokenizer of a local folder there, whatever its name.
        names["tokenizer"] = folder or names["tokenizer"]
    for kind, name in names.items():
        if name:
            _of_transformers(spec, kind, str(name))


def _of_transformers(spec: params.Model, kind: str, name: str) -> None:
    import transformers  # noqa: PLC0415 - seconds

    auto: Any = transformers.AutoTokenizer if kind == "tokenizer" else transformers.AutoConfig
    what = "tokenizer" if kind == "tokenizer" else "configuration of the text tower"
    try:
        with quiet():
            hub.cached_or_fetched(lambda: auto.from_pretrained(name), f"the {what} {name}")
    except Exception as error:
        # Any exception: transformers wraps errors of the hub, of its transport and of its parsers.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"{where(spec)}: its {what} {name} is not on this machine and cannot be fetched: {cause}. Remedy: where "
            f"there is a network, run `hf download {name} --include '*.json' '*.model' '*.txt'`; then copy the files "
            f"to {hub.cache()} here"
        )
        if Path(name).is_dir():
            message = (
                f"{where(spec)}: {name} has no {what} that can be read: {cause}. Remedy: its files beside the weights"
            )
        raise ModelError(message) from error


def _text_config(spec: params.Model) -> dict[str, Any]:
    """Return the text tower's section of open_clip's configuration, without importing open_clip."""
    if spec.model == "demo" or spec.model.startswith(LOCAL):
        file = (DEMO_MODEL if spec.model == "demo" else Path(spec.model.removeprefix(LOCAL))) / _CONFIG
    elif spec.model.startswith(_HUB):
        # In the cache, beside the weights, which were found before.
        file = find(spec).with_name(_CONFIG)
    else:
        package = importlib.util.find_spec("open_clip")
        places = list(package.submodule_search_locations or []) if package else []
        file = Path(*places[:1]) / "model_configs" / f"{spec.model}.json"
    if not file.is_file():
        return {}
    config = json.loads(file.read_text(encoding="utf-8"))
    return dict(config.get("model_cfg", config).get("text_cfg", {}))


def identify(spec: params.Model) -> str:
    """Return the sha256 of the weights; `ModelError` where it is not the expected one."""
    file = find(spec)
    digest = sha256(file)
    if spec.expect_sha256 is not None and digest != spec.expect_sha256:
        message = (
            f"{where(spec)}: the weights in {file} have sha256 {digest}, expected is {spec.expect_sha256}. Remedy: "
            "fetch the file again, or correct expect_sha256 if these weights are the right ones"
        )
        raise ModelError(message)
    return digest


def files(spec: params.Model) -> list[Path]:
    """Return all files of a local model folder: weights, configuration and vocabulary; none for other models."""
    if not spec.model.startswith(LOCAL):
        return []
    return sorted(path for path in Path(spec.model.removeprefix(LOCAL)).rglob("*") if path.is_file())


def _in_folder(folder: Path, spec: params.Model) -> Path:
    # safetensors first, then by name: the order of open_clip.
    candidates = sorted(folder.glob("*.safetensors")) + sorted([*folder.glob("*.bin"), *folder.glob("*.pth")])
    standard = [folder / name for name in _WEIGHTS if folder / name in candidates]
    if (folder / _CONFIG).is_file() and candidates:
        return _checked((standard or candidates)[0], spec)
    missing = _CONFIG if candidates else _WEIGHTS[0]
    message = (
        f"{where(spec)}: {folder / missing} is missing. Remedy: a folder as open_clip saves it, with {_CONFIG} and "
        "the weights; `hf download ORG/NAME --local-dir FOLDER` fetches one"
    )
    raise ModelError(message)


def _of_hub(repository: str, spec: params.Model) -> Path:
    from open_clip.pretrained import download_pretrained_from_hf  # noqa: PLC0415 - seconds

    file = f"{repository}/{_HUB_FILE}"
    try:
        with quiet():
            return Path(hub.cached_or_fetched(lambda: download_pretrained_from_hf(repository), file))
    except Exception as error:
        # Any exception: the hub's client raises errors of its own and of its transport.
        command = f"hf download {repository} --local-dir FOLDER"
        raise _missing(spec, file, command, f"give {LOCAL}FOLDER as the model", error) from error


def _of_tag(spec: params.Model) -> Path:
    import open_clip  # noqa: PLC0415 - seconds
    from open_clip.pretrained import download_pretrained  # noqa: PLC0415

    entry = open_clip.get_pretrained_cfg(spec.model, str(spec.pretrained))
    if not entry:
        tags = open_clip.list_pretrained_tags_by_model(spec.model)
        message = f"{where(spec)}: neither a file nor a tag of this model. Remedy: " + (
            f"one of {', '.join(tags)}, or the path of a checkpoint" if tags else "a model of open_clip.list_models()"
        )
        raise ModelError(message)
    # Every tag of open_clip 3.3 is on the hub; older ones had an address of their own.
    place = str(entry.get("hf_hub") or entry.get("url"))
    file = f"{place}{_HUB_FILE}" if place.endswith("/") else place
    try:
        with quiet():
            return Path(hub.cached_or_fetched(lambda: download_pretrained(entry), file))
    except Exception as error:
        # Any exception: urllib, the hub's client and its transport raise errors of their own.
        command = (
            f"python -c \"import open_clip; open_clip.create_model('{spec.model}', pretrained='{spec.pretrained}')\""
        )
        raise _missing(spec, file, command, "give the path of the file as pretrained", error) from error


def _missing(spec: params.Model, file: str, command: str, instead: str, error: Exception) -> ModelError:
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(
        f"{where(spec)}: the weights {file} (tag {spec.pretrained or spec.model}) are not on this machine and cannot "
        f"be fetched: {cause}. Remedy: where there is a network, run `{command}`; then copy the files to "
        f"{hub.cache()} here, or {instead}"
    )


def where(spec: params.Model) -> str:
    """Return the beginning of an error message: the parameter that names the model."""
    tag = f", pretrained {spec.pretrained!r}" if spec.pretrained else ""
    return f"{spec.PLACE}, {spec.name}: model {spec.model!r}{tag}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence logs and warnings of open_clip and the hub: errors are raised, and the results checked here."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
