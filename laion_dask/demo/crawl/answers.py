"""Make the response of an image host to each address of the demo crawl: status, headers and body.

A response is planned cheaply (a scene, a size, a format) and drawn only when its bytes are needed, so that the plan of
the whole crawl takes a second and drawing runs on all workers.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Final, Literal

from PIL import Image

from laion_dask.demo.crawl.scenes import Scene, draw

Format = Literal["JPEG", "PNG", "WEBP"]
Fault = Literal["", "truncated", "bomb"]

CONTENT_TYPES: Final[dict[str, str]] = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
EXTENSIONS: Final[dict[str, str]] = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}

# EXIF orientation -> the rotation of the stored picture, which a reader of the tag undoes.
_STORED_AS: Final = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_ORIENTATION_TAG: Final = 0x0112
# Side of the decompression bomb in its header: 400 million pixels, ten times the default limit.
_BOMB_SIDE_PX: Final = 20_000


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A scene and its encoding: upright size in px, format, quality (not PNG), EXIF orientation, alpha (PNG)."""

    scene: Scene
    width: int
    height: int
    format: Format = "JPEG"
    quality: int = 90
    orientation: int = 1
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """The response of one absolute address: a picture, a text, or neither."""

    url: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = ""
    text: str = ""
    picture: DrawnPicture | None = None
    fault: Fault = ""
    listed: bool = False

    @property
    def status_line(self) -> str:
        """Status and reason phrase, `404 Not Found`."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    @property
    def cost(self) -> float:
        """Approximate cost of the body for balancing parts, 1.0 for a small picture."""
        if self.picture is None or self.fault == "bomb":
            return 0.1
        return 0.5 + self.picture.width * self.picture.height / 100_000


def body(answer: HostAnswer) -> bytes:
    """Return the bytes of the response's body, the same at every call."""
    if answer.fault == "bomb":
        return _claiming_png(_BOMB_SIDE_PX)
    if answer.picture is None:
        return answer.text.encode()
    data = encode(answer.picture)
    return data[: len(data) * 3 // 5] if answer.fault == "truncated" else data


def content_type(answer: HostAnswer) -> str:
    """Return the Content-Type of the body, unless the plan sets another."""
    if answer.content_type:
        return answer.content_type
    return CONTENT_TYPES[answer.picture.format] if answer.picture else "text/html; charset=utf-8"


def encode(picture: DrawnPicture) -> bytes:
    """Draw and compress a picture, with low effort, since time matters more here than size."""
    image = draw(picture.scene, picture.width, picture.height)
    if picture.orientation != 1:
        image = image.transpose(_STORED_AS[picture.orientation])
    exif = Image.Exif()
    if picture.orientation != 1:
        exif[_ORIENTATION_TAG] = picture.orientation
    out = BytesIO()
    if picture.format == "PNG":
        (image.convert("RGBA") if picture.alpha else image).save(out, "PNG", compress_level=1)
    elif picture.format == "WEBP":
        image.save(out, "WEBP", quality=picture.quality, method=0)
    else:
        image.save(out, "JPEG", quality=picture.quality, exif=exif.tobytes() if picture.orientation != 1 else b"")
    return out.getvalue()


def _claiming_png(side_px: int) -> bytes:
    """Return a PNG of a few bytes whose header claims a square of `side_px`."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(64), 9)), (b"IEND", b""))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
