"""Open a PNG as browsers do: pass only the chunks that determine the picture to the decoder, ignore damage in others.

PNG (third edition), 13.2: a decoder ignores damaged ancillary chunks and reports critical ones. Pillow fails at a wrong
checksum or a short chunk of any kind, at texts and profiles above a limit, and reads the transparent color of pictures
of any bit depth as if they had 8 bits. Texts are dropped unread, so that a bomb in them is never unpacked.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from PIL import Image

from laion_dask.images.colors import MAX_PROFILE_BYTES

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
ANIMATED: Final = "laion_dask_animated"
"""Key of `Image.info`: whether the file describes more than one frame."""
_CHUNK_HEAD_BYTES: Final = 8
_GRAY: Final = 0
_RGB: Final = 2
_COLOR_BYTES: Final = {_GRAY: 2, _RGB: 6}


class PngError(SyntaxError):
    """A chunk that determines the picture is damaged."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk: `stored` is all its bytes, `valid` whether its checksum is right, `whole` false if it is truncated."""

    kind: bytes
    data: memoryview
    stored: memoryview
    valid: bool
    whole: bool

    @property
    def critical(self) -> bool:
        # PNG 5.4: bit 5 of the first letter.
        return not self.kind[0] & 0x20

    @property
    def damaged(self) -> bool:
        """Whether it determines the picture and has a wrong checksum; that of IEND is ignored."""
        return self.critical and self.whole and not self.valid and self.kind != b"IEND"


def opened(body: bytes) -> Image.Image:
    """Open a PNG, or the still picture of an animation; raises what Pillow raises, and `PngError`."""
    chunks = list(_chunks(body))
    transparent = next((chunk.data for chunk in chunks if chunk.kind == b"tRNS" and chunk.valid), None)
    colors = next((len(chunk.data) // 3 for chunk in chunks if chunk.kind == b"PLTE"), 0)
    kept, has_data = bytearray(SIGNATURE), False
    for chunk in chunks:
        if chunk.damaged and chunk.kind == b"IDAT":
            # The rest is lost: size and format can be read, but decoding ends early.
            kept += chunk.stored[:_CHUNK_HEAD_BYTES]
            break
        if chunk.damaged and has_data:
            break  # the picture is complete without it, or decoding ends early
        if chunk.damaged:
            raise PngError(f"the checksum of {chunk.kind!r} is wrong")
        has_data |= chunk.kind == b"IDAT"
        if chunk.critical or (chunk.valid and _is_needed(chunk, colors)):
            kept += chunk.stored
    image = Image.open(io.BytesIO(kept), formats=("PNG",))
    # Bit depth and color type, from IHDR.
    depth, kind = chunks[0].data[8:10]
    if transparent is not None and len(transparent) == _COLOR_BYTES.get(kind):
        image.info["transparency"] = _color(transparent, kind, depth)
    profile = next((chunk.data for chunk in chunks if chunk.kind == b"iCCP" and chunk.valid), None)
    if profile is not None and (unpacked := _profile(bytes(profile))):
        image.info["icc_profile"] = unpacked
    image.info[ANIMATED] = sum(chunk.kind == b"fcTL" and chunk.valid for chunk in chunks) > 1
    return image


def _is_needed(chunk: _Chunk, colors: int) -> bool:
    """Tell whether to pass an ancillary chunk to Pillow; profile and transparent color are passed in other ways.

    As in libpng, palette transparency that is longer than the palette is ignored.
    """
    return chunk.kind == b"eXIf" or (chunk.kind == b"tRNS" and 0 < len(chunk.data) <= colors)


def _chunks(body: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to IEND; the last one may be truncated."""
    view = memoryview(body)
    place = len(SIGNATURE)
    while place + 8 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, place)
        end = place + 12 + length
        checked = view[place + 4 : end - 4]
        whole = end <= len(body)
        valid = whole and zlib.crc32(checked) == int.from_bytes(view[end - 4 : end], "big")
        yield _Chunk(kind, view[place + 8 : place + 8 + length], view[place:end], valid, whole)
        if kind == b"IEND":
            return
        place = end


def _color(data: memoryview, kind: int, depth: int) -> int | tuple[int, ...]:
    """Return the transparent color in the levels of the decoded picture.

    16-bit gray is unchanged. Only the upper 8 bits of 16-bit RGB are decoded, so a color that differs only in the lower
    bits counts as transparent too.
    """
    levels = struct.unpack(f">{len(data) // 2}H", data)
    if kind == _RGB:
        return tuple(level >> 8 if depth == 16 else level & 255 for level in levels)
    if depth == 16:
        return int(levels[0])
    highest = 2**depth - 1
    return int((levels[0] & highest) * 255 // highest)


def _profile(data: bytes) -> bytes | None:
    """Return the color profile of an iCCP chunk, or None if it is broken or larger than `MAX_PROFILE_BYTES`."""
    _, _, packed = data.partition(b"\0")
    try:
        unzip = zlib.decompressobj()
        profile = unzip.decompress(packed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return profile if unzip.eof and len(profile) <= MAX_PROFILE_BYTES else None
