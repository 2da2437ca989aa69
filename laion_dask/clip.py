"""Images and texts in, unit embeddings out: any open_clip model, loaded once for each process."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

DEMO_MODEL: Final = Path(__file__).parent / "demo" / "model"
_LOCAL: Final = "local-dir:"


class ModelError(Exception):
    """A model cannot be loaded; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A loaded model with its preprocessing and tokenizer, and what identifies it."""

    name: str
    weights_sha256: str
    dimension: int
    preprocessing: str
    device: str
    model: Any
    preprocess: Any
    tokenizer: Any

    def prepare(self, image: Image.Image) -> Any:  # noqa: ANN401 - a torch tensor, torch is imported where it is used
        """Return the tensor (3, side, side) that the image tower reads."""
        return self.preprocess(image)

    def embed(self, images: Sequence[Any], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return image and text embeddings, float32 (rows, dimension), unit length.

        Raises `ModelError` when the model gives another dimension, or values that are not finite.
        """
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            pixels = torch.stack(list(images)).to(self.device)
            tokens = self.tokenizer(list(texts)).to(self.device)
            image = self.model.encode_image(pixels, normalize=True).float().cpu().numpy()
            text = self.model.encode_text(tokens, normalize=True).float().cpu().numpy()
        for kind, rows in (("image", image), ("text", text)):
            if rows.shape != (len(texts), self.dimension) or not np.isfinite(rows).all():
                message = (
                    f"{self.name} gave {kind} embeddings of shape {rows.shape}, not {(len(texts), self.dimension)}, or "
                    "values that are not finite. Remedy: another library version changed it; install requirements.lock"
                )
                raise ModelError(message)
        return image, text


def weights(model: str, pretrained: str | None) -> Path | None:
    """Return the local file with the weights, where there is one: the demo's, a local folder's or a checkpoint."""
    if model == "demo":
        return DEMO_MODEL / "open_clip_model.safetensors"
    if model.startswith(_LOCAL):
        return Path(model.removeprefix(_LOCAL)) / "open_clip_model.safetensors"
    return Path(pretrained) if pretrained and Path(pretrained).is_file() else None


@functools.cache
def load(model: str, pretrained: str | None) -> Clip:
    """Load a model by open_clip name and tag, `hf-hub:` name, `local-dir:` folder, or `demo`; once for each process."""
    import open_clip  # noqa: PLC0415 - seconds
    import torch  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        # One thread, whatever the number of workers: sums keep their order, so that results are equal bit for bit.
        torch.set_num_threads(1)
    name = f"{_LOCAL}{DEMO_MODEL}" if model == "demo" else model
    # A model with a vocabulary of its own carries it in its folder.
    merges = Path(name.removeprefix(_LOCAL)) / "bpe.txt.gz"
    extra = {"bpe_path": str(merges)} if name.startswith(_LOCAL) and merges.is_file() else {}
    try:
        network, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(name, **extra)
    except (OSError, RuntimeError, ValueError) as error:
        message = (
            f"score.model = {model!r} with score.pretrained = {pretrained!r} cannot be loaded: {error}. Remedy: check "
            "the names with `python -c 'import open_clip; print(open_clip.list_pretrained())'`; without a network give "
            "a local file in score.pretrained or a folder as local-dir:PATH"
        )
        raise ModelError(message) from error
    network.eval()
    return Clip(
        name=model if pretrained is None else f"{model}/{Path(pretrained).name}",
        weights_sha256=_digest(network),
        dimension=int(network.text_projection.shape[-1]) if hasattr(network, "text_projection") else _probe(network),
        preprocessing=json.dumps(dict(getattr(network.visual, "preprocess_cfg", {})), sort_keys=True, default=str),
        device=device,
        model=network,
        preprocess=preprocess,
        tokenizer=tokenizer,
    )


def _probe(network: Any) -> int:  # noqa: ANN401 - a torch module
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        return int(network.encode_text(torch.zeros((1, network.context_length), dtype=torch.long)).shape[-1])


def _digest(network: Any) -> str:  # noqa: ANN401 - a torch module
    """Digest the weights as loaded: the same for a file, a tag or a hub name that hold the same numbers."""
    total = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
