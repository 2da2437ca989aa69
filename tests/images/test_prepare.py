"""Bytes become an upright, resized picture without metadata, or end with a reason."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.images.pictures import SECRET, encoded, levels, near, opened, photo, pixel, prepared, with_metadata
from PIL import Image, ImageDraw

from laion_dask.images import prepare
from laion_dask.images.prepare import Encoding, Mode, fit
from laion_dask.schema.reasons import KEEP, REASONS

# Pillow warns of broken EXIF and of large pictures; both are handled, and a run outside of tests goes on.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

MODES: tuple[Mode, ...] = ("no", "keep_ratio", "keep_ratio_largest", "center_crop", "border")
ENCODINGS: tuple[Encoding, ...] = ("jpg", "png", "webp")


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_each_orientation_of_each_format_is_undone(turn: int, kind: str) -> None:
    upright = Image.new("RGB", (60, 40), "white")
    ImageDraw.Draw(upright).rectangle((0, 0, 29, 19), fill=(200, 0, 0))
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    stored = upright.transpose(prepare._TURNS[undo[turn]]) if turn in undo else upright  # noqa: SLF001
    exif = Image.Exif()
    exif[0x0112] = turn
    result = prepared(encoded(stored, kind, exif=exif, quality=95, lossless=True))
    assert (result.original_width, result.original_height, result.width, result.height) == (60, 40, 60, 40)
    assert near(pixel(result, 10, 8), (200, 0, 0), 12)
    assert near(pixel(result, 50, 8), (255, 255, 255), 12)
    assert near(pixel(result, 10, 32), (255, 255, 255), 12)


MARKS = [
    SECRET, b"Exif", b"eXIf", b"EXIF", b"GPS", b"xmpmeta", b"xpacket", b"ns.adobe.com", b"XMP ", b"8BIM", b"Photoshop",
    b"iptc", b"\x1c\x02\x78", b"ICC_PROFILE", b"iCCP", b"ICCP", b"iTXt", b"tEXt", b"zTXt",
]  # fmt: skip
SEGMENTS = [bytes([0xFF, marker]) for marker in (*range(0xE1, 0xF0), 0xFE)]
"""APP1 to APP15 and the comment of a JPEG; APP0 is JFIF's own."""


@pytest.mark.parametrize("encode", ENCODINGS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF", "BMP"])
def test_stored_images_carry_no_metadata(kind: str, encode: Encoding) -> None:
    body = with_metadata(kind)
    # What is looked for is there: else the search would find nothing anywhere.
    assert (SECRET in body) == (kind != "BMP")
    result = prepared(body, encode=encode)
    assert result.reason == KEEP
    assert [mark for mark in MARKS if mark in result.picture] == []
    if encode == "jpg":
        assert [segment for segment in SEGMENTS if segment in result.picture] == []
    stored = opened(result)
    assert not dict(stored.getexif())
    assert not {"icc_profile", "comment", "xmp", "exif", "photoshop"} & stored.info.keys()


def test_the_search_finds_every_kind_of_metadata_in_what_came_in() -> None:
    found = {mark for kind in ("JPEG", "PNG", "WEBP") for mark in MARKS if mark in with_metadata(kind)}
    assert found >= {b"Exif", b"eXIf", b"EXIF", b"xmpmeta", b"8BIM", b"Photoshop", b"ICC_PROFILE", b"iCCP", b"zTXt"}
    assert Image.open(io.BytesIO(with_metadata("JPEG"))).getexif().get_ifd(0x8825)


def test_the_original_is_stored_byte_for_byte_with_its_metadata() -> None:
    body = with_metadata("JPEG")
    result = prepared(body, encode="original", mode="no")
    assert (result.picture, result.extension, result.width, result.height) == (body, "jpg", 320, 200)


@pytest.mark.parametrize("encode", ENCODINGS)
def test_a_stored_picture_is_read_back_as_its_own_pixels(encode: Encoding) -> None:
    result = prepared(encoded(photo(6, 400, 300), "PNG"), encode=encode)
    assert np.array_equal(np.asarray(prepare.upright(result.picture)), levels(result))


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_original_is_read_back_upright_on_white(turn: int) -> None:
    seen = Image.new("RGBA", (60, 40), (0, 0, 0, 0))
    ImageDraw.Draw(seen).rectangle((0, 0, 29, 19), fill=(200, 0, 0, 255))
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = seen.transpose(prepare._TURNS[undo[turn]]) if turn in undo else seen  # noqa: SLF001
    body = prepared(encoded(stored, "PNG", exif=exif), encode="original", mode="no").picture
    read = prepare.upright(body)
    assert (read.size, read.mode) == ((60, 40), "RGB")
    assert (read.getpixel((10, 8)), read.getpixel((50, 8)), read.getpixel((10, 32))) == (
        (200, 0, 0),
        (255, 255, 255),
        (255, 255, 255),
    )


@pytest.mark.parametrize("encode", ENCODINGS)
def test_each_encoding_stores_the_same_picture_under_its_extension(encode: Encoding) -> None:
    body = encoded(photo(2, 700, 500), "PNG")
    result = prepared(body, encode=encode)
    stored = opened(result)
    assert result.extension == encode
    assert (stored.format, stored.mode, stored.size) == (prepare._ENCODERS[encode], "RGB", (256, 183))  # noqa: SLF001
    assert np.abs(levels(result) - levels(prepared(body, encode="png"))).mean() < 3.0


def test_quality_makes_lossy_pictures_larger_and_nearer() -> None:
    body = encoded(photo(3, 300, 200), "PNG")
    for encode in ("jpg", "webp"):
        low, high = (prepared(body, encode=encode, quality=quality) for quality in (40, 95))
        exact = levels(prepared(body, encode="png"))
        assert len(low.picture) < len(high.picture)
        assert np.abs(levels(low) - exact).mean() > np.abs(levels(high) - exact).mean()
    assert prepared(body, encode="png", quality=40) == prepared(body, encode="png", quality=95)


@pytest.mark.parametrize(("encode", "longest"), [("jpg", 65_500), ("webp", 16_383), ("png", None)])
def test_a_side_that_the_encoding_cannot_hold_is_refused(encode: Encoding, longest: int | None) -> None:
    for side in (longest, (longest or 70_000) + 1):
        result = prepared(encoded(Image.new("1", (side or 1, 1))), mode="no", encode=encode)
        assert (result.reason == KEEP) == (longest is None or side == longest)
        assert result.reason in {KEEP, "too_many_pixels"}


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF", "TIFF", "MPO"])
@pytest.mark.parametrize("frames", [1, 3])
def test_of_an_animation_the_first_frame_is_stored_and_the_rest_is_told(kind: str, frames: int) -> None:
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    pictures = [Image.new("RGB", (40, 30), color) for color in colors[:frames]]
    result = prepared(encoded(pictures[0], kind, save_all=True, append_images=pictures[1:]))
    assert near(pixel(result, 20, 15), colors[0], 16)
    # Pages of a TIFF and views of a MPO do not move.
    assert result.animated == (frames > 1 and kind not in {"TIFF", "MPO"})


def test_an_animation_that_is_cut_after_its_first_frame_keeps_it() -> None:
    frames = [photo(seed, 64, 64) for seed in range(3)]
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    first = len(encoded(frames[0], "GIF"))
    result = prepared(body[: first + 400])
    assert (result.reason, result.original_width) == (KEEP, 64)


@pytest.mark.parametrize("mode", MODES)
def test_smaller_pictures_stay_or_are_enlarged_as_the_parameter_says(mode: Mode) -> None:
    body = encoded(photo(4, 100, 80), "PNG")
    kept, enlarged = (prepared(body, mode=mode, smaller=way) for way in ("keep", "enlarge"))
    assert (kept.width, kept.height) == (100, 80)
    assert max(enlarged.width, enlarged.height) == (100 if mode == "no" else 320 if mode == "keep_ratio" else 256)
    # The hash is that of the picture as it came.
    assert kept.pdq == enlarged.pdq


def test_a_border_is_white_and_a_crop_keeps_the_middle() -> None:
    source = Image.new("RGB", (800, 400), (0, 0, 200))
    ImageDraw.Draw(source).rectangle((200, 0, 599, 399), fill=(200, 0, 0))
    border, crop = (prepared(encoded(source), mode=mode) for mode in ("border", "center_crop"))
    assert (border.width, border.height, crop.width, crop.height) == (256, 256, 256, 256)
    assert near(pixel(border, 128, 10), (255, 255, 255))
    assert near(pixel(border, 128, 245), (255, 255, 255))
    assert near(pixel(border, 10, 128), (0, 0, 200))
    assert near(pixel(crop, 4, 128), (200, 0, 0), 12)
    assert near(pixel(crop, 251, 128), (200, 0, 0), 12)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_an_image"),
        (b"<html><body>Not found</body></html>", "not_an_image"),
        (b"%PDF-1.4", "not_an_image"),
        (b"\xff\xd8\xff\xe0", "truncated_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (encoded(Image.effect_noise((200, 200), 90), "JPEG")[:9_000], "truncated_image"),
        (encoded(Image.effect_noise((200, 200), 90), "PNG")[:9_000], "truncated_image"),
        (encoded(Image.effect_noise((200, 200), 90), "WEBP")[:5_000], "truncated_image"),
        (encoded(Image.new("1", (3000, 3000))), "too_many_pixels"),
        (encoded(Image.new("1", (66_000, 1))), "too_many_pixels"),
    ],
)
def test_bodies_that_are_no_whole_image_are_refused_with_a_reason(body: bytes, reason: str) -> None:
    result = prepared(body, mode="no", max_pixels=5_000_000)
    assert (result.reason, result.picture, result.pdq) == (reason, b"", None)
    assert reason in REASONS["download"]
    assert result.message
    assert "0x" not in result.message


def test_the_pixel_limit_is_tested_before_decoding() -> None:
    body = bytearray(encoded(Image.new("L", (10, 10))))
    # Width and height in the PNG's header, and the header's checksum: 30,000 x 30,000 that are not there.
    import zlib

    body[16:24] = (30_000).to_bytes(4, "big") * 2
    body[29:33] = zlib.crc32(body[12:29]).to_bytes(4, "big")
    result = prepared(bytes(body))
    assert result.reason == "too_many_pixels"


def test_the_same_bytes_give_the_same_picture() -> None:
    body = encoded(Image.effect_noise((700, 500), 90), "PNG")
    assert prepared(body) == prepared(body)


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.sampled_from(MODES), st.integers(16, 2_000))
def test_pictures_are_never_enlarged(width: int, height: int, mode: Mode, side_px: int) -> None:
    size = fit(width, height, mode, side_px)
    assert size.scaled[0] <= width
    assert size.scaled[1] <= height
    assert min(*size.scaled, *size.canvas) >= 1
    if mode in {"keep_ratio_largest", "border"}:
        assert max(size.canvas) <= side_px


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]), st.integers(0, 400))
def test_noise_inside_an_image_never_raises(noise: bytes, kind: str, place: int) -> None:
    body = bytearray(encoded(Image.new("RGB", (24, 24), (1, 2, 3)), kind))
    body[place : place + len(noise)] = noise
    assert prepared(bytes(body)).reason in {KEEP, "not_an_image", "truncated_image", "too_many_pixels"}
