"""Odd pictures that are good are stored with their right colors; those that lack a part of themselves are refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from made.images.odd_pictures import JPEG, LONG, PALETTE, PHOTO, RED, ROW, TRANSPARENT, WEBP, WHITE, chunk, png, riff
from made.images.pictures import encoded, levels, near, prepared
from PIL import Image, PngImagePlugin

from laion_dask.clip import preprocess
from laion_dask.images import prepare
from laion_dask.schema.reasons import KEEP

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_png_of_any_depth_is_on_white_where_it_is_transparent(name: str) -> None:
    body, expected = TRANSPARENT[name]
    for result in (prepared(body, encode="png"), prepared(body, encode="png", pdq="skip")):
        assert result.reason == KEEP
        found = levels(result)[0].tolist()
        assert all(near(tuple(one), other, 1) for one, other in zip(found, expected, strict=True)), found
    assert np.array_equal(np.asarray(prepare.upright(body)), levels(prepared(body, encode="png")))


BOMB = zlib.compress(bytes(300_000_000), 9)
ANCILLARY = {
    "a text of 2 MB": chunk(b"tEXt", b"k\0" + b"x" * 2_000_000),
    "a bomb in a zTXt": chunk(b"zTXt", b"k\0\0" + BOMB),
    "a bomb in an iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "a thousand texts of 100 kB": chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000))) * 1_000,
    "a bomb in a profile": chunk(b"iCCP", b"k\0\0" + BOMB),
    "a profile of 3 MB": chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(3_000_000))),
    "a profile that is broken": chunk(b"iCCP", b"k\0\0junk"),
    "a profile that is empty": chunk(b"iCCP", b""),
    "a profile without a name's end": chunk(b"iCCP", b"k" * 90),
    "a short gAMA": chunk(b"gAMA", b"\0"),
    "a gAMA of nothing": chunk(b"gAMA", bytes(4)),
    "a short sRGB": chunk(b"sRGB", b""),
    "a short cHRM": chunk(b"cHRM", b"\0\0"),
    "a short pHYs": chunk(b"pHYs", b"\0"),
    "a short tIME": chunk(b"tIME", b"\0"),
    "an eXIf that is none": chunk(b"eXIf", b"junk"),
    "a short acTL": chunk(b"acTL", b""),
    "an animation without frames": chunk(b"acTL", struct.pack(">II", 0, 0)),
    "an animation whose frame is junk": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"junk"),
    "an animation in a wrong order": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0\0\0\7" + bytes(22)),
    "a frame without an animation": chunk(b"fdAT", b"\0\0\0\0abcd"),
    "a chunk that nobody knows": chunk(b"quUx", b"abc"),
    **{
        f"a wrong checksum of {kind.decode()}": chunk(kind, data, checksum=7)
        for kind, data in {
            b"tEXt": b"k\0x", b"iCCP": b"k\0\0" + zlib.compress(b"p"), b"gAMA": bytes(4), b"eXIf": b"MM\0*",
            b"pHYs": bytes(9), b"acTL": bytes(8), b"quUx": b"abc", b"tIME": bytes(7), b"sRGB": b"\0",
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("place", ["before the pixels", "behind the pixels"])
@pytest.mark.parametrize("name", ANCILLARY)
def test_a_chunk_that_decides_nothing_of_a_png_cannot_spoil_it(name: str, place: str) -> None:
    odd = ANCILLARY[name]
    body = png(8, 0, ROW, odd) if place == "before the pixels" else png(8, 0, ROW, behind=odd)
    result = prepared(body, encode="png")
    assert (result.reason, result.format) == (KEEP, "PNG")
    assert levels(result)[0].tolist() == [[level] * 3 for level in ROW]


def cut_at(body: bytes, kind: bytes, after: int) -> bytes:
    return body[: body.index(kind) + after]


def spoiled(body: bytes, kind: bytes) -> bytes:
    """Return a PNG whose chunk has a wrong checksum."""
    begin = body.index(kind) - 4
    end = begin + 8 + int.from_bytes(body[begin : begin + 4], "big")
    return body[:end] + b"abcd" + body[end + 4 :]


PROGRESSIVE = encoded(PHOTO, "JPEG", quality=90, progressive=True)
LARGE_PNG = encoded(PHOTO, "PNG")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (png(8, 0, ROW)[:-12], KEEP),
        (png(8, 0, ROW)[:-4] + b"abcd", KEEP),
        (png(8, 0, ROW) + b"junk" * 100, KEEP),
        (png(8, 0, ROW)[:-12] + bytes(400), KEEP),
        (png(8, 0, ROW, behind=chunk(b"PLTE", b"abc", checksum=1)), KEEP),
        (LONG[:-300], KEEP),
        (spoiled(png(8, 0, ROW), b"IHDR"), "truncated_image"),
        (spoiled(png(8, 0, ROW), b"IDAT"), "truncated_image"),
        (spoiled(png(8, 3, bytes(4), PALETTE), b"PLTE"), "truncated_image"),
        (cut_at(LARGE_PNG, b"IDAT", 2_000), "truncated_image"),
        (LARGE_PNG[:20], "truncated_image"),
        (LARGE_PNG[:8], "truncated_image"),
    ],
)
def test_of_a_png_that_is_cut_or_damaged_only_what_decides_the_picture_counts(body: bytes, reason: str) -> None:
    result = prepared(body, encode="png")
    assert result.reason == reason
    if reason == KEEP:
        assert levels(result)[0].tolist() == [[level] * 3 for level in ROW]


def test_an_animation_is_still_told_and_a_profile_still_applied() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ((200, 10, 10), (10, 200, 10))]
    body = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert prepared(body).animated
    assert near(tuple(levels(prepared(body))[5, 5]), (200, 10, 10), 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert prepared(encoded(Image.new("RGB", (40, 20)), "PNG", exif=exif)).original_width == 20
    info = PngImagePlugin.PngInfo()
    info.add_text("XML:com.adobe.xmp", '<rdf tiff:Orientation="6"/>')
    # Browsers turn a PNG by its eXIf alone.
    assert prepared(encoded(Image.new("RGB", (40, 20)), "PNG", pnginfo=info)).original_width == 40


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_segments(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


SEGMENTS = {
    "60 segments of 64 kB": with_segments(*[segment(0xED, bytes(65_533))] * 60),
    "a short Adobe": with_segments(segment(0xEE, b"Adobe")),
    "a short JFIF": with_segments(segment(0xE0, b"JF")),
    "a broken Exif": with_segments(segment(0xE1, b"Exif\0\0MM\0*ab")),
    "a broken profile": with_segments(segment(0xE2, b"ICC_PROFILE\0\1\2ab")),
    "a broken list of pictures": with_segments(segment(0xE2, b"MPF\0junkjunk")),
    "a broken Photoshop": with_segments(segment(0xED, b"Photoshop 3.0\x008BIM\4\4\x09a")),
    "fill bytes": with_segments(b"\xff\xff\xff"),
    "a segment with a wrong length": with_segments(b"\xff\xed\0\1"),
    "another picture behind its end": JPEG + JPEG,
    "markers behind its end": JPEG + b"\xff\xd8\xff\xe0junk" * 50,
    "zeros behind its end": JPEG + bytes(1_000),
    "no end mark": JPEG[:-2],
    "half an end mark": JPEG[:-1],
}


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("encode", ["png", "original"])
def test_a_jpeg_that_has_all_its_pixels_is_kept_with_every_one(name: str, encode: prepare.Encoding) -> None:
    body = SEGMENTS[name]
    result = prepared(body, encode=encode, mode="no")
    assert (result.reason, result.width, result.height) == (KEEP, 120, 80)
    if encode == "original":
        assert result.picture == body
    for found in (prepare.upright(result.picture), preprocess.decode(result.picture)):
        assert np.array_equal(np.asarray(found), np.asarray(Image.open(io.BytesIO(JPEG))))


def test_a_progressive_jpeg_without_its_end_mark_is_kept_only_when_all_scans_are_there() -> None:
    result = prepared(PROGRESSIVE[:-2], encode="png", mode="no")
    assert np.array_equal(levels(result), np.asarray(Image.open(io.BytesIO(PROGRESSIVE))))
    last = PROGRESSIVE.rindex(b"\xff\xda")
    # What comes before the last scan may hold its tables too.
    table = PROGRESSIVE.rindex(b"\xff\xc4", 0, last)
    for end in (last, table, last + 10):
        assert prepared(PROGRESSIVE[:end]).reason == "truncated_image"


@pytest.mark.parametrize("lost", [5, 10, 100, 1_000, 3_000])
@pytest.mark.parametrize("body", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_a_jpeg_that_lacks_pixels_stays_truncated(body: bytes, lost: int) -> None:
    assert prepared(body[:-lost]).reason == "truncated_image"
    assert prepared(body[:-lost] + b"\xff\xd9" * 0).picture == b""


def test_a_jpeg_of_12_bits_ends_with_a_reason() -> None:
    frame = JPEG.index(b"\xff\xc0")
    assert prepared(JPEG[: frame + 4] + b"\x0c" + JPEG[frame + 5 :]).reason == "truncated_image"


def vp8x(body: bytes, *, flags: int | None = None, size: tuple[int, int] | None = None) -> bytes:
    """Return a WebP with other flags or another size in its VP8X, where it has one."""
    place = body.find(b"VP8X")
    data = bytearray(body)
    if place >= 0 and flags is not None:
        data[place + 8] = flags
    if place >= 0 and size is not None:
        data[place + 12 : place + 18] = b"".join((side - 1).to_bytes(3, "little") for side in size)
    return bytes(data)


@pytest.mark.parametrize("name", WEBP)
@pytest.mark.parametrize(
    "odd",
    [
        lambda body: vp8x(body, size=(60, 40)),
        lambda body: vp8x(body, size=(240, 160)),
        lambda body: vp8x(body, size=(1, 16_000_000)),
        lambda body: vp8x(body, flags=0xFF),
        lambda body: vp8x(body, flags=0x12),
        lambda body: vp8x(body, flags=0x30),
        lambda body: riff(body, 0),
        lambda body: riff(body, 100),
        lambda body: riff(body, len(body) + 100),
        lambda body: body + b"junk" * 20,
    ],
)
def test_a_webp_whose_container_lies_is_kept_by_its_picture(name: str, odd: object) -> None:
    assert callable(odd)
    whole, found = (prepared(body, encode="png", mode="no") for body in (WEBP[name], odd(WEBP[name])))
    assert (found.reason, found.original_width, found.original_height) == (KEEP, 120, 80)
    assert np.array_equal(levels(found), levels(whole))


@pytest.mark.parametrize("name", WEBP)
def test_a_webp_that_lacks_pixels_stays_truncated(name: str) -> None:
    for lost in (4, 20, 500):
        body = WEBP[name]
        body = body[: body.index(b"EXIF")] if b"EXIF" in body else body
        assert prepared(body[:-lost]).reason == "truncated_image"


BMP = encoded(Image.new("RGB", (9, 9), RED), "BMP")


@pytest.mark.parametrize(
    ("body", "color"),
    [
        (encoded(Image.new("RGBA", (9, 9), (200, 0, 0, 0)), "AVIF", quality=95), WHITE),
        (encoded(Image.new("RGBA", (9, 9), (200, 0, 0, 0)), "WEBP", lossless=True, exact=True), WHITE),
        (encoded(Image.new("RGBA", (9, 9), (200, 0, 0, 0)), "TIFF"), WHITE),
        (encoded(Image.new("RGBA", (9, 9), (200, 0, 0, 0)), "JPEG2000"), WHITE),
        (encoded(Image.new("P", (9, 9), 3), "GIF", transparency=3), WHITE),
        (encoded(Image.new("LA", (9, 9), (7, 0)), "PNG"), WHITE),
        (encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", quality=95), RED),
        (encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "TIFF"), RED),
        (encoded(Image.new("RGB", (9, 9), RED), "GIF")[:-1], RED),
        (encoded(Image.new("RGB", (9, 9), RED), "GIF") + b"junk", RED),
        (BMP[:2] + bytes(4) + BMP[6:], RED),
        (BMP + b"junk", RED),
        (encoded(Image.new("I;16", (9, 9), 65_535), "TIFF"), WHITE),
    ],
)  # fmt: skip
def test_other_formats_have_their_right_color(body: bytes, color: tuple[int, ...]) -> None:
    result = prepared(body, encode="png")
    assert result.reason == KEEP
    assert near(tuple(levels(result)[4, 4]), color, 12)


@pytest.mark.parametrize(
    ("name", "color"),
    [("png_itxt_big", (200, 30, 30)), ("png_crc_ancillary", (200, 30, 30)), ("png16gray_trns", WHITE)],
)
def test_the_good_pictures_that_ended_wrongly_are_kept(shared_data: Path, name: str, color: tuple[int, ...]) -> None:
    result = prepared((shared_data / "faults" / f"{name}.png").read_bytes(), encode="png")
    assert result.reason == KEEP
    assert tuple(levels(result)[0, 0]) == color
