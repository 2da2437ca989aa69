"""Turn a model's image processor of transformers into a preparation of `clip`, with the same pixels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from PIL import Image

from laion_dask.clip import preprocess
from laion_dask.clip.preprocess import Preparation

# The processors of transformers resize with torch, here Pillow does: photos differ by a few grey levels of 255.
_TOLERANCE: Final = 0.08


class ProcessorError(Exception):
    """An image processor does more than resize, crop and normalise; the message says what differs."""


def of_processor(processor: Any) -> Preparation:  # noqa: ANN401 - of transformers
    """Return the preparation that gives the pixels of an image processor.

    Raises `ProcessorError` where the processor's own pixels of a probe have another shape or differ: it then does more,
    such as cutting an image into tiles.
    """
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize  # noqa: PLC0415 - seconds

    size = _sides(processor.size) if processor.do_resize else None
    how = InterpolationMode[Image.Resampling(processor.resample).name]
    steps: list[Any] = [Resize(size, interpolation=how)] if size is not None else []
    if getattr(processor, "do_center_crop", None):
        steps.append(CenterCrop(_sides(processor.crop_size)))
    resize = Compose(steps)
    width, height = resize(Image.new("RGB", (64, 48))).size
    mean, std = (tuple(map(float, values)) for values in (processor.image_mean, processor.image_std))
    found = Preparation(repr(resize), resize, (height, width), mean, std)
    _check(found, processor)
    return found


def _sides(size: Any) -> int | tuple[int, int]:  # noqa: ANN401 - transformers' SizeDict
    height, width, shortest = (size.get(name) for name in ("height", "width", "shortest_edge"))
    if height and width:
        return int(height), int(width)
    if shortest and not size.get("longest_edge"):
        return int(shortest)
    raise ProcessorError(f"its image processor resizes to {dict(size)}, neither a rectangle nor a shorter side")


def _check(preparation: Preparation, processor: Any) -> None:  # noqa: ANN401 - of transformers
    rows, columns = np.mgrid[0:240, 0:320]
    probe = Image.fromarray(np.stack([rows, columns * 0.75, (rows + columns) / 2.5], axis=-1).astype(np.uint8))
    pixels = np.empty((*preparation.side, 3), np.uint8)
    preprocess.prepare(probe, [preparation], [pixels])
    import torch  # noqa: PLC0415

    ours = preprocess.normalised(torch.from_numpy(pixels)[None], preparation)
    theirs = processor(images=probe, return_tensors="pt")["pixel_values"]
    if theirs.shape != ours.shape:
        raise ProcessorError(
            f"its image processor gives pixels of shape {tuple(theirs.shape)}, not {tuple(ours.shape)}"
        )
    if (difference := float((theirs - ours).abs().max())) > _TOLERANCE:
        raise ProcessorError(f"its image processor gives other pixels, off by up to {difference:.2f} on a probe")
