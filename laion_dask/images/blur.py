"""Blur boxes of a picture, such as faces, beyond recognition.

The recipe of Yang et al. (arXiv 2103.06191) for ImageNet, which img2dataset 1.42 to 1.45 and so DataComp followed:
boxes grow by a tenth of their longer side, a Gaussian of a tenth of the longest side blurs picture and mask, and the
mask is the weight of the blurred picture. From 1.46 on, img2dataset cuts the kernel at one sigma and lets its library
choose sigma: its blur then has a third of that strength. Both are implemented; the strong one is the default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from PIL import Image

Box = Sequence[float]
"""x1, y1, x2, y2 as shares of width and height."""
Strength = Literal["full", "img2dataset"]

_SHARE: Final = 0.1
"""Growth of a box at each edge, and sigma of the blur, as shares of the longest side."""


def blur(image: Image.Image, boxes: Sequence[Box], strength: Strength = "full") -> Image.Image:
    """Return an RGB picture with its boxes blurred, or the picture itself without boxes.

    Boxes may reach beyond the edges; those without an area change nothing. `strength` img2dataset reproduces its
    releases from 1.46 on to within one grey level.
    """
    areas, longest = _areas(boxes, image.size)
    if not areas:
        return image
    sigma, radius = _kernel(longest, strength)
    left, top = (min(area[edge] for area in areas) - 2 * radius for edge in (0, 1))
    right, bottom = (max(area[edge] for area in areas) + 2 * radius for edge in (2, 3))
    # Pixels further away than two kernel radii neither change nor affect the blur.
    part = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    mask = np.zeros((part[3] - part[1], part[2] - part[0], 1), np.float32)
    for x1, y1, x2, y2 in areas:
        mask[max(y1 - part[1], 0) : y2 - part[1], max(x1 - part[0], 0) : x2 - part[0]] = 1
    pixels = np.asarray(image.crop(part)).astype(np.float32)
    share = _gaussian(mask, sigma, radius)
    mixed = pixels * (1 - share) + _gaussian(pixels, sigma, radius) * share
    blurred = image.copy()
    blurred.paste(Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)), part[:2])
    return blurred


def _areas(boxes: Sequence[Box], size: tuple[int, int]) -> tuple[list[tuple[int, int, int, int]], float]:
    """Return grown boxes in px, clipped to the picture and rounded down, and the longest side before growth."""
    areas, longest = [], 0.0
    for box in boxes:
        x1, y1, x2, y2 = (min(max(share, 0.0), 1.0) * side for share, side in zip(box, size * 2, strict=True))
        if not (x1 < x2 and y1 < y2):
            continue
        side = max(x2 - x1, y2 - y1)
        longest = max(longest, side)
        growth = _SHARE * side
        # Rounding may cancel the growth of a box of less than ten px; the box itself is always covered.
        right, bottom = (
            max(int(min(end + growth, whole)), math.ceil(end)) for end, whole in zip((x2, y2), size, strict=True)
        )
        areas.append((int(max(x1 - growth, 0)), int(max(y1 - growth, 0)), right, bottom))
    return areas, longest


def _kernel(longest: float, strength: Strength) -> tuple[float, int]:
    """Return sigma and radius in px."""
    sigma = _SHARE * longest
    if strength == "full":
        return max(sigma, 0.1), math.ceil(4 * sigma)
    radius = math.ceil(sigma)
    # OpenCV's default for sigma.
    return 0.3 * (radius - 1) + 0.8, radius


def _gaussian(values: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Blur (height, width, channels), float32; at the edges the picture is mirrored, as OpenCV does."""
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - only needed with boxes

    for axis in (0, 1):
        values = gaussian_filter1d(values, sigma, axis=axis, mode="mirror", radius=radius)
    return values
