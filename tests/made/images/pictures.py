"""Pictures for tests: drawn, encoded, prepared, and compared by their grey levels."""

from __future__ import annotations

import dataclasses
import io
import struct
from typing import Any

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin

from laion_dask.images.prepare import Prepared, Rules, prepare

RULES = Rules(mode="keep_ratio_largest", side_px=256, max_pixels=40_000_000)
SECRET = b"where I live"


def prepared(body: bytes, **changes: object) -> Prepared:
    """Prepare a body by `RULES` with changes."""
    return prepare(body, rules(**changes))


def rules(**changes: object) -> Rules:
    """Return `RULES` with changes."""
    return dataclasses.replace(RULES, **changes)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return the bytes of an image file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def opened(result: Prepared) -> Image.Image:
    """Decode what was stored."""
    return Image.open(io.BytesIO(result.picture))


def levels(result: Prepared) -> np.ndarray:
    """Return the stored picture as (height, width, 3) int16."""
    return np.asarray(opened(result).convert("RGB"), dtype=np.int16)


def pixel(result: Prepared, x: int, y: int) -> tuple[int, ...]:
    """Return one stored pixel."""
    value = opened(result).getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def near(found: tuple[int, ...], wanted: tuple[int, ...], tolerance: int = 6) -> bool:
    """Say whether two colors are equal but for what JPEG does to them."""
    return all(abs(one - other) <= tolerance for one, other in zip(found, wanted, strict=True))


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Make what a photo is to a codec: soft shapes of every size, and noise."""
    random = np.random.default_rng(seed)
    levels = np.zeros((height, width, 3), np.float32)
    # Only the largest shapes have colors: codecs store color at half the size.
    for cells, share, channels in ((6, 0.6, 3), (24, 0.5, 1), (96, 0.3, 1)):
        coarse = random.integers(0, 255, (cells, cells, channels), dtype=np.uint8)
        same = Image.fromarray(np.broadcast_to(coarse, (cells, cells, 3)).copy())
        fine = same.resize((width, height), Image.Resampling.BICUBIC)
        levels += (np.asarray(fine, np.float32) - 128) * share
    levels += random.normal(128, 5, (height, width, 1))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def with_metadata(kind: str) -> bytes:
    """Return a picture that carries EXIF with a place, XMP, IPTC, a profile and a comment, as far as its format can."""
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    exif[0x0112] = 1
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    xmp = b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><a>' + SECRET + b"</a></x:xmpmeta>"
    iptc = b"\x1c\x02\x78" + struct.pack(">H", len(SECRET)) + SECRET
    options: dict[str, Any] = {"exif": exif, "xmp": xmp, "quality": 90}
    if kind not in {"GIF", "BMP"}:
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if kind in {"JPEG", "GIF"}:
        options["comment"] = SECRET
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
        options["pnginfo"].add_text("Comment", SECRET.decode())
        options["pnginfo"].add_text("Raw profile type iptc", iptc.hex(), zip=True)
    if kind == "TIFF":
        options["tiffinfo"] = {700: xmp, 33723: iptc, 270: SECRET.decode()}
    body = encoded(photo(1, 320, 200), kind, **options)
    if kind == "JPEG":
        resource = b"8BIM\x04\x04\x00\x00" + struct.pack(">I", len(iptc)) + iptc
        segment = b"Photoshop 3.0\x00" + resource
        body = body[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + body[2:]
    return body
