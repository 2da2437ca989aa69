"""Decode each image once to uint8 pixels, and turn these into the input of every model by its own transforms."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from laion_dask.images.jpeg_segments import completed
from laion_dask.images.prepare import as_seen, opened, seen_size

# A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size, but not below this multiple of the needed size: the last step is
# the model's own resize.
_MARGIN: Final = 1.0


class UnreadableImageError(Exception):
    """The bytes cannot be decoded to their end."""


Quick = Callable[[Any], Any]
"""Resize and crop a uint8 tensor (3, height, width) to a model's input size."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """A model's preprocessing: open_clip's transforms, split before ToTensor.

    `steps` turn an RGB image into one of `side` (height, width); `(value / 255 - mean) / std` follows on the device.
    """

    key: str
    """Models with equal steps share their pixels."""
    steps: Callable[[Image.Image], Image.Image]
    side: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quick: Quick | None = None
    """The same steps in torch's 8-bit arithmetic, off by up to two grey levels; None where torch has no equivalent."""
    least_px: int = 0
    """What the steps need before they scale to `side`."""

    @property
    def needed_px(self) -> int:
        """The shorter side, in pixels, below which an image would have to be enlarged."""
        return max(*self.side, self.least_px)


def from_transforms(transforms: Any) -> Preparation:  # noqa: ANN401 - torchvision is imported where it is used
    """Build a preparation from open_clip's transforms for inference: steps on images, ToTensor, Normalize.

    Raises `ValueError` for any other order, which a new version of open_clip might bring.
    """
    from torchvision.transforms import Compose, Normalize, ToTensor  # noqa: PLC0415

    steps = list(transforms.transforms)
    kinds = [isinstance(step, ToTensor) for step in steps]
    cut = kinds.index(True) if any(kinds) else len(steps)
    if len(steps) != cut + 2 or not isinstance(steps[-1], Normalize):
        message = f"transforms {transforms} do not end in ToTensor and Normalize. Remedy: install requirements.lock"
        raise ValueError(message)
    resize = Compose(steps[:cut])
    width, height = resize(Image.new("RGB", (32, 32))).size
    mean, std = (tuple(float(value) for value in values) for values in (steps[-1].mean, steps[-1].std))
    return Preparation(repr(resize), resize, (height, width), mean, std, _quick(steps[:cut]))


def _quick(steps: Sequence[Any]) -> Quick | None:
    """Return the uint8 equivalent of a resize of the shorter side and a crop, nearly all models' steps; else None.

    With other resizes (squashed, enlarged) torch's kernel was off by up to ten grey levels.
    """
    from torchvision.transforms import CenterCrop, Resize  # noqa: PLC0415

    # open_clip's next step converts to RGB; all images already are RGB.
    resize, crop = steps[:2] if len(steps) > 1 else (None, None)
    if not isinstance(resize, Resize) or not isinstance(crop, CenterCrop) or not isinstance(resize.size, int):
        return None
    # A partial, not a closure: it is pickled for the decoding processes of a GPU.
    return functools.partial(_resized, size=resize.size, side=[*crop.size], how=resize.interpolation)


def _resized(image: Any, *, size: int, side: list[int], how: Any) -> Any:  # noqa: ANN401 - torch tensors and torchvision's names
    from torchvision.transforms.v2 import functional  # noqa: PLC0415

    return functional.center_crop(functional.resize(image, [size], interpolation=how), side)


def decode(body: bytes, needed_px: int | None = None) -> Image.Image:
    """Decode an image to RGB, upright; a JPEG at the smallest of 1, 1/2, 1/4, 1/8 whose shorter side has `needed_px`.

    With None for `needed_px` always at full size. Raises `UnreadableImageError`.
    """
    try:
        with opened(body, formats=None) as image:
            if needed_px is not None and image.format == "JPEG":
                least = round(needed_px * _MARGIN)
                # draft() compares both sides: the longer one is rounded down, so that it never forbids a step.
                scale = least / min(image.size)
                if scale < 1:
                    image.draft("RGB", (int(image.width * scale), int(image.height * scale)))
            return as_seen(image)
    except MemoryError:
        raise
    except Exception as error:  # parsers of hostile files raise anything (struct, Type-, KeyError): costs this image
        if (whole := completed(body)) is not None:
            return decode(whole, needed_px)
        raise UnreadableImageError(f"{type(error).__name__}: {error}") from error


def size(body: bytes) -> tuple[int, int] | None:
    """Return width and height of the upright image, from its header alone; None where that is damaged."""
    try:
        with opened(body, formats=None) as image:
            return seen_size(image)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as in `decode`, which refuses this image too
        return None


def prepare(
    image: Image.Image, preparations: Sequence[Preparation], into: Sequence[np.ndarray], *, quick: bool = False
) -> None:
    """Write the pixels of one image for every preparation: uint8 (height, width, 3) each.

    `quick` takes a third of the time where nothing is enlarged; on drawings and photos it is off by at most two grey
    levels, by 0.05 on average.
    """
    for preparation, target in zip(preparations, into, strict=True):
        if quick and preparation.quick is not None and min(image.size) >= preparation.needed_px:
            import torch  # noqa: PLC0415

            # A copy: torch warns of read-only memory.
            resized = preparation.quick(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            np.copyto(target, resized.permute(1, 2, 0).numpy())
        else:
            np.copyto(target, np.asarray(preparation.steps(image)))


def normalised(pixels: Any, preparation: Preparation) -> Any:  # noqa: ANN401 - torch tensors
    """Normalise uint8 (rows, height, width, 3) to float32 (rows, 3, height, width), channels last, on the same device.

    Equal bit for bit to ToTensor and Normalize: the same operations in the same order.
    """
    import torch  # noqa: PLC0415

    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (preparation.mean, preparation.std))
    # A permuted view of rows stored pixel by pixel is the memory layout that "channels last" means.
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
