"""Bytes of a body in, a checked, upright, resized JPEG out, or the reason why not; and the hashes of the original.

Everything is decided by the bytes, nothing by the name or the Content-Type.
"""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageCms

from laion_dask.verdict import KEEP

Mode = Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"]

FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "TIFF", "WEBP")
"""Formats that are read (MPO comes as JPEG): not ICO, whose header may hide a much larger picture, and none that runs
another program (EPS)."""

_SIGNATURES: Final = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("AVIF", rb"....ftypavi[fs]"),
)
_JPEG_MAX_SIDE: Final = 65_500  # libjpeg's limit (JPEG_MAX_DIMENSION)
_ORIENTATION_TAG: Final = 0x0112
_BITS_TAG: Final = 258
_DRAFTED: Final = frozenset({"JPEG", "MPO"})
_SIDEWAYS: Final = frozenset({5, 6, 7, 8})
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_PROFILE_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture is fitted: its size after scaling, and the canvas that it is cropped or padded to, in px."""

    scaled: tuple[int, int]
    canvas: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a body: `reason` keep or one of the closed list; sizes in px are upright, 0 where not known."""

    reason: str
    message: str | None = None
    jpg: bytes = b""
    format: str | None = None
    original_width: int = 0
    original_height: int = 0
    width: int = 0
    height: int = 0


def digests(body: bytes) -> tuple[str, str]:
    """Return md5 and sha256 of the original bytes, hex."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest(), hashlib.sha256(body).hexdigest()


def fit(width: int, height: int, mode: Mode, side_px: int, *, only_if_bigger: bool = True) -> Fit:
    """Compute the sizes of img2dataset's resize modes (its `resizer.py`; halves are rounded to even).

    With `only_if_bigger` a picture whose decisive side does not exceed `side_px` stays as it is.
    """
    same = Fit((width, height), (width, height))
    if mode == "no":
        return same
    decisive = min(width, height) if mode in {"keep_ratio", "center_crop"} else max(width, height)
    if only_if_bigger and decisive <= side_px:
        return same
    scale = side_px / decisive
    scaled = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Fit(scaled, (side_px, side_px) if mode in {"center_crop", "border"} else scaled)


def prepare(body: bytes, *, mode: Mode, side_px: int, max_pixels: int, jpeg_quality: int) -> Prepared:
    """Check, turn upright, put on white, resize and encode an image: RGB JPEG without any metadata.

    The first frame of an animation counts. Never raises for a bad body: not_an_image, truncated_image, too_many_pixels.
    """
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        # Pillow's own limit would refuse what the parameter allows; a lower one is checked below.
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(io.BytesIO(body), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Prepared("too_many_pixels", f"more than {max_pixels} pixels")
    except Exception:  # noqa: BLE001 - parsers of hostile headers raise anything (struct, Type-, KeyError): costs this item
        return _unopened(body)
    with image:
        return _finish(image, mode, side_px, max_pixels, jpeg_quality)


def _unopened(body: bytes) -> Prepared:
    begins_as = next((name for name, sign in _SIGNATURES if re.match(sign, body, re.DOTALL)), None)
    if begins_as is not None:
        # A WEBP that is cut anywhere does not open, a JPEG that is cut in its header neither.
        return Prepared("truncated_image", f"begins as {begins_as}, but cannot be opened", format=begins_as)
    return Prepared("not_an_image", "not an image of a known format" if body else "the body is empty")


def _finish(image: Image.Image, mode: Mode, side_px: int, max_pixels: int, jpeg_quality: int) -> Prepared:
    kind = image.format
    width, height = image.size
    if width * height > max_pixels:
        return Prepared("too_many_pixels", f"more than {max_pixels} pixels", b"", kind, width, height)
    try:
        turn = _load(image, mode, side_px)
        if kind not in _DRAFTED:
            # TIFF turns itself upright while it is decoded.
            width, height = image.size
        if turn in _SIDEWAYS:
            width, height = height, width
        size = fit(width, height, mode, side_px)
        if max(size.canvas) > _JPEG_MAX_SIDE:
            message = f"a side of more than {_JPEG_MAX_SIDE} px cannot be stored as JPEG"
            return Prepared("too_many_pixels", message, b"", kind, width, height)
        jpg = _encode(_render(image, size, turn), jpeg_quality)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Prepared("too_many_pixels", f"a frame of more than {max_pixels} pixels", b"", kind, width, height)
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged data: costs this item, counted
        # Only the kind of error: Pillow's messages may hold addresses of memory, which differ from run to run.
        message = f"cannot be decoded to its end ({type(error).__name__})"
        return Prepared("truncated_image", message, b"", kind, width, height)
    return Prepared(KEEP, None, jpg, kind, width, height, *size.canvas)


def _load(image: Image.Image, mode: Mode, side_px: int) -> int:
    """Decode, a large JPEG at reduced size, and return its EXIF orientation, 1..8."""
    if image.format not in _DRAFTED:
        # Asked for before, the EXIF of a PNG decodes it, and a damaged one would then pass as whole.
        image.load()
        return _orientation(image)
    turn = _orientation(image)
    # The stored picture is fitted as the upright one: the modes treat width and height alike.
    width, height = fit(*image.size, mode, side_px).scaled
    # libjpeg decodes at a half, quarter or eighth; twice the wanted size leaves the resize to its own filter.
    image.draft(image.mode, (2 * width, 2 * height))
    image.load()
    return turn


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF is no reason to lose a picture: it counts as upright
        return 1
    return turn if turn in _TURNS else 1


def _render(image: Image.Image, size: Fit, turn: int) -> Image.Image:
    """Bring a decoded picture to the canvas: white below, scaled, turned, colors to sRGB."""
    scaled = size.scaled[::-1] if turn in _SIDEWAYS else size.scaled
    profile = image.info.get("icc_profile")
    flat = _flatten(image)
    if flat.size != scaled:
        flat = flat.resize(scaled, Image.Resampling.BICUBIC)
    flat = _to_srgb(flat, profile)
    if turn in _TURNS:
        flat = flat.transpose(_TURNS[turn])
    if size.canvas == size.scaled:
        return flat
    left, top = ((canvas - side) // 2 for canvas, side in zip(size.canvas, size.scaled, strict=True))
    if size.canvas[0] <= size.scaled[0] and size.canvas[1] <= size.scaled[1]:
        left, top = ((side - canvas) // 2 for canvas, side in zip(size.canvas, size.scaled, strict=True))
        return flat.crop((left, top, left + size.canvas[0], top + size.canvas[1]))
    padded = Image.new("RGB", size.canvas, "white")
    padded.paste(flat, (left, top))
    return padded


def _flatten(image: Image.Image) -> Image.Image:
    """Return RGB, L or CMYK: 8 bits, no palette, transparency on white."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _eight_bits(image)
    if image.has_transparency_data:
        transparent = image.convert("RGBA")
        white = Image.new("RGBA", transparent.size, "white")
        return Image.alpha_composite(white, transparent).convert("RGB")
    return image if image.mode in {"RGB", "L", "CMYK"} else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale deep gray by its bits; 32-bit integers and floats, which have no fixed range, by their own extremes."""
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
    return Image.fromarray(np.rint(scaled.clip(0, 255)).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _transform(profile, image.mode) if profile and len(profile) <= _MAX_PROFILE_BYTES else None
    converted = ImageCms.applyTransform(image, transform) if transform is not None else None
    return converted if converted is not None else image.convert("RGB")


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the way from an embedded ICC profile to sRGB; None where the profile is invalid or of another color space.

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


def _encode(image: Image.Image, quality: int) -> bytes:
    # Pillow would copy a comment out of the source's info.
    image.info = {}
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
