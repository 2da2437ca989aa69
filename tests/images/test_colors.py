"""Every kind of pixel becomes RGB of 8 bits in sRGB on white."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from made.images.pictures import encoded, near, pixel, prepared
from PIL import Image, ImageCms

from laion_dask.schema.reasons import KEEP


def _sixteen_bits(value: int) -> Image.Image:
    return Image.fromarray(np.full((32, 32), value, dtype=np.uint16))


@pytest.mark.parametrize(
    ("body", "color"),
    [
        (encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0))), (255, 255, 255)),
        (encoded(Image.new("RGBA", (32, 32), (255, 0, 0, 128))), (255, 127, 127)),
        (encoded(Image.new("LA", (32, 32), (0, 0))), (255, 255, 255)),
        (encoded(Image.new("P", (32, 32), 0), transparency=0), (255, 255, 255)),
        (encoded(Image.new("RGB", (32, 32), (10, 200, 30)).quantize(4)), (10, 200, 30)),
        (encoded(Image.new("1", (32, 32), 1)), (255, 255, 255)),
        (encoded(Image.new("L", (32, 32), 77)), (77, 77, 77)),
        (encoded(_sixteen_bits(32_896)), (128, 128, 128)),
        (encoded(_sixteen_bits(257)), (1, 1, 1)),
        (encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
        (encoded(Image.new("F", (32, 32), 0.5), "TIFF"), (0, 0, 0)),
        (
            encoded(
                Image.new("RGB", (32, 32), (9, 9, 200)),
                "GIF",
                save_all=True,
                append_images=[Image.new("RGB", (32, 32))],
            ),
            (9, 9, 200),
        ),
    ],
    ids=[
        "clear",
        "half",
        "gray+alpha",
        "palette+alpha",
        "palette",
        "bit",
        "gray",
        "16bit",
        "16bit dark",
        "cmyk",
        "float",
        "frames",
    ],
)
def test_every_kind_of_pixel_becomes_rgb_on_white(body: bytes, color: tuple[int, int, int]) -> None:
    result = prepared(body)
    assert result.reason == KEEP
    assert near(pixel(result, 16, 16), color)


@pytest.mark.parametrize("profile", [b"", b"no profile", b"\0" * 200])
def test_an_invalid_color_profile_is_ignored(profile: bytes) -> None:
    result = prepared(encoded(Image.new("RGB", (32, 32), (20, 120, 220)), "JPEG", icc_profile=profile))
    assert near(pixel(result, 9, 9), (20, 120, 220))


def test_colors_of_another_profile_are_brought_to_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert prepared(encoded(Image.new("L", (32, 32), 50), "JPEG", icc_profile=lab)).reason == KEEP


def swapped() -> bytes:
    """Return an ICC profile (version 2, matrix and gamma) that is sRGB with red and blue exchanged."""
    # Primaries of sRGB as XYZ under the profile's white, D50 (IEC 61966-2-1, adapted).
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    white = (0.9642, 1.0, 0.8249)

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))

    gamma = b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(2.2 * 256), 0)
    tags = {b"rXYZ": xyz(blue), b"gXYZ": xyz(green), b"bXYZ": xyz(red), b"wtpt": xyz(white)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(value))
        data += value
    size = struct.pack(">I", 128 + len(table) + len(data))
    head = size + bytes(4) + b"\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + xyz(white)[8:]
    return head.ljust(128, b"\0") + table + data


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_colors_are_brought_to_srgb_by_the_profile_inside_the_file(kind: str) -> None:
    picture = Image.new("RGB", (32, 32), (220, 40, 40))
    plain = prepared(encoded(picture, kind, quality=95))
    turned = prepared(encoded(picture, kind, quality=95, icc_profile=swapped()))
    assert near(pixel(plain, 9, 9), (220, 40, 40), 8)
    assert near(pixel(turned, 9, 9), (40, 40, 220), 12)
