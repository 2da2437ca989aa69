"""Load a CLIP model by open_clip's architecture name, hub name or local folder; compile it; size its batches.

Weights are tensors only: a file that would run code when it is read is refused.
"""

from __future__ import annotations

import functools
import getpass
import json
import os
import pickle
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

from laion_dask import params
from laion_dask.clip import devices, hub, preprocess, text_tower, weights
from laion_dask.clip.clip import DEMO_MODEL, Clip, ModelError
from laion_dask.clip.devices import Slices

# Two tasks of one process must not load a model twice.
_loading = threading.Lock()


def load(spec: params.Model, compiled: str = "none") -> Clip:
    """Load a model, once for each process; `compiled` is a mode of torch.compile, or none. Raises `ModelError`."""
    with _loading:
        return _load(spec, compiled)


@functools.cache
def _load(spec: params.Model, compiled: str) -> Clip:
    import torch  # noqa: PLC0415 - seconds

    digest = weights.identify(spec)
    device = devices.find()
    network, preparation, tokenizer = _network(spec, device)
    # Tested in full precision: in half precision sums in another order differ by more than the tolerance.
    cut_texts = text_tower.can_be_cut(network.eval(), tokenizer)
    network.to(devices.dtype(spec.precision)).requires_grad_(requires_grad=False)
    if device == "cuda":
        network = network.to(memory_format=torch.channels_last)
    model = _sized(
        Clip(
            name=known_as(spec),
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


def _network(spec: params.Model, device: str) -> tuple[Any, preprocess.Preparation, Any]:
    """Make the network, its preparation of images and its tokenizer, as open_clip knows them. Raises `ModelError`."""
    import open_clip  # noqa: PLC0415 - seconds

    name = f"{weights.LOCAL}{DEMO_MODEL}" if spec.model == "demo" else spec.model
    # A local model may have its own vocabulary beside the weights.
    merges = Path(name.removeprefix(weights.LOCAL)) / "bpe.txt.gz"
    extra = {"bpe_path": str(merges)} if name.startswith(weights.LOCAL) and merges.is_file() else {}
    options = {"force_quick_gelu": True} if _trained_with_quick_gelu(spec) else {}
    file = weights.find(spec)

    def make() -> tuple[Any, Any, Any]:
        network, _, transforms = open_clip.create_model_and_transforms(
            name, pretrained=spec.pretrained, device=device, weights_only=True, **options
        )
        return network, transforms, open_clip.get_tokenizer(name, **extra)

    try:
        with weights.quiet():
            network, transforms, tokenizer = hub.cached_or_fetched(make, f"what {name} needs beside its weights")
        preparation = preprocess.from_transforms(transforms)
    except pickle.UnpicklingError as error:
        message = (
            f"{weights.where(spec)}: {file} is refused: it holds more than tensors, and reading it could run any "
            f"code ({str(error).splitlines()[0]}). Remedy: weights as .safetensors, or a checkpoint of tensors only"
        )
        raise ModelError(message) from error
    # Any exception: open_clip asserts that weights and architecture fit, and damaged files raise all kinds.
    except Exception as error:
        message = (
            f"{weights.where(spec)} cannot be loaded: {error or type(error).__name__}. Remedy: check the names with "
            "`python -c 'import open_clip; print(open_clip.list_pretrained())'`; without a network, a tokenizer of the "
            "hub must be in its cache, or in the folder of local-dir:PATH"
        )
        raise ModelError(message) from error
    if weights.find(spec) != file:
        raise ModelError(
            f"{weights.where(spec)}: the hub delivered newer weights than {file}. Remedy: run again to use them"
        )
    return network, preparation, tokenizer


def known_as(spec: params.Model) -> str:
    """Return the model's name for the attributes of its arrays, without the local path of its folder."""
    name = spec.model
    if name.startswith(weights.LOCAL):
        name = f"{weights.LOCAL}{Path(name.removeprefix(weights.LOCAL)).name}"
    return name if spec.pretrained is None else f"{name}/{Path(spec.pretrained).name}"


def _compiled(model: Clip, mode: str) -> Clip:
    """Compile the image tower, which takes nearly all of the time, for batches of one size."""
    from dataclasses import replace  # noqa: PLC0415

    import torch  # noqa: PLC0415

    _check_cache()
    if model.device == "cpu" and " " in (package := _folder_of_torch()):
        message = (
            f"score.compile = {mode} needs torch in a path without spaces, because torch passes its folders to the C++ "
            f"compiler unquoted: {package}. Remedy: compile: none, or the environment in another folder"
        )
        raise ModelError(message)
    model.network.encode_image = torch.compile(model.network.encode_image, mode=mode, dynamic=False)
    return replace(model, image_slices=Slices(model.image_slices.rows, fixed=True))


def _folder_of_torch() -> str:
    import torch  # noqa: PLC0415

    return str(Path(torch.__file__).parent)


def _check_cache() -> None:
    """Raise `ModelError` where another user can write to torch's compile cache, whose code torch runs.

    The default cache has a predictable name in the temporary folder, and torch does not check who owns it.
    """
    default = Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}"
    folder = Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        message = (
            f"score.compile: other users can write to {folder}, and torch runs the code there. Remedy: set "
            "TORCHINDUCTOR_CACHE_DIR to a folder of yours, or compile: none"
        )
        raise ModelError(message)


def _sized(model: Clip) -> Clip:
    """Measure the embedding dimension and the rows that fit a forward pass, with a grey image and a short text."""
    from dataclasses import replace  # noqa: PLC0415

    import torch  # noqa: PLC0415

    blank = devices.pixel_buffer(1, model.preparation.side, model.device).fill_(128)
    tokens = model.tokens(["a"])
    dimensions = {int(model.see(blank).shape[-1]), int(model.read(tokens).shape[-1])}
    if len(dimensions) != 1:
        message = f"{model.name}: its towers give {sorted(dimensions)} features. Remedy: use another model"
        raise ModelError(message)
    with torch.inference_mode():
        images, texts = (
            devices.rows_that_fit(forward, devices.upload(sample, model.device), model.device)
            for forward, sample in ((model._see, blank), (model._read, tokens))  # noqa: SLF001 - our own class
        )
    return replace(model, dimension=dimensions.pop(), image_slices=Slices(images), text_slices=Slices(texts))


def _trained_with_quick_gelu(spec: params.Model) -> bool:
    """Say whether a tag was trained with QuickGELU while its architecture's configuration lacks it.

    open_clip only warns and computes wrong embeddings. Example: ViT-B-32 with the tag `openai`.
    """
    if spec.pretrained is None or Path(spec.pretrained).is_file():
        return False
    import open_clip  # noqa: PLC0415

    tagged = bool(open_clip.get_pretrained_cfg(spec.model, spec.pretrained).get("quick_gelu", False))
    named = bool((open_clip.get_model_config(spec.model) or {}).get("quick_gelu", False))
    if named and not tagged:
        plain = spec.model.removesuffix("-quickgelu")
        message = f"{weights.where(spec)}: this tag was trained without QuickGELU. Remedy: model {plain}"
        raise ModelError(message)
    return tagged and not named


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
