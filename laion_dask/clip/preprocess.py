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

# A JPEG is decoded at half, a quarter or an eighth of its size; the result must stay this much above what is needed, so
# that the model's own resize still does the last step.
_MARGIN: Final = 1.0


class UnreadableImageError(Exception):
    """The bytes cannot be decoded to their end."""


Quick = Callable[[Any], Any]
"""A uint8 tensor (3, height, width) in, the same image at a model's size out."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a model does to an image before its network sees numbers: open_clip's transforms, cut at the tensor.

    `steps` turn an RGB image into one of `side` (height, width); `(value / 255 - mean) / std` follows on the device.
    """

    key: str
    """Models with equal steps share their pixels."""
    steps: Callable[[Image.Image], Image.Image]
    side: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    quick: Quick | None = None
    """The same steps in torch's 8-bit arithmetic, off by a grey level or two; None where there is no such way."""

    @property
    def needed_px(self) -> int:
        """The shorter side, in pixels, below which an image would have to be enlarged."""
        return max(self.side)


def from_transforms(transforms: Any) -> Preparation:  # noqa: ANN401 - torchvision is imported where it is used
    """Take the transforms that open_clip gives for inference apart.

    Steps on images, ToTensor, Normalize; raises `ValueError` for any other order, which a new version might bring.
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
    """Return torchvision's steps on uint8 tensors for those of nearly all models, shorter side and crop; else nothing.

    With other shapes (squashed, enlarged) torch's kernel was seen to be off by up to ten grey levels.
    """
    from torchvision.transforms import CenterCrop, Resize  # noqa: PLC0415

    # What open_clip puts behind them makes an image RGB, which all images are by then.
    resize, crop = steps[:2] if len(steps) > 1 else (None, None)
    if not isinstance(resize, Resize) or not isinstance(crop, CenterCrop) or not isinstance(resize.size, int):
        return None
    # No closure: it goes to the processes that decode for a GPU.
    return functools.partial(_resized, size=resize.size, side=[*crop.size], how=resize.interpolation)


def _resized(image: Any, *, size: int, side: list[int], how: Any) -> Any:  # noqa: ANN401 - torch tensors and torchvision's names
    from torchvision.transforms.v2 import functional  # noqa: PLC0415

    return functional.center_crop(functional.resize(image, [size], interpolation=how), side)


def decode(body: bytes, needed_px: int | None = None) -> Image.Image:
    """Decode an image to RGB as it is meant to be seen; a JPEG at the smallest of 1, 1/2, 1/4, 1/8 that is enough.

    Enough: the shorter side has `needed_px`; with None always its full size. Raises `UnreadableImageError`.
    """
    try:
        with opened(body, formats=None) as image:
            if needed_px is not None and image.format == "JPEG":
                least = round(needed_px * _MARGIN)
                # draft() asks for both sides: the longer one rounded down, so that it never forbids a step.
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
    """Return width and height of an image as it is meant to be seen, by its head alone; None where that is damaged."""
    try:
        with opened(body, formats=None) as image:
            return seen_size(image)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as in `decode`, which refuses it too where its body is damaged
        return None


def prepare(
    image: Image.Image, preparations: Sequence[Preparation], into: Sequence[np.ndarray], *, quick: bool = False
) -> None:
    """Write the pixels of one image for every preparation: uint8 (height, width, 3) each.

    `quick` takes a third of the time where nothing is enlarged, off by two grey levels at most on drawings and photos,
    by 0.05 of one on average.
    """
    for preparation, target in zip(preparations, into, strict=True):
        if quick and preparation.quick is not None and min(image.size) >= preparation.needed_px:
            import torch  # noqa: PLC0415

            # A copy: torch wants memory that may be written to, also where it only reads.
            found = preparation.quick(torch.from_numpy(np.array(image)).permute(2, 0, 1))
            np.copyto(target, found.permute(1, 2, 0).numpy())
        else:
            np.copyto(target, np.asarray(preparation.steps(image)))


def normalised(pixels: Any, preparation: Preparation) -> Any:  # noqa: ANN401 - torch tensors
    """Return float32 (rows, 3, height, width), channels last, of uint8 (rows, height, width, 3) on the same device.

    Equal bit for bit to ToTensor and Normalize: the same operations in the same order.
    """
    import torch  # noqa: PLC0415

    mean, std = (torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (preparation.mean, preparation.std))
    # A permuted view of rows stored pixel by pixel is the memory layout that "channels last" means.
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
