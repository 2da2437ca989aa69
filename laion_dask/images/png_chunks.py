"""Open a PNG as browsers do: the decoder gets only the chunks that decide the picture; damage in others is ignored.

PNG (third edition), 13.2: a decoder ignores ancillary chunks that are wrong, and reports critical ones. Pillow stops
at a wrong checksum or a short chunk of any kind, at texts and profiles above a limit, and reads the transparent color
of a picture that has not 8 bits as if it had. Texts are dropped unread, so a bomb in them is never unpacked.
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
"""Key of `Image.info`: whether more frames than one are described."""
_CHUNK_HEAD_BYTES: Final = 8
_GRAY: Final = 0
_RGB: Final = 2
_COLOR_BYTES: Final = {_GRAY: 2, _RGB: 6}


class PngError(SyntaxError):
    """A chunk that decides the picture is damaged."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk; `stored` is all of it, and `valid` whether its checksum is right. `whole` is false where it is cut."""

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
        """A chunk that decides the picture has a wrong checksum; IEND says nothing."""
        return self.critical and self.whole and not self.valid and self.kind != b"IEND"


def opened(body: bytes) -> Image.Image:
    """Open a PNG, of an animation its still picture; raises what Pillow raises, and `PngError`."""
    chunks = list(_chunks(body))
    transparent = next((chunk.data for chunk in chunks if chunk.kind == b"tRNS" and chunk.valid), None)
    colors = next((len(chunk.data) // 3 for chunk in chunks if chunk.kind == b"PLTE"), 0)
    kept, has_data = bytearray(SIGNATURE), False
    for chunk in chunks:
        if chunk.damaged and chunk.kind == b"IDAT":
            # What comes from here on is lost: size and format can be read, and decoding ends early.
            kept += chunk.stored[:_CHUNK_HEAD_BYTES]
            break
        if chunk.damaged and has_data:
            break  # the picture is complete without it, or decoding ends early
        if chunk.damaged:
            raise PngError(f"the checksum of {chunk.kind!r} is wrong")
        has_data |= chunk.kind == b"IDAT"
        if chunk.critical or (chunk.valid and _decides(chunk, colors)):
            kept += chunk.stored
    image = Image.open(io.BytesIO(kept), formats=("PNG",))
    # Of IHDR: the bits of a sample, and what samples are.
    depth, kind = chunks[0].data[8:10]
    if transparent is not None and len(transparent) == _COLOR_BYTES.get(kind):
        image.info["transparency"] = _color(transparent, kind, depth)
    profile = next((chunk.data for chunk in chunks if chunk.kind == b"iCCP" and chunk.valid), None)
    if profile is not None and (unpacked := _profile(bytes(profile))):
        image.info["icc_profile"] = unpacked
    image.info[ANIMATED] = sum(chunk.kind == b"fcTL" and chunk.valid for chunk in chunks) > 1
    return image


def _decides(chunk: _Chunk, colors: int) -> bool:
    """Whether Pillow is to see an ancillary chunk; profile and transparent color are given to it otherwise.

    Transparency of a palette that is longer than the palette is ignored, as libpng does.
    """
    return chunk.kind == b"eXIf" or (chunk.kind == b"tRNS" and 0 < len(chunk.data) <= colors)


def _chunks(body: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to IEND; the last one may be cut."""
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

    Gray of 16 bits stays as it is. Of RGB with 16 bits only the upper 8 are decoded, so a color that differs in the
    lower ones alone counts as transparent too.
    """
    levels = struct.unpack(f">{len(data) // 2}H", data)
    if kind == _RGB:
        return tuple(level >> 8 if depth == 16 else level & 255 for level in levels)
    if depth == 16:
        return int(levels[0])
    most = 2**depth - 1
    return int((levels[0] & most) * 255 // most)


def _profile(data: bytes) -> bytes | None:
    """Return the color profile of an iCCP chunk, or None where it is broken or larger than a profile is."""
    _, _, packed = data.partition(b"\0")
    try:
        unzip = zlib.decompressobj()
        profile = unzip.decompress(packed[1:], MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return profile if unzip.eof and len(profile) <= MAX_PROFILE_BYTES else None
