"""Score the probability of a watermark with LAION's detector, an EfficientNet-B3 on pixels, not embeddings.

Architecture and preprocessing after LAION-AI/LAION-5B-WatermarkDetection (example_use.py); the weights are the user's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from laion_dask.clip import devices, preprocess, tensors
from laion_dask.clip.clip import ModelError
from laion_dask.clip.devices import Slices
from laion_dask.clip.preprocess import Preparation
from laion_dask.params import heads as head_params
from laion_dask.score import heads

_SIDE_PX: Final = 256
_MEAN: Final = (0.485, 0.456, 0.406)
_STD: Final = (0.229, 0.224, 0.225)
_WATERMARK: Final = 0
"""Index of the class; the other class is clear."""


@dataclass(frozen=True, slots=True)
class WatermarkDetector:
    """The loaded network with its preprocessing and its column."""

    column: str
    preparation: Preparation
    device: str
    network: Any
    slices: Slices

    def score(self, images: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Return probabilities (rows,), float32, of uint8 pixels (rows, 256, 256, 3), on the device."""
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            return self.slices.run(self._forward, devices.upload(images, self.device))

    def blank(self, rows: int) -> np.ndarray:
        """Return the values of rows without an image."""
        return np.full(rows, np.nan, np.float32)

    def rows(self, found: Any) -> np.ndarray:  # noqa: ANN401 - torch tensors
        """Fetch the results of `score` from the device, (rows,)."""
        return np.asarray(found.cpu().numpy())

    def columns(
        self, values: np.ndarray, _: Sequence[tuple[int, int]], __: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return its column, by name."""
        return {self.column: values}

    def _forward(self, images: Any) -> Any:  # noqa: ANN401 - torch tensors
        return self.network(preprocess.normalised(images, self.preparation)).float().softmax(-1)[:, _WATERMARK]


def architecture() -> Any:  # noqa: ANN401 - a torch module
    """Return the network without weights: timm's EfficientNet-B3 with a classifier 1536-625-256-2."""
    import timm  # noqa: PLC0415 - seconds
    from torch import nn  # noqa: PLC0415

    network: Any = timm.create_model("efficientnet_b3", pretrained=False, num_classes=2)
    network.classifier = nn.Sequential(
        nn.Linear(network.num_features, 625),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(625, 256),
        nn.ReLU(),
        nn.Linear(256, 2),
    )
    return network


def preparation() -> Preparation:
    """Return its preprocessing: the whole image to 256 x 256 px, without regard to its aspect ratio."""
    from torchvision.transforms import Resize  # noqa: PLC0415

    resize = Resize((_SIDE_PX, _SIDE_PX))
    return Preparation(repr(resize), resize, (_SIDE_PX, _SIDE_PX), _MEAN, _STD)


@functools.cache
def load(spec: head_params.Head) -> WatermarkDetector:
    """Load the weights of an entry of kind watermark, once for each process; `ModelError` where they do not fit."""
    import torch  # noqa: PLC0415

    file = heads.file(spec)
    weights = {name: torch.from_numpy(values.copy()) for name, values in tensors.read(file).items()}
    device, network = devices.find(), architecture()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        message = (
            f"score.heads: {file} is not a state dict of LAION's watermark detector: "
            f"{' '.join(str(error).split())[:300]}. "
            "Remedy: watermark_model_v1.pt of LAION-5B-WatermarkDetection, or a file with the same names and shapes"
        )
        raise ModelError(message) from error
    network = network.eval().requires_grad_(requires_grad=False).to(device)
    if device == "cuda":
        network = network.to(memory_format=torch.channels_last)
    detector = WatermarkDetector(spec.columns[0], preparation(), device, network, Slices(1))
    sample = devices.upload(devices.pixel_buffer(1, detector.preparation.side, device).fill_(128), device)
    with torch.inference_mode():
        rows = devices.rows_that_fit(detector._forward, sample, device)  # noqa: SLF001 - our own class
    return WatermarkDetector(detector.column, detector.preparation, device, network, Slices(rows))
