"""Repair JPEGs that browsers show: bad segments that do not affect the pixels, and a missing end mark.

Pixels are never invented: a picture with any missing pixel data stays truncated.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from typing import Final

from PIL import Image

START: Final = b"\xff\xd8\xff"
_END: Final = b"\xff\xd9"
_SCAN: Final = 0xDA
_PROGRESSIVE: Final = 0xC2
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a length (ITU T.81, B.1.1.3)."""
_APPLICATION: Final = frozenset({*range(0xE0, 0xF0), 0xFE})
_FORMATS: Final = ("JPEG",)
# Bytes after a complete picture do not change it; after a truncated one, they are decoded as its pixels.
_TAILS: Final = (b"", b"\x55" * 4_096, b"\xaa" * 4_096, b"\x92\x49\x24" * 1_365)
_STRIP_PX: Final = 256


def opened(body: bytes) -> Image.Image:
    """Open a JPEG; if Pillow fails, without application segments that do not affect the pixels."""
    try:
        return Image.open(io.BytesIO(body), formats=("JPEG", "MPO"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise
    except Exception:
        plain = _without_applications(body)
        if plain == body:
            raise
        return Image.open(io.BytesIO(plain), formats=_FORMATS)


def _without_applications(body: bytes) -> bytes:
    kept = bytearray(body[:2])
    end = 2
    for marker, place, after in _segments(body):
        data = body[place + 4 : after]
        orients = marker == 0xE1 and data.startswith(b"Exif\0\0")
        colors = marker == 0xE2 and data.startswith(b"ICC_PROFILE\0")
        # The color transform: ITU T.872, 6.5.3.
        transform = marker == 0xEE and data.startswith(b"Adobe") and len(data) >= 12
        if marker not in _APPLICATION or orients or colors or transform:
            kept += body[place:after]
        end = after
    return bytes(kept + body[end:])


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, place and end of each segment before the first scan."""
    place = 2
    while place + 4 <= len(body) and body[place] == 0xFF:
        marker = body[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        after = place + 2 + struct.unpack_from(">H", body, place + 2)[0]
        if marker == _SCAN or after < place + 4 or after > len(body):
            return
        yield marker, place, after
        place = after


def completed(body: bytes) -> bytes | None:
    """Return a JPEG with its missing end mark added; None if anything else is missing.

    All pixels are present if different bytes appended after them decode to the same picture.
    """
    if not body.startswith(START) or body.endswith(_END) or (_is_progressive(body) and not _has_all_scans(body)):
        return None
    cut = body.removesuffix(b"\xff")
    try:
        digests = {_pixels(cut + tail + _END) for tail in _TAILS}
    except Exception:  # noqa: BLE001 - whatever the decoder raises, the picture stays truncated
        return None
    return cut + _END if len(digests) == 1 else None


def _pixels(body: bytes) -> bytes:
    """Return a digest of all pixels, computed in strips to save memory."""
    total = hashlib.sha256()
    with Image.open(io.BytesIO(body), formats=_FORMATS) as image:
        image.load()
        for top in range(0, image.height, _STRIP_PX):
            total.update(image.crop((0, top, image.width, min(top + _STRIP_PX, image.height))).tobytes())
    return total.digest()


def _is_progressive(body: bytes) -> bool:
    return any(marker == _PROGRESSIVE for marker, _, _ in _segments(body))


def _has_all_scans(body: bytes) -> bool:
    """Tell whether the scans contain every coefficient of every component to its last bit (ITU T.81, G.1.1.1)."""
    final: dict[int, set[int]] = {}
    place = body.find(b"\xff\xda")
    while place >= 0:
        count = body[place + 4] if place + 4 < len(body) else 0
        head = body[place + 5 : place + 8 + 2 * count]
        if len(head) < 2 * count + 3:
            return False
        first, last, bits = head[2 * count : 2 * count + 3]
        for component in head[: 2 * count : 2]:
            final.setdefault(component, set()).update(range(first, last + 1) if not bits & 15 else ())
        place = body.find(b"\xff\xda", place + 4)
    return bool(final) and all(len(coefficients) == 64 for coefficients in final.values())
