"""A loaded CLIP model of any architecture on one device, which computes unit embeddings of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from laion_dask.clip import devices, preprocess, text_tower
from laion_dask.clip.devices import Slices
from laion_dask.clip.preprocess import Preparation
from laion_dask.storage import packaged

DEMO_MODEL: Final = packaged.file("demo", "model")
# Of unit length in float32, whatever the precision of the forward pass: it is normalised in float32.
_LENGTH_TOLERANCE: Final = 1e-3


class ModelError(Exception):
    """A model cannot be loaded, or is not what it should be; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A loaded model with its preprocessing and tokenizer, and what identifies it."""

    name: str
    """Architecture and tag, as in the attributes of the arrays."""
    weights_sha256: str
    dimension: int
    preparation: Preparation
    precision: str
    device: str
    network: Any
    tokenizer: Any
    cut_texts: bool
    """Whether tokens can be cut at the end of a batch's longest text without a change (text_tower.py)."""
    image_slices: Slices
    text_slices: Slices

    def see(self, images: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Return the embeddings (rows, dimension) of uint8 pixels (rows, height, width, 3), float32, on the device."""
        return self._run(self._see, images, self.image_slices)

    def read(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Return the embeddings (rows, dimension) of tokens (rows, context), float32, on the device."""
        return self._run(self._read, tokens, self.text_slices)

    def tokens(self, texts: Sequence[str]) -> Any:  # noqa: ANN401 - a torch tensor
        """Tokenize texts for the text tower: (rows, context), or fewer positions where all texts are short."""
        return self.cut(self.tokenizer(list(texts)))

    def lengths(self, tokens: Any) -> np.ndarray:  # noqa: ANN401 - a torch tensor
        """Return where tokens (rows, context) can be cut, (rows,): at the end of each text, or nowhere."""
        if not self.cut_texts:
            return np.full(len(tokens), tokens.shape[1])
        return text_tower.lengths(tokens)

    def cut(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Cut tokens (rows, context) at the end of the longest text, where the text tower allows that."""
        return text_tower.cut(tokens) if self.cut_texts else tokens

    def rows(self, embeddings: Any) -> np.ndarray:  # noqa: ANN401 - a torch tensor
        """Fetch embeddings from the device, float32 (rows, dimension).

        Raises `ModelError` where they have another dimension, are not finite or not of unit length.
        """
        fetched = np.asarray(embeddings.cpu().numpy(), np.float32)
        lengths = np.linalg.norm(fetched, axis=-1)
        if fetched.shape[1:] != (self.dimension,) or not (np.abs(lengths - 1) <= _LENGTH_TOLERANCE).all():
            message = (
                f"{self.name} gave embeddings of shape {fetched.shape}, not (rows, {self.dimension}), or values that "
                "are not finite or not of unit length. Remedy: in fp16 large values overflow, use bf16 or fp32; else "
                "a library version differs, install requirements.lock"
            )
            raise ModelError(message)
        return fetched

    def embed(self, images: Sequence[Image.Image], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings of a few RGB images and of a few texts, float32 (rows, dimension) each."""
        pixels = devices.pixel_buffer(len(images), self.preparation.side, self.device)
        for image, target in zip(images, pixels.numpy(), strict=True):
            preprocess.prepare(image, [self.preparation], [target])
        return self.rows(self.see(pixels)), self.rows(self.read(self.tokens(texts)))

    def _run(self, forward: devices.Forward, rows: Any, slices: Slices) -> Any:  # noqa: ANN401 - torch tensors
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            return slices.run(forward, devices.upload(rows, self.device))

    def _see(self, images: Any) -> Any:  # noqa: ANN401 - torch tensors
        prepared = preprocess.normalised(images, self.preparation).to(devices.dtype(self.precision))
        return unit(self.network.encode_image(prepared))

    def _read(self, tokens: Any) -> Any:  # noqa: ANN401 - torch tensors
        if self.cut_texts:
            return unit(text_tower.encode_text(self.network, tokens))
        return unit(self.network.encode_text(tokens))


def unit(features: Any) -> Any:  # noqa: ANN401 - torch tensors
    """Normalise features to unit length, in float32: in half precision lengths are off by up to a thousandth."""
    from torch.nn.functional import normalize  # noqa: PLC0415

    return normalize(features.float(), dim=-1)
