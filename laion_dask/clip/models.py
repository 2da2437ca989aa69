"""Load a CLIP model by open_clip's architecture name, hub name or local folder; compile it; size its batches.

Weights are tensors only: a file that would run code when it is read is refused.
"""

from __future__ import annotations

import functools
import getpass
import importlib.util
import json
import logging
import os
import pickle
import stat
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.clip import devices, hub, preprocess, text_tower
from laion_dask.clip.clip import DEMO_MODEL, Clip, ModelError
from laion_dask.clip.devices import Slices
from laion_dask.storage.files import sha256

_LOCAL: Final = "local-dir:"
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
# Two tasks of one process must not load a model twice.
_loading = threading.Lock()


def weights(spec: params.Model) -> Path:
    """Return the file with the weights, fetched where a tag or hub name asks for it and the hub's cache lacks it.

    Raises `ModelError` with the file, the tag and the command that fetches it.
    """
    if spec.model == "demo" or spec.model.startswith(_LOCAL):
        return _in_folder(DEMO_MODEL if spec.model == "demo" else Path(spec.model.removeprefix(_LOCAL)), spec)
    if spec.model.startswith(_HUB):
        return _of_hub(spec.model.removeprefix(_HUB), spec)
    if spec.pretrained is None:
        message = (
            f"{_where(spec)}: no weights are named, so they would be random. Remedy: pretrained with a tag of "
            f"`python -c \"import open_clip; print(open_clip.list_pretrained_tags_by_model('{spec.model}'))\"`, or the "
            "path of a checkpoint"
        )
        raise ModelError(message)
    file = Path(spec.pretrained)
    return _looked_at(file, spec) if file.is_file() else _of_tag(spec)


def _looked_at(file: Path, spec: params.Model) -> Path:
    """Return a file that a user has named, if it begins as weights do: as safetensors, a zip or a pickle."""
    try:
        with file.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise ModelError(f"{_where(spec)}: {file} cannot be read ({error.strerror}). Remedy: {_READABLE}") from error
    if head.startswith((b"PK\x03\x04", b"\x80")) or head[8:] == b"{":
        return file
    raise ModelError(f"{_where(spec)}: {file} holds no weights. Remedy: a checkpoint of torch, or .safetensors")


def beside(spec: params.Model) -> None:
    """Find or fetch what a model needs beside its weights: a tokenizer of the hub and the shape of its text tower.

    Cheap for models that need neither. Raises `ModelError` with the name and the command that fetches it.
    """
    text = _text_config(spec)
    folder = spec.model.removeprefix(_LOCAL) if spec.model.startswith(_LOCAL) else None
    wanted = {kind: text.get(f"hf_{kind}_name") for kind in ("tokenizer", "model")}
    if wanted["tokenizer"]:
        # open_clip looks for the tokenizer of a local folder there, whatever its name.
        wanted["tokenizer"] = folder or wanted["tokenizer"]
    for kind, name in wanted.items():
        if name:
            _of_transformers(spec, kind, str(name))


def _of_transformers(spec: params.Model, kind: str, name: str) -> None:
    import transformers  # noqa: PLC0415 - seconds

    auto: Any = transformers.AutoTokenizer if kind == "tokenizer" else transformers.AutoConfig
    what = "tokenizer" if kind == "tokenizer" else "configuration of the text tower"
    try:
        with _quiet():
            hub.cached_or_fetched(lambda: auto.from_pretrained(name), f"the {what} {name}")
    except Exception as error:
        # Anything: transformers wraps errors of the hub, of its transport and of what it reads.
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = (
            f"{_where(spec)}: its {what} {name} is not on this machine and cannot be fetched: {cause}. Remedy: where "
            f"there is a network, run `hf download {name} --include '*.json' '*.model' '*.txt'`; then bring what it "
            f"fetched to {hub.cache()} here"
        )
        if Path(name).is_dir():
            message = (
                f"{_where(spec)}: {name} has no {what} that can be read: {cause}. Remedy: its files beside the weights"
            )
        raise ModelError(message) from error


def _text_config(spec: params.Model) -> dict[str, Any]:
    """Return what open_clip's configuration says of the text tower, read without importing open_clip."""
    if spec.model == "demo" or spec.model.startswith(_LOCAL):
        file = (DEMO_MODEL if spec.model == "demo" else Path(spec.model.removeprefix(_LOCAL))) / _CONFIG
    elif spec.model.startswith(_HUB):
        # In the cache: it lies beside the weights, which were found before.
        file = weights(spec).with_name(_CONFIG)
    else:
        package = importlib.util.find_spec("open_clip")
        places = list(package.submodule_search_locations or []) if package else []
        file = Path(*places[:1]) / "model_configs" / f"{spec.model}.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return dict(found.get("model_cfg", found).get("text_cfg", {}))


def identify(spec: params.Model) -> str:
    """Return the sha256 of the weights; `ModelError` where it is not the expected one."""
    file = weights(spec)
    found = sha256(file)
    if spec.expect_sha256 is not None and found != spec.expect_sha256:
        message = (
            f"{_where(spec)}: the weights in {file} have sha256 {found}, expected is {spec.expect_sha256}. Remedy: "
            "fetch the file again, or correct expect_sha256 if these weights are meant"
        )
        raise ModelError(message)
    return found


def files(spec: params.Model) -> list[Path]:
    """Return the files of a folder of the user, which has configuration and vocabulary beside the weights."""
    if not spec.model.startswith(_LOCAL):
        return []
    return sorted(path for path in Path(spec.model.removeprefix(_LOCAL)).rglob("*") if path.is_file())


def load(spec: params.Model, compiled: str = "none") -> Clip:
    """Load a model, once for each process; `compiled` is a mode of torch.compile, or none. Raises `ModelError`."""
    with _loading:
        return _load(spec, compiled)


@functools.cache
def _load(spec: params.Model, compiled: str) -> Clip:
    import open_clip  # noqa: PLC0415 - seconds
    import torch  # noqa: PLC0415

    digest = identify(spec)
    device = devices.find()
    name = f"{_LOCAL}{DEMO_MODEL}" if spec.model == "demo" else spec.model
    # A model with a vocabulary of its own carries it in its folder.
    merges = Path(name.removeprefix(_LOCAL)) / "bpe.txt.gz"
    extra = {"bpe_path": str(merges)} if name.startswith(_LOCAL) and merges.is_file() else {}
    options = {"force_quick_gelu": True} if _trained_with_quick_gelu(spec) else {}
    file = weights(spec)

    def make() -> tuple[Any, Any, Any]:
        network, _, transforms = open_clip.create_model_and_transforms(
            name, pretrained=spec.pretrained, device=device, weights_only=True, **options
        )
        return network, transforms, open_clip.get_tokenizer(name, **extra)

    try:
        with _quiet():
            network, transforms, tokenizer = hub.cached_or_fetched(make, f"what {name} needs beside its weights")
        preparation = preprocess.from_transforms(transforms)
    except pickle.UnpicklingError as error:
        message = (
            f"{_where(spec)}: {file} is refused: it holds more than tensors, and reading it could run any "
            f"code ({str(error).splitlines()[0]}). Remedy: weights as .safetensors, or a checkpoint of tensors only"
        )
        raise ModelError(message) from error
    # Anything: it asserts where weights and architecture do not fit, and damaged files raise errors of every kind.
    except Exception as error:
        message = (
            f"{_where(spec)} cannot be loaded: {error or type(error).__name__}. Remedy: check the names with "
            "`python -c 'import open_clip; print(open_clip.list_pretrained())'`; without a network, a tokenizer of the "
            "hub must be in its cache, or in the folder of local-dir:PATH"
        )
        raise ModelError(message) from error
    if weights(spec) != file:
        raise ModelError(f"{_where(spec)}: the hub has had newer weights than {file}. Remedy: run again, with these")
    # Found out in full precision: in half, sums in another order differ by more than the tolerance.
    cut_texts = text_tower.can_be_cut(network.eval(), tokenizer)
    network.to(devices.dtype(spec.precision)).requires_grad_(requires_grad=False)
    if device == "cuda":
        network = network.to(memory_format=torch.channels_last)
    model = _sized(
        Clip(
            name=_known_as(spec),
            weights_sha256=digest,
            dimension=0,
            preparation=preparation,
            precision=spec.precision,
            device=device,
            network=network,
            tokenizer=tokenizer,
            cut_texts=cut_texts,
            image_slices=Slices(1),
            text_slices=Slices(1),
        )
    )
    return model if compiled == "none" else _compiled(model, compiled)


def _known_as(spec: params.Model) -> str:
    """Return the name that stands in the version: without the folder where this machine has its files."""
    named = spec.model
    if named.startswith(_LOCAL):
        named = f"{_LOCAL}{Path(named.removeprefix(_LOCAL)).name}"
    return named if spec.pretrained is None else f"{named}/{Path(spec.pretrained).name}"


def _compiled(model: Clip, mode: str) -> Clip:
    """Compile the image tower, which does nearly all of the work, for batches of one size."""
    from dataclasses import replace  # noqa: PLC0415

    import torch  # noqa: PLC0415

    _check_compiled()
    model.network.encode_image = torch.compile(model.network.encode_image, mode=mode, dynamic=False)
    return replace(model, image_slices=Slices(model.image_slices.rows, fixed=True))


def _check_compiled() -> None:
    """Raise `ModelError` where torch would run what another user of the machine can have compiled.

    By default it keeps that under a well-known name in the temporary folder, and takes the folder as it finds it.
    """
    default = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}"
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.stat()
    if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = (
            f"score.compile: {folder} is not this user's alone, and torch runs what lies there. Remedy: set "
            "TORCHINDUCTOR_CACHE_DIR to a folder of yours, or compile: none"
        )
        raise ModelError(message)


def _sized(model: Clip) -> Clip:
    """Find the dimension and how many rows fit a forward pass, by a first look at nothing."""
    from dataclasses import replace  # noqa: PLC0415

    import torch  # noqa: PLC0415

    blank = devices.tray(1, model.preparation.side, model.device).fill_(128)
    tokens = model.tokens(["a"])
    dimensions = {int(model.see(blank).shape[-1]), int(model.read(tokens).shape[-1])}
    if len(dimensions) != 1:
        message = (
            f"{model.name}: its towers give {sorted(dimensions)} features. Remedy: a model whose towers fit together"
        )
        raise ModelError(message)
    with torch.inference_mode():
        images, texts = (
            devices.rows_that_fit(forward, devices.upload(sample, model.device), model.device)
            for forward, sample in ((model._see, blank), (model._read, tokens))  # noqa: SLF001 - our own class
        )
    return replace(model, dimension=dimensions.pop(), image_slices=Slices(images), text_slices=Slices(texts))


def _in_folder(folder: Path, spec: params.Model) -> Path:
    # safetensors first, then by name: the choice that open_clip makes.
    found = sorted(folder.glob("*.safetensors")) + sorted([*folder.glob("*.bin"), *folder.glob("*.pth")])
    known = [folder / name for name in _WEIGHTS if folder / name in found]
    if (folder / _CONFIG).is_file() and found:
        return _looked_at((known or found)[0], spec)
    missing = _CONFIG if found else _WEIGHTS[0]
    message = (
        f"{_where(spec)}: {folder / missing} is missing. Remedy: a folder as open_clip saves it, with {_CONFIG} and "
        "the weights; `hf download ORG/NAME --local-dir FOLDER` fetches one"
    )
    raise ModelError(message)


def _of_hub(repository: str, spec: params.Model) -> Path:
    from open_clip.pretrained import download_pretrained_from_hf  # noqa: PLC0415 - seconds

    file = f"{repository}/{_HUB_FILE}"
    try:
        with _quiet():
            return Path(hub.cached_or_fetched(lambda: download_pretrained_from_hf(repository), file))
    except Exception as error:
        # Anything: the hub's client raises errors of its own and of its transport.
        command = f"hf download {repository} --local-dir FOLDER"
        raise _missing(spec, file, command, f"give {_LOCAL}FOLDER as the model", error) from error


def _of_tag(spec: params.Model) -> Path:
    import open_clip  # noqa: PLC0415 - seconds
    from open_clip.pretrained import download_pretrained  # noqa: PLC0415

    known = open_clip.get_pretrained_cfg(spec.model, str(spec.pretrained))
    if not known:
        tags = open_clip.list_pretrained_tags_by_model(spec.model)
        message = f"{_where(spec)}: neither a file nor a tag of this model. Remedy: " + (
            f"one of {', '.join(tags)}, or the path of a checkpoint" if tags else "a model of open_clip.list_models()"
        )
        raise ModelError(message)
    # Every tag of open_clip 3.3 is on the hub; older ones had an address of their own.
    place = str(known.get("hf_hub") or known.get("url"))
    file = f"{place}{_HUB_FILE}" if place.endswith("/") else place
    try:
        with _quiet():
            return Path(hub.cached_or_fetched(lambda: download_pretrained(known), file))
    except Exception as error:
        # Anything: urllib, the hub's client and its transport raise errors of their own.
        command = (
            f"python -c \"import open_clip; open_clip.create_model('{spec.model}', pretrained='{spec.pretrained}')\""
        )
        raise _missing(spec, file, command, "give the path of the file as pretrained", error) from error


def _missing(spec: params.Model, file: str, command: str, instead: str, error: Exception) -> ModelError:
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(
        f"{_where(spec)}: the weights {file} (tag {spec.pretrained or spec.model}) are not on this machine and cannot "
        f"be fetched: {cause}. Remedy: where there is a network, run `{command}`; then bring what it fetched to "
        f"{hub.cache()} here, or {instead}"
    )


def _trained_with_quick_gelu(spec: params.Model) -> bool:
    """Say whether a tag was trained with QuickGELU while its architecture's name says nothing of it.

    open_clip only warns, and the embeddings are then those of no model: OpenAI's ViT-B-32 is such a pair.
    """
    if spec.pretrained is None or Path(spec.pretrained).is_file():
        return False
    import open_clip  # noqa: PLC0415

    tagged = bool(open_clip.get_pretrained_cfg(spec.model, spec.pretrained).get("quick_gelu", False))
    named = bool((open_clip.get_model_config(spec.model) or {}).get("quick_gelu", False))
    if named and not tagged:
        plain = spec.model.removesuffix("-quickgelu")
        message = f"{_where(spec)}: this tag was trained without QuickGELU. Remedy: model {plain}"
        raise ModelError(message)
    return tagged and not named


def _where(spec: params.Model) -> str:
    tag = f", pretrained {spec.pretrained!r}" if spec.pretrained else ""
    return f"score.models, {spec.name}: model {spec.model!r}{tag}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what open_clip and the hub say on the way: what matters is raised, or checked here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def about(spec: params.Model, model: Clip) -> dict[str, str]:
    """Return what identifies the embeddings of a model, for the attributes of its arrays and the manifest."""
    preparation = getattr(model.network.visual, "preprocess_cfg", {})
    return {
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "preprocessing": json.dumps(dict(preparation), sort_keys=True, default=str),
        "precision": model.precision,
        "splits": spec.splits if isinstance(spec.splits, str) else ",".join(spec.splits),
        "normalization": "unit length (L2)",
    }
