"""Check, turn upright, resize and encode a picture without its metadata, or give the reason why not.

Only the bytes count, not the name or the Content-Type.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image

from laion_dask.images import colors, hashes, jpeg_segments, png_chunks, webp_chunks
from laion_dask.images.blur import Box, blur
from laion_dask.schema.reasons import KEEP

Mode = Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"]
Smaller = Literal["keep", "enlarge"]
Encoding = Literal["jpg", "png", "webp", "original"]

FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "TIFF", "WEBP")
"""Accepted formats (MPO opens as JPEG). Not ICO, whose header may hide a much larger picture, nor formats that run
another program (EPS)."""

EXTENSIONS: Final = {
    "AVIF": "avif", "BMP": "bmp", "GIF": "gif", "JPEG": "jpg", "JPEG2000": "jp2", "MPO": "jpg", "PNG": "png",
    "PPM": "ppm", "PSD": "psd", "TIFF": "tif", "WEBP": "webp",
}  # fmt: skip
"""Extension in the tar of a body that is stored as received, by its true format."""

_SIGNATURES: Final = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", rb"\x89PNG\r\n\x1a\n"),
    ("GIF", rb"GIF8[79]a"),
    ("WEBP", rb"RIFF....WEBP"),
    ("AVIF", rb"....ftypavi[fs]"),
)
# libjpeg's JPEG_MAX_DIMENSION, libwebp's WEBP_MAX_DIMENSION; PNG has no limit below the parameter's.
_MAX_SIDE: Final = {"jpg": 65_500, "webp": 16_383}
_ENCODERS: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_ANIMATED: Final = frozenset({"GIF", "PNG", "WEBP", "AVIF"})
_ORIENTATION_TAG: Final = 0x0112
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
DRAFT_GAP: Final = 2.0
"""A JPEG is decoded at a half, quarter or eighth of its size that is still this many times the wanted size, and then
resized. Photos differ by at most 2 grey levels, 0.4 on average, from full decoding (mean over their pixels)."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters of `download` that determine the bytes of pictures."""

    mode: Mode
    side_px: int
    max_pixels: int
    smaller: Smaller = "keep"
    encode: Encoding = "jpg"
    quality: int = 95
    pdq: hashes.Pdq = "quick"


@dataclass(frozen=True, slots=True)
class Fit:
    """Sizes of a resized picture in px: after scaling, and of the canvas that it is cropped or padded to."""

    scaled: tuple[int, int]
    canvas: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result for a body: `reason` is keep or a drop reason; sizes are in px, upright, 0 where unknown."""

    reason: str
    message: str | None = None
    picture: bytes = b""
    extension: str = ""
    format: str | None = None
    original_width: int = 0
    original_height: int = 0
    width: int = 0
    height: int = 0
    animated: bool = False
    pdq: str | None = None
    pdq_quality: int | None = None


def fit(width: int, height: int, mode: Mode, side_px: int, smaller: Smaller = "keep") -> Fit:
    """Compute the sizes of img2dataset's resize modes (its `resizer.py`; halves are rounded to even).

    With `smaller` keep (its resize_only_if_bigger), a picture stays as it is if its relevant side is at most `side_px`.
    """
    same = Fit((width, height), (width, height))
    if mode == "no":
        return same
    decisive = min(width, height) if mode in {"keep_ratio", "center_crop"} else max(width, height)
    if smaller == "keep" and decisive <= side_px:
        return same
    scale = side_px / decisive
    scaled = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Fit(scaled, (side_px, side_px) if mode in {"center_crop", "border"} else scaled)


def prepare(body: bytes, rules: Rules, boxes: Sequence[Box] = ()) -> Prepared:
    """Check, turn upright, put on white, resize, blur in boxes and encode a picture: RGB in sRGB, without any metadata.

    Uses the first frame of an animation. With `rules.encode` original, stores the body itself if it decodes completely.
    A bad body gives a reason: not_an_image, truncated_image, too_many_pixels. Boxes refer to the upright picture; the
    perceptual hash is of the unblurred picture. Raises `MemoryError` where memory is limited, `ValueError` for boxes
    with encode original.
    """
    if boxes and rules.encode == "original":
        message = "a body that is stored as received cannot be blurred. Remedy: encode jpg, png or webp"
        raise ValueError(message)
    if Image.MAX_IMAGE_PIXELS is not None and rules.max_pixels > Image.MAX_IMAGE_PIXELS:
        # Pillow's own limit must not be below the parameter's, which is checked below.
        Image.MAX_IMAGE_PIXELS = rules.max_pixels
    try:
        image = opened(body)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Prepared("too_many_pixels", f"more than {rules.max_pixels} pixels")
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - parsers of hostile headers raise anything (struct, Type-, KeyError): costs this item
        return _unopened(body)
    with image:
        result = _finish(image, body, rules, boxes)
    if result.reason == "truncated_image" and (whole := jpeg_segments.completed(body)) is not None:
        with opened(whole) as image:
            return _finish(image, body, rules, boxes)
    return result


def upright(body: bytes) -> Image.Image:
    """Decode a picture of a shard for display: RGB in sRGB, upright, on white.

    Pictures that this project encoded are already so; those stored as received may need all steps.
    """
    try:
        with opened(body) as image:
            return as_seen(image)
    except OSError:
        whole = jpeg_segments.completed(body)
        if whole is None:
            raise
    with opened(whole) as image:
        return as_seen(image)


def opened(body: bytes, formats: Sequence[str] | None = FORMATS) -> Image.Image:
    """Open a picture in one of the formats (None: any that Pillow reads); raises whatever its parsers raise."""
    if body.startswith(png_chunks.SIGNATURE):
        return png_chunks.opened(body)
    if body.startswith(jpeg_segments.START):
        return jpeg_segments.opened(body)
    if webp_chunks.is_webp(body):
        return webp_chunks.opened(body)
    return Image.open(io.BytesIO(body), formats=list(formats) if formats is not None else None)


def as_seen(image: Image.Image) -> Image.Image:
    """Decode an opened picture to RGB in sRGB, upright, on white."""
    image.load()
    turn = _orientation(image)
    size = seen_size(image)
    return _Decoded(colors.flatten(image), size, turn, image.info.get("icc_profile")).at(size)


def seen_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened picture after orientation, in px, without decoding it."""
    width, height = image.size
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def _unopened(body: bytes) -> Prepared:
    begins_as = next((name for name, sign in _SIGNATURES if re.match(sign, body, re.DOTALL)), None)
    if begins_as is not None:
        # A WEBP truncated anywhere does not open, nor does a JPEG truncated in its header.
        return Prepared("truncated_image", f"begins as {begins_as}, but cannot be opened", format=begins_as)
    return Prepared("not_an_image", "not an image of a known format" if body else "the body is empty")


def _finish(image: Image.Image, body: bytes, rules: Rules, boxes: Sequence[Box]) -> Prepared:
    kind = image.format
    width, height = image.size

    def refused(reason: str, message: str) -> Prepared:
        return Prepared(reason, message, format=kind, original_width=width, original_height=height)

    if width * height > rules.max_pixels:
        return refused("too_many_pixels", f"more than {rules.max_pixels} pixels")
    try:
        animated = _animated(image)
        turn = _load(image, rules)
        if kind not in _DRAFTED:
            # Pillow turns a TIFF upright while decoding it.
            width, height = image.size
        if turn in _SIDEWAYS:
            width, height = height, width
        size = _fit(width, height, rules)
        limit = _MAX_SIDE.get(rules.encode)
        if limit is not None and max(size.canvas) > limit:
            return refused("too_many_pixels", f"a side of more than {limit} px cannot be stored as {rules.encode}")
        decoded = _Decoded(colors.flatten(image), (width, height), turn, image.info.get("icc_profile"))
        view = decoded.at(size.scaled) if rules.encode != "original" else None
        found = _perceptual(decoded, view, rules)
        # Blur before the crop, as img2dataset does: boxes are shares of the whole picture.
        stored = body if view is None else _encode(_on_canvas(blur(view, boxes), size), rules)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return refused("too_many_pixels", f"a frame of more than {rules.max_pixels} pixels")
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on damaged data: costs this item, counted
        # Only the type of error: Pillow's messages may contain memory addresses, which differ from run to run.
        return refused("truncated_image", f"cannot be decoded to its end ({type(error).__name__})")
    return Prepared(
        KEEP,
        picture=stored,
        extension=EXTENSIONS[kind or ""] if view is None else rules.encode,
        format=kind,
        original_width=width,
        original_height=height,
        width=size.canvas[0],
        height=size.canvas[1],
        animated=animated,
        pdq=found.hex if found else None,
        pdq_quality=found.quality if found else None,
    )


def _fit(width: int, height: int, rules: Rules) -> Fit:
    # A body that is stored as received is not resized.
    mode: Mode = "no" if rules.encode == "original" else rules.mode
    return fit(width, height, mode, rules.side_px, rules.smaller)


def _animated(image: Image.Image) -> bool:
    """Tell whether there are more frames; pages of a TIFF and second views of an MPO do not count."""
    try:
        frames = image.info.get(png_chunks.ANIMATED) or getattr(image, "is_animated", False)
        return image.format in _ANIMATED and bool(frames)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - a damaged second frame is no reason to lose the first
        return False


def _load(image: Image.Image, rules: Rules) -> int:
    """Decode the picture, a large JPEG at reduced size, and return its EXIF orientation, 1..8."""
    if image.format not in _DRAFTED:
        # Load first: reading the EXIF of a PNG decodes it, and hides damage from a later load.
        image.load()
        return _orientation(image)
    turn = _orientation(image)
    # The stored picture is fitted as the upright one: the modes treat width and height alike.
    wanted = (1, 1) if rules.encode == "original" else _fit(*image.size, rules).scaled
    # The perceptual hash has its own minimum size.
    lowest_scale = min(1.0, hashes.PDQ_SIDE_PX.get(rules.pdq, 1) / max(image.size))
    width, height = (
        round(max(DRAFT_GAP * want, lowest_scale * side)) for want, side in zip(wanted, image.size, strict=True)
    )
    image.draft(image.mode, (width, height))
    image.load()
    return turn


def _orientation(image: Image.Image) -> int:
    try:
        turn = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - broken EXIF is no reason to lose a picture: it counts as upright
        return 1
    return turn if turn in _TURNS else 1


@dataclass(frozen=True, slots=True)
class _Decoded:
    """A decoded picture on white, perhaps at reduced size; the size of the original is upright, in px."""

    flat: Image.Image
    original: tuple[int, int]
    turn: int
    profile: bytes | None

    def at(self, size: tuple[int, int]) -> Image.Image:
        """Return it upright in sRGB, scaled to `size`; as in img2dataset, with different filters down and up."""
        picture = self.flat
        wanted = size[::-1] if self.turn in _SIDEWAYS else size
        if picture.size != wanted:
            shrinks = wanted <= picture.size
            filter_ = Image.Resampling.HAMMING if shrinks else Image.Resampling.LANCZOS
            picture = picture.resize(wanted, filter_, reducing_gap=DRAFT_GAP if shrinks else None)
        picture = colors.to_srgb(picture, self.profile)
        return picture.transpose(_TURNS[self.turn]) if self.turn in _TURNS else picture


def _perceptual(decoded: _Decoded, view: Image.Image | None, rules: Rules) -> hashes.Perceptual | None:
    """Hash the stored view if it is large enough and not enlarged, else a view of the hash's own size."""
    if rules.pdq == "skip":
        return None
    side = hashes.PDQ_SIDE_PX[rules.pdq]
    target = fit(*decoded.original, "keep_ratio_largest", side).scaled
    if view is None or (
        view.size != target and not (rules.pdq == "quick" and side <= max(view.size) <= max(decoded.original))
    ):
        view = decoded.at(target)
    return hashes.pdq(view, decoded.original, rules.pdq)


def _on_canvas(view: Image.Image, size: Fit) -> Image.Image:
    """Crop a scaled picture to its canvas, or pad it with white, centered."""
    if size.canvas == size.scaled:
        return view
    if size.canvas[0] <= size.scaled[0] and size.canvas[1] <= size.scaled[1]:
        left, top = ((side - canvas) // 2 for canvas, side in zip(size.canvas, size.scaled, strict=True))
        return view.crop((left, top, left + size.canvas[0], top + size.canvas[1]))
    left, top = ((canvas - side) // 2 for canvas, side in zip(size.canvas, size.scaled, strict=True))
    padded = Image.new("RGB", size.canvas, "white")
    padded.paste(view, (left, top))
    return padded


def _encode(image: Image.Image, rules: Rules) -> bytes:
    # Pillow would copy a comment, a profile or a text from the source's info.
    image.info = {}
    out = io.BytesIO()
    image.save(out, _ENCODERS[rules.encode], quality=rules.quality)
    return out.getvalue()
