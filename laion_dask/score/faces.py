"""Detect faces with an ONNX model of the user that has SCRFD's outputs, and return their boxes.

SCRFD (arXiv 2105.04714) as deepinsight/insightface exports and reads it: for strides of 8, 16 and 32 px (larger models:
up to 128) a score for each anchor and its distances to the four edges of the face, in strides; landmarks are ignored.
DataComp (arXiv 2304.14108, appendix G) gave SCRFD-10G images padded to a square of 224 px, and kept boxes with scores
of at least 0.3.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from laion_dask.clip import preprocess
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.clip.preprocess import Preparation
from laion_dask.params.heads import Faces
from laion_dask.schema.faces import BOXES, SCORES
from laion_dask.storage.files import sha256

Size = tuple[int, int]
"""Width and height of the upright image, in px."""
Found = tuple[np.ndarray, np.ndarray]
"""Boxes (faces, 4) in px of the square, and scores (faces,), float32, highest score first."""

_DEMO_FILE: Final = DEMO_MODEL / "faces.onnx"
_STRIDES: Final = (8, 16, 32, 64, 128)
_LEVELS: Final = (3, 5)
# insightface: (value - 127.5) / 128, red first.
_MEAN: Final = (127.5 / 255,) * 3
_STD: Final = (128 / 255,) * 3
_REMEDY: Final = "Remedy: a detector that insightface exported, such as scrfd_10g_bnkps.onnx; see docs/faces.md"


@dataclass(frozen=True, slots=True)
class FaceDetector:
    """The loaded network with its preprocessing."""

    settings: Faces
    preparation: Preparation
    session: Any
    name: str
    """Of the network's input."""

    def score(self, images: Any) -> list[Found]:  # noqa: ANN401 - torch tensors
        """Return the faces in each image of uint8 (rows, side, side, 3).

        One image at a time: most exported files accept only one, and so the batch size cannot change a box.
        """
        mean, std = (np.array(values, np.float32) for values in (self.preparation.mean, self.preparation.std))
        faces = []
        for image in images.cpu().numpy():
            values = (image.astype(np.float32) / 255 - mean) / std
            outputs = self.session.run(None, {self.name: values.transpose(2, 0, 1)[None]})
            faces.append(decode(outputs, self.settings))
        return faces

    def blank(self, rows: int) -> np.ndarray:
        """Return the values of rows without an image."""
        return np.full(rows, None, object)

    def rows(self, found: Sequence[Found]) -> np.ndarray:
        """Return the results of `score` as an object array (rows,)."""
        values = np.full(len(found), None, object)
        for row, one in enumerate(found):
            values[row] = one
        return values

    def columns(self, values: np.ndarray, sizes: Sequence[Size], _: Mapping[str, np.ndarray]) -> dict[str, list[Any]]:
        """Return `face_schema.COLUMNS` of all rows; `sizes` are those of their images."""
        boxes: list[Any] = [None] * len(values)
        scores: list[Any] = [None] * len(values)
        for row, (one, size) in enumerate(zip(values, sizes, strict=True)):
            if one is not None:
                within, sure = relative(one, size, self.settings.side_px)
                boxes[row], scores[row] = within.tolist(), sure.tolist()
        return {BOXES.name: boxes, SCORES.name: scores}


def file(settings: Faces) -> Path:
    """Return the detector's file; `ModelError` where it is missing or its sha256 is not the expected one."""
    path = _DEMO_FILE if settings.file == "demo" else Path(settings.file)
    if not path.is_file():
        message = f"score.faces: {path} does not exist. Remedy: give the path of a detector, see docs/faces.md"
        raise ModelError(message)
    if settings.expect_sha256 is not None and (digest := sha256(path)) != settings.expect_sha256:
        raise ModelError(
            f"score.faces: {path} has sha256 {digest}, not {settings.expect_sha256} of expect_sha256. "
            "Remedy: fetch the file again, or correct expect_sha256"
        )
    return path


@functools.cache
def load(settings: Faces) -> FaceDetector:
    """Load the detector once for each process and test it on a black image; `ModelError` where it is not SCRFD."""
    import onnxruntime as ort  # noqa: PLC0415 - seconds
    import torch  # noqa: PLC0415 - seconds

    path = file(settings)
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        # Bytes, not a path: so the model cannot load further files from its folder.
        session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        _check_input(entry.type, entry.shape, settings.side_px)
        detector = FaceDetector(settings, preparation(settings.side_px), session, entry.name)
        detector.score(torch.zeros((1, settings.side_px, settings.side_px, 3), dtype=torch.uint8))
    except Exception as error:  # the runtime raises its own errors, and the checks of the layout ValueError
        cause = " ".join(str(error).split())[:300]
        raise ModelError(f"score.faces: {path} is not a detector with SCRFD's outputs: {cause}. {_REMEDY}") from error
    return detector


def preparation(side_px: int) -> Preparation:
    """Return its preprocessing: the whole image in the upper left of a black square."""
    return Preparation(
        f"faces: square of {side_px} px", functools.partial(square, side_px=side_px), (side_px, side_px), _MEAN, _STD
    )


def square(image: Image.Image, *, side_px: int) -> Image.Image:
    """Scale an image until its longer side has `side_px`, and put it into the upper left of a black square."""
    canvas = Image.new("RGB", (side_px, side_px))
    canvas.paste(image.resize(_within(image.size, side_px), Image.Resampling.BILINEAR))
    return canvas


def measured(pictures: Iterable[tuple[str, bytes]], sizes: dict[str, Size]) -> Iterator[tuple[str, bytes]]:
    """Yield pictures (key, bytes) unchanged, and add the size of each that can be opened to `sizes` by key."""
    for key, body in pictures:
        size = preprocess.size(body)
        if size is not None:
            sizes[key] = size
        yield key, body


def sizes_of(keys: Iterable[str], sizes: Mapping[str, Size]) -> list[Size]:
    """Return sizes in the order of keys; 1 x 1 for an image that cannot be opened, which has no faces either."""
    return [sizes.get(key, (1, 1)) for key in keys]


def counts(columns: Mapping[str, Any]) -> dict[str, int]:
    """Count boxes, and images with at least one, in a shard's columns; empty where no detector is configured."""
    if BOXES.name not in columns:
        return {}
    each = [len(boxes) for boxes in columns[BOXES.name] if boxes is not None]
    return {"faces": sum(each), "images_with_faces": sum(number > 0 for number in each)}


def decode(outputs: Sequence[np.ndarray], settings: Faces) -> Found:
    """Decode the outputs for one image to boxes, without those that overlap one with a higher score.

    The last axis of an output is 1 (scores), 4 (distances) or 10 (landmarks); each kind is ordered by stride, and the
    anchors of one cell follow each other. Raises `ValueError` for any other layout.
    """
    scores, distances = (
        [np.asarray(one, np.float32).reshape(-1, last) for one in outputs if np.shape(one)[-1:] == (last,)]
        for last in (1, 4)
    )
    if len(scores) not in _LEVELS or len(distances) != len(scores):
        shapes = ", ".join(str(np.shape(one)) for one in outputs)
        message = f"its outputs have shapes {shapes}, not scores and distances of 3 or 5 strides"
        raise ValueError(message)
    boxes, sure = [], []
    for stride, score, distance in zip(_STRIDES, scores, distances, strict=False):
        centers = _centers(stride, len(score), settings.side_px)
        if len(distance) != len(score) or score.min() < 0 or score.max() > 1:
            message = f"at stride {stride} {len(distance)} distances, {len(score)} scores, or scores not in 0..1"
            raise ValueError(message)
        good = score[:, 0] >= np.float32(settings.threshold)
        reach = distance[good] * stride
        boxes.append(np.concatenate([centers[good] - reach[:, :2], centers[good] + reach[:, 2:]], axis=1))
        sure.append(score[good, 0])
    return apart(np.concatenate(boxes), np.concatenate(sure), settings.overlap)


def apart(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> Found:
    """Suppress boxes (n, 4) in px whose overlap with a higher-scored one is above `overlap` (IoU); best first.

    Sides count one pixel more, as in insightface's non-maximum suppression.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    keep = (sides > 1).all(axis=1)
    for place in range(len(boxes)):
        if keep[place]:
            later = slice(place + 1, None)
            corner = np.minimum(boxes[place, 2:], boxes[later, 2:])
            shared = np.maximum(corner - np.maximum(boxes[place, :2], boxes[later, :2]) + 1, 0).prod(axis=1)
            keep[later] &= shared <= overlap * (areas[place] + areas[later] - shared)
    return boxes[keep], scores[keep]


def relative(found: Found, size: Size, side_px: int) -> Found:
    """Return boxes as shares of an image's width and height, clipped to it; boxes in the padding are dropped."""
    boxes, scores = found
    within = np.clip(boxes / np.tile(np.array(_within(size, side_px), np.float32), 2), 0, 1)
    inside = (within[:, 2:] > within[:, :2]).all(axis=1)
    return within[inside].astype(np.float32), scores[inside]


def _within(size: Size, side_px: int) -> Size:
    width, height = (max(1, round(side * side_px / max(size))) for side in size)
    return width, height


@functools.cache
def _centers(stride: int, count: int, side_px: int) -> np.ndarray:
    cells = -(-side_px // stride)
    anchors, rest = divmod(count, cells * cells)
    if rest or not anchors:
        message = f"at stride {stride} {count} scores do not fit {cells} x {cells} places of a square of {side_px} px"
        raise ValueError(message)
    y, x = np.mgrid[:cells, :cells].reshape(2, -1)
    return np.repeat(np.stack([x, y], axis=1).astype(np.float32) * np.float32(stride), anchors, axis=0)


def _check_input(kind: str, shape: Sequence[Any], side_px: int) -> None:
    if kind != "tensor(float)":
        message = f"it reads {kind}, not tensor(float)"
        raise ValueError(message)
    sides = [side for side in shape[2:] if isinstance(side, int)]
    if any(side != side_px for side in sides):
        message = f"it reads images of {' x '.join(map(str, sides))} px, score.faces.side_px is {side_px}"
        raise ValueError(message)
