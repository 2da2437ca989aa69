"""Convert decoded pictures of any pixel format to 8 bits on white, then to sRGB."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageCms

_BITS_TAG: Final = 258
MAX_PROFILE_BYTES: Final = 4_000_000
"""A larger color profile is ignored."""


def flatten(image: Image.Image) -> Image.Image:
    """Return RGB, L or CMYK: 8 bits, no palette, transparency on white."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _eight_bits(image)
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image if image.mode in {"RGB", "L", "CMYK"} else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray by its bit depth; 32-bit integers and floats, which have no fixed range, by their extremes."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", None) or {}
        bits = tags.get(_BITS_TAG, (16,))[0]
        low, high = 0.0, float(2 ** min(max(bits, 9), 16) - 1)
    else:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    span = high - low if high > low else 1.0
    scaled = (values.astype(np.float64) - low) * (255.0 / span)
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16") and isinstance(transparent, int):
        scaled[values == transparent] = 255.0
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return RGB in sRGB: converted by the embedded ICC profile if it is valid for these pixels, else unchanged."""
    transform = _transform(profile, image.mode) if profile and len(profile) <= MAX_PROFILE_BYTES else None
    converted = ImageCms.applyTransform(image, transform) if transform is not None else None
    return converted if converted is not None else image.convert("RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform from an embedded ICC profile to sRGB; None if it is invalid or of another color space.

    Without lcms's one-pixel cache, so that threads may share it.
    """
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            flags=ImageCms.Flags.NOCACHE,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None
