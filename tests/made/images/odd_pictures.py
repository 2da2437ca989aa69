"""Pictures for tests that are odd but good: PNG with every kind of transparency, every kind of WebP, trailing bytes."""

from __future__ import annotations

import struct
import zlib

from made.images.pictures import encoded, photo

WHITE = (255, 255, 255)


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG, with a right checksum if none is given."""
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def png(depth: int, kind: int, row: bytes, *before: bytes, behind: bytes = b"", width: int = 4) -> bytes:
    """Return a PNG of one row: bits of a sample, kind of samples (PNG 11.2.1), chunks before and behind the pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + pixels + behind + chunk(b"IEND", b"")


def u16(*levels: int) -> bytes:
    """Return samples of 16 bits."""
    return struct.pack(f">{len(levels)}H", *levels)


def gray(*levels: int) -> list[tuple[int, ...]]:
    return [(level, level, level) for level in levels]


DEEP = u16(0, 0x1234, 0x8000, 0xFFFF)
COLORS = u16(0, 0, 0, 0x1234, 0x5678, 0x9ABC, 0xFFFF, 0, 0, 0xFFFF, 0xFFFF, 0xFFFF)
PALETTE = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]))
RED, GREEN, BLUE, DARK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)


def key(data: bytes) -> bytes:
    """Return the chunk that says what is transparent."""
    return chunk(b"tRNS", data)


TRANSPARENT = {
    "gray of 16 bits": (png(16, 0, DEEP), gray(0, 18, 128, 255)),
    "gray of 16 bits, black is transparent": (png(16, 0, DEEP, key(u16(0))), gray(255, 18, 128, 255)),
    "gray of 16 bits, a level is transparent": (png(16, 0, DEEP, key(u16(0x1234))), gray(0, 255, 128, 255)),
    "gray of 16 bits, the next level is transparent": (png(16, 0, DEEP, key(u16(0x1235))), gray(0, 18, 128, 255)),
    "gray and alpha of 16 bits": (
        png(16, 4, u16(0, 0, 0x1234, 0xFFFF, 0, 0x8000, 0, 0xFFFF)),
        gray(255, 18, 127, 0),
    ),
    "RGB of 16 bits": (png(16, 2, COLORS), [(0, 0, 0), (18, 86, 154), RED, WHITE]),
    "RGB of 16 bits, a color is transparent": (
        png(16, 2, COLORS, key(u16(0x1234, 0x5678, 0x9ABC))),
        [(0, 0, 0), WHITE, RED, WHITE],
    ),
    "RGB of 16 bits, red is transparent": (
        png(16, 2, COLORS, key(u16(0xFFFF, 0, 0))),
        [(0, 0, 0), (18, 86, 154), WHITE, WHITE],
    ),
    "RGBA of 16 bits": (
        png(16, 6, u16(0, 0, 0, 0, 0, 0, 0, 0xFFFF, 0xFFFF, 0, 0, 0x8000, 0xFFFF, 0, 0, 0xFFFF)),
        [WHITE, (0, 0, 0), (255, 127, 127), RED],
    ),
    "gray of 8 bits, a level is transparent": (
        png(8, 0, bytes([0, 18, 128, 255]), key(u16(18))),
        gray(0, 255, 128, 255),
    ),
    "gray of 4 bits, a level is transparent": (png(4, 0, b"\x05\xaf", key(u16(5))), gray(0, 255, 170, 255)),
    "gray of 2 bits, a level is transparent": (png(2, 0, b"\x1b", key(u16(1))), gray(0, 255, 170, 255)),
    "one bit, white is transparent": (png(1, 0, b"\x50", key(u16(1))), gray(0, 255, 0, 255)),
    "one bit, black is transparent": (png(1, 0, b"\x50", key(u16(0))), gray(255, 255, 255, 255)),
    "RGB, a color is transparent": (
        png(8, 2, bytes([0, 0, 0, 18, 18, 18, 255, 0, 0, 255, 255, 255]), key(u16(18, 18, 18))),
        [(0, 0, 0), WHITE, RED, WHITE],
    ),
    "a palette": (png(8, 3, bytes(range(4)), PALETTE), [RED, GREEN, BLUE, DARK]),
    "a palette with transparent colors": (
        png(8, 3, bytes(range(4)), PALETTE, key(bytes([0, 128]))),
        [WHITE, (127, 255, 127), BLUE, DARK],
    ),
    "a palette of 2 bits with transparent colors": (
        png(2, 3, b"\x1b", PALETTE, key(bytes([0, 128]))),
        [WHITE, (127, 255, 127), BLUE, DARK],
    ),
    "a palette with more levels of transparency than colors": (
        png(8, 3, bytes(range(4)), PALETTE, key(bytes(300))),
        [RED, GREEN, BLUE, DARK],
    ),
    "a transparent color that is cut": (png(8, 0, bytes([0, 18, 128, 255]), key(b"\0")), gray(0, 18, 128, 255)),
    "a transparent color with a wrong checksum": (
        png(8, 0, bytes([0, 18, 128, 255]), chunk(b"tRNS", u16(18), checksum=1)),
        gray(0, 18, 128, 255),
    ),
    "a transparent color beside alpha": (png(8, 6, bytes([1, 2, 3, 255] * 4), key(bytes(6))), [(1, 2, 3)] * 4),
}

ROW = bytes([0, 18, 128, 255])
LONG = png(8, 0, ROW, behind=chunk(b"tEXt", b"k\0" + b"x" * 500))
PHOTO = photo(1, 120, 80)
JPEG = encoded(PHOTO, "JPEG", quality=90)

CLEAR = PHOTO.copy()
CLEAR.putalpha(128)
WEBP = {
    "lossy": encoded(PHOTO, "WEBP", quality=90),
    "lossy with alpha": encoded(CLEAR, "WEBP", quality=90),
    "lossless": encoded(PHOTO, "WEBP", lossless=True),
    "lossless with alpha": encoded(CLEAR, "WEBP", lossless=True),
    "with metadata": encoded(CLEAR, "WEBP", quality=90, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
}


def riff(body: bytes, length: int) -> bytes:
    """Return a WebP with another length in its head."""
    return body[:4] + struct.pack("<I", length) + body[8:]
