"""Score images without the text in them: mask what a detector finds, and embed the image again, as T-MARS does.

T-MARS (arXiv 2307.03132) detects text with FAST, fills it with the average colour of the pixels around, and compares
the masked image with its caption. FAST's code is not a package; here a detector with the output of PaddleOCR's stands
in, a map of probabilities (differentiable binarization, arXiv 1911.08947). PP-OCRv6 small comes with the package
rapidocr (Apache-2.0), of which only this file is read.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from laion_dask.clip.clip import Clip, ModelError
from laion_dask.clip.preprocess import Preparation
from laion_dask.params.heads import MaskedText
from laion_dask.schema.masked import MASKED
from laion_dask.storage.files import sha256

PACKAGED: Final = "rapidocr"
"""Value of score.masked_text.file that means the detector of this package."""
_DETECTOR: Final = "models/PP-OCRv6_det_small.onnx"
_STEP_PX: Final = 32
_LEAST_REGION_PX: Final = 3
# Pixels of the detector's input around a region that give its colour.
_RING_PX: Final = 4
_REMEDY: Final = "Remedy: a detector of PaddleOCR exported to ONNX, or file: rapidocr; see docs/scoring.md"


@dataclass(frozen=True, slots=True)
class MaskedTower:
    """The image tower of a model behind a preprocessing that masks text."""

    name: str
    """Of the model in score.models."""
    model: Clip
    preparation: Preparation

    def score(self, images: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Return the embeddings of masked images, uint8 (rows, height, width, 3)."""
        return self.model.see(images)

    def blank(self, rows: int) -> np.ndarray:
        """Return the embeddings of rows without an image."""
        return np.full((rows, self.model.dimension), np.nan, np.float32)

    def rows(self, found: Any) -> np.ndarray:  # noqa: ANN401 - torch tensors
        """Fetch the embeddings from the device, (rows, features)."""
        return self.model.rows(found)

    def columns(
        self, values: np.ndarray, _: Sequence[tuple[int, int]], texts: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return the similarity of the masked image and the text; NaN where the model has not read the text."""
        return {MASKED.name: np.einsum("ij,ij->i", values, texts[self.name]).astype(np.float32)}


def file(settings: MaskedText) -> Path:
    """Return the detector's file; `ModelError` where it is missing or its sha256 is not the expected one."""
    path = _packaged() if settings.file == PACKAGED else Path(settings.file)
    if not path.is_file():
        message = f"score.masked_text: {path} does not exist. Remedy: the path of a detector, or file: rapidocr"
        raise ModelError(message)
    if settings.expect_sha256 is not None and (digest := sha256(path)) != settings.expect_sha256:
        raise ModelError(
            f"score.masked_text: {path} has sha256 {digest}, not {settings.expect_sha256} of expect_sha256. "
            "Remedy: fetch the file again, or correct expect_sha256"
        )
    return path


def _packaged() -> Path:
    # Found without importing it, which would load OpenCV.
    found = util.find_spec(PACKAGED)
    if found is None or not found.submodule_search_locations:
        message = "score.masked_text: the package rapidocr, which has the detector, is not installed"
        raise ModelError(
            f"{message}. Remedy: `pip install 'laion-dask[masks]'`, or `uv pip install --no-deps rapidocr`"
        )
    return Path(found.submodule_search_locations[0]) / _DETECTOR


def load(settings: MaskedText, models: Mapping[str, Clip]) -> MaskedTower:
    """Return the tower of a model of `score.models`, by default the first, with its detector tested."""
    name = settings.model or next(iter(models))
    test(settings)
    own = models[name].preparation
    steps = functools.partial(_steps, settings=settings, steps=own.steps)
    key = f"{settings.model_dump_json()}: {own.key}"
    return MaskedTower(name, models[name], Preparation(key, steps, own.side, own.mean, own.std, None, settings.side_px))


def test(settings: MaskedText) -> None:
    """Run the detector on a black image. Raises `ModelError` where it gives no map of probabilities."""
    try:
        detect(Image.new("RGB", (settings.side_px, settings.side_px // 2)), settings)
    except ModelError:
        raise
    except Exception as error:  # the runtime raises its own errors, and the check of the output ValueError
        cause = " ".join(str(error).split())[:300]
        message = f"score.masked_text: {file(settings)} does not detect text as PaddleOCR's do: {cause}"
        raise ModelError(f"{message}. {_REMEDY}") from error


def _steps(image: Image.Image, *, settings: MaskedText, steps: Any) -> Image.Image:  # noqa: ANN401 - a model's transforms
    return steps(masked(image, settings))  # type: ignore[no-any-return]


def masked(image: Image.Image, settings: MaskedText) -> Image.Image:
    """Return an RGB image with each region of text in the average colour of the pixels around it."""
    small = image.resize(_input_size(image.size, settings.side_px), Image.Resampling.BILINEAR)
    found = regions(detect(small, settings), settings)
    if not found.labels.any():
        return image
    colours = _colours(np.asarray(small), found)
    labels = Image.fromarray(found.labels).resize(image.size, Image.Resampling.NEAREST)
    pixels, covered = np.array(image), np.asarray(labels)
    pixels[covered > 0] = colours[covered[covered > 0]]
    return Image.fromarray(pixels)


def detect(image: Image.Image, settings: MaskedText) -> np.ndarray:
    """Return the detector's map for an image whose sides are multiples of 32: float32 (height, width), 0 to 1."""
    session = _session(file(settings))
    # Blue first, as OpenCV reads images.
    values = (np.asarray(image, np.float32)[:, :, ::-1] / 255 - 0.5) / 0.5
    (found,) = session.run(None, {session.get_inputs()[0].name: values.transpose(2, 0, 1)[None]})
    if found.shape != (1, 1, image.height, image.width) or not 0 <= found.min() <= found.max() <= 1:
        message = f"its output has shape {found.shape}, or values not in 0..1"
        raise ValueError(message)
    return np.asarray(found[0, 0])


@functools.cache
def _session(path: Path) -> Any:  # noqa: ANN401 - onnxruntime's session
    import onnxruntime as ort  # noqa: PLC0415 - seconds

    options = ort.SessionOptions()
    # One thread: as many images are decoded at once as there are processors, and sums have one order.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Bytes, not a path: so the model cannot load further files from its folder.
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def _input_size(size: tuple[int, int], side_px: int) -> tuple[int, int]:
    """Return multiples of 32 next to the size of an image whose longer side has `side_px`."""
    width, height = (max(1, round(side * side_px / max(size) / _STEP_PX)) * _STEP_PX for side in size)
    return width, height


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of text: int32 (height, width), 0 outside and 1 to n inside; and the labels of the pixels around each."""

    labels: np.ndarray
    around: np.ndarray


def regions(probabilities: np.ndarray, settings: MaskedText) -> Regions:
    """Return the regions of a map of probabilities, grown to the whole of their text.

    As PaddleOCR does: pixels above `threshold` that touch, whose mean is at least `least_score`, grown by area times
    `grow` over perimeter, since the detector learned shrunk regions. Area and perimeter are those of the rectangle with
    the same moments, which fits tilted lines too.
    """
    from scipy import ndimage  # noqa: PLC0415 - seconds

    above = ndimage.binary_dilation(probabilities > settings.threshold, np.ones((2, 2), bool))
    found, count = ndimage.label(above, np.ones((3, 3), int))
    reach = np.zeros(count + 1)
    for label, place in enumerate(ndimage.find_objects(found), 1):
        inside = found[place] == label
        sides = _sides(inside)
        if min(sides) >= _LEAST_REGION_PX and probabilities[place][inside].mean() >= settings.least_score:
            reach[label] = sides[0] * sides[1] * settings.grow / (2 * (sides[0] + sides[1]))
    numbers = np.cumsum(reach > 0) * (reach > 0)
    core = np.where(reach[found] > 0, found, 0)
    if not core.any():
        return Regions(np.zeros(found.shape, np.int32), np.zeros(found.shape, np.int32))
    distance, (rows, columns) = ndimage.distance_transform_edt(core == 0, return_indices=True)
    nearest = core[rows, columns]
    labels = np.where(distance <= reach[nearest], numbers[nearest], 0)
    around = np.where((labels == 0) & (distance <= reach[nearest] + _RING_PX), numbers[nearest], 0)
    return Regions(labels.astype(np.int32), around.astype(np.int32))


def _sides(inside: np.ndarray) -> tuple[float, float]:
    """Return the sides in px of the rectangle whose moments are those of the pixels."""
    rows, columns = np.nonzero(inside)
    # A pixel has the variance of a unit square.
    moments = np.cov(np.stack([rows, columns]), bias=True) + np.eye(2) / 12
    short, long = np.sqrt(12 * np.maximum(np.linalg.eigvalsh(moments), 0))
    return float(short), float(long)


def _colours(pixels: np.ndarray, found: Regions) -> np.ndarray:
    """Return the colour of each label, uint8 (labels + 1, 3): the mean of the pixels around, or of all outside."""
    count = int(found.labels.max()) + 1
    around = np.bincount(found.around.ravel(), minlength=count)
    sums = [np.bincount(found.around.ravel(), pixels[:, :, one].ravel(), count) for one in range(3)]
    outside = pixels[found.labels == 0]
    spare = (outside if len(outside) else pixels.reshape(-1, 3)).mean(axis=0)
    means = np.stack(sums, axis=1) / np.maximum(around, 1)[:, None]
    return np.asarray(np.rint(np.where(around[:, None] > 0, means, spare)), np.uint8)
