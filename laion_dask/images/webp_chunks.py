"""Repair the container of a still WebP: keep its one or two picture chunks, ignore wrong chunks around them.

RFC 9649, 2.5 to 2.7. Repairs wrong lengths in the RIFF header, wrong sizes and flags in VP8X, and drops unknown chunks.
A picture whose own chunk is truncated is not repaired.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from PIL import Image

from laion_dask.images.colors import MAX_PROFILE_BYTES


def is_webp(body: bytes) -> bool:
    """Tell whether bytes begin with the signature of a WebP."""
    return body[:4] == b"RIFF" and body[8:12] == b"WEBP"


def opened(body: bytes) -> Image.Image:
    """Open a WebP; if Pillow fails, with its container rebuilt around the picture."""
    try:
        return Image.open(io.BytesIO(body), formats=("WEBP",))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
        raise
    except Exception:
        plain = _repaired(body)
        if plain is None:
            raise
        return Image.open(io.BytesIO(plain), formats=("WEBP",))


def _repaired(body: bytes) -> bytes | None:
    found: dict[bytes, bytes] = {}
    for kind, data in _chunks(body):
        found.setdefault(kind, data)
        if kind == b"ANMF":
            return None
    picture = next((kind for kind in (b"VP8 ", b"VP8L") if kind in found), None)
    size = _size(picture, found[picture]) if picture is not None else None
    if picture is None or size is None:
        return None
    others = {kind: found[kind] for kind in (b"ICCP", b"ALPH", b"EXIF") if kind in found}
    if picture == b"VP8L" or len(others.get(b"ICCP", b"")) > MAX_PROFILE_BYTES:
        # VP8L contains its own transparency.
        others.pop(b"ALPH" if picture == b"VP8L" else b"ICCP", None)
    opaque = b"ALPH" not in others and not (picture == b"VP8L" and found[picture][4] & 0x10)
    flags = (0x20 if b"ICCP" in others else 0) | (0 if opaque else 0x10) | (0x08 if b"EXIF" in others else 0)
    width, height = (side - 1 for side in size)
    head = bytes([flags, 0, 0, 0]) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    chunks = [(b"VP8X", head)] if others else []
    chunks += [(kind, others[kind]) for kind in (b"ICCP", b"ALPH") if kind in others]
    chunks += [(picture, found[picture])]
    chunks += [(b"EXIF", others[b"EXIF"])] if b"EXIF" in others else []
    inside = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


def _chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the complete chunks, regardless of the RIFF header's length; the last one may lack its padding."""
    place = 12
    while place + 8 <= len(body):
        kind, length = struct.unpack_from("<4sI", body, place)
        if place + 8 + length > len(body):
            return
        yield kind, body[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _size(kind: bytes, data: bytes) -> tuple[int, int] | None:
    """Read width and height in px from the picture chunk (RFC 6386, 9.1; RFC 9649, 3.4)."""
    if kind == b"VP8L":
        if len(data) < 5 or data[0] != 0x2F:
            return None
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(data) < 10 or data[3:6] != b"\x9d\x01\x2a":
        return None
    width, height = struct.unpack_from("<HH", data, 6)
    size = (width & 0x3FFF, height & 0x3FFF)
    return size if all(size) else None
