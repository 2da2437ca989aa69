"""Bytes become an upright, resized JPEG without metadata, or end with a reason."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from laion_dask import images
from laion_dask.images import Mode, Prepared, digests, fit, prepare
from laion_dask.verdict import KEEP, REASONS

# Pillow warns of broken EXIF and of large pictures; both are handled, and a run outside of tests goes on.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

MAX_PIXELS = 40_000_000
MODES: tuple[Mode, ...] = ("no", "keep_ratio", "keep_ratio_largest", "center_crop", "border")


def prepared(
    body: bytes, mode: Mode = "keep_ratio_largest", side_px: int = 256, max_pixels: int = MAX_PIXELS
) -> Prepared:
    return prepare(body, mode=mode, side_px=side_px, max_pixels=max_pixels, jpeg_quality=95)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixel(result: Prepared, x: int, y: int) -> tuple[int, ...]:
    value = Image.open(io.BytesIO(result.jpg)).getpixel((x, y))
    assert isinstance(value, tuple)
    return value


def near(found: tuple[int, ...], wanted: tuple[int, ...], tolerance: int = 6) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(found, wanted, strict=True))


def test_sizes_equal_those_of_img2dataset(shared_data: Path) -> None:
    rows = json.loads((shared_data / "golden_img2dataset" / "resizer_dims.json").read_text())
    rows = [row for row in rows if "image_size" in row]
    assert len(rows) == 210
    for row in rows:
        size = fit(
            row["original_width"],
            row["original_height"],
            row["mode"],
            row["image_size"],
            only_if_bigger=row["resize_only_if_bigger"],
        )
        assert size.canvas == (row["width"], row["height"]), row


def test_resized_photos_have_the_size_and_nearly_the_color_of_img2dataset(shared_data: Path) -> None:
    rows = json.loads((shared_data / "golden_img2dataset" / "resizer_dims.json").read_text())
    folder = shared_data / "img2dataset_tests" / "resize_test_image"
    rows = [row for row in rows if row.get("resize_only_if_bigger") and row.get("image_size") == 256]
    assert len(rows) == 35
    for row in rows:
        result = prepared((folder / row["file"]).read_bytes(), row["mode"])
        assert (result.width, result.height) == (row["width"], row["height"])
        assert (result.original_width, result.original_height) == (row["original_width"], row["original_height"])
        stored = Image.open(io.BytesIO(result.jpg))
        assert stored.size == (result.width, result.height)
        mean = np.asarray(stored).reshape(-1, 3).mean(axis=0)[::-1]
        assert np.abs(mean - row["mean_bgr"]).max() < 2.0, row


# Not an image here, though Pillow opens them: ICO is left out (see images.FORMATS).
LEFT_OUT = {"robustness/image-rs/Bad_smile-incorrect-image-length.ico", "robustness/pillow/hopper.ico"}
REFUSED = {
    "robustness/image-rs/Bad_badbitcount.bmp": "not_an_image",
    "robustness/image-rs/Bad_height.bmp": "too_many_pixels",
    "robustness/image-rs/Bad_reallybig.bmp": "too_many_pixels",
    "robustness/image-rs/Bad_shortfile.bmp": "truncated_image",
    "robustness/pillow/avif_hopper.heif": "not_an_image",
    "robustness/pillow/broken.png": "truncated_image",
    "robustness/pillow/broken_data_stream.png": "truncated_image",
    "robustness/pillow/decompression_bomb.gif": "too_many_pixels",
    "robustness/pillow/decompression_bomb.ico": "not_an_image",
    **dict.fromkeys(LEFT_OUT, "not_an_image"),
}


def test_every_odd_file_ends_as_an_image_or_with_a_reason(shared_data: Path) -> None:
    expected = json.loads((shared_data / "images" / "expected_pillow.json").read_text())["files"]
    for name, known in expected.items():
        result = prepared((shared_data / "images" / name).read_bytes())
        assert result.reason == REFUSED.get(name, KEEP), name
        assert known["decodes"] == (result.reason == KEEP) or name in LEFT_OUT, name
        if result.reason == KEEP:
            assert result.format == known["format"]
            sides = {known["size"][0], known["size"][1]}
            assert {result.original_width, result.original_height} == sides
            assert Image.open(io.BytesIO(result.jpg)).size == (result.width, result.height)


def test_photos_stored_in_four_orientations_come_out_upright_and_equal(shared_data: Path) -> None:
    results = [
        prepared((shared_data / "images" / "exif_orientation" / f"Portrait_{turn}.jpg").read_bytes())
        for turn in (1, 2, 6, 8)
    ]
    assert {(result.original_width, result.original_height) for result in results} == {(1200, 1800)}
    assert {(result.width, result.height) for result in results} == {(171, 256)}
    pictures = [np.asarray(Image.open(io.BytesIO(result.jpg)), dtype=np.int16) for result in results]
    for picture in pictures[1:]:
        assert np.abs(picture - pictures[0]).mean() < 2.4


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_each_orientation_of_each_format_is_undone(turn: int, kind: str) -> None:
    upright = Image.new("RGB", (60, 40), "white")
    ImageDraw.Draw(upright).rectangle((0, 0, 29, 19), fill=(200, 0, 0))
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
    stored = upright.transpose(images._TURNS[undo[turn]]) if turn in undo else upright  # noqa: SLF001
    exif = Image.Exif()
    exif[0x0112] = turn
    result = prepared(encoded(stored, kind, exif=exif, quality=95, lossless=True))
    assert (result.original_width, result.original_height, result.width, result.height) == (60, 40, 60, 40)
    assert near(pixel(result, 10, 8), (200, 0, 0), 12)
    assert near(pixel(result, 50, 8), (255, 255, 255), 12)
    assert near(pixel(result, 10, 32), (255, 255, 255), 12)


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


def test_stored_images_carry_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = Image.new("RGB", (64, 64), (20, 120, 220))
    body = encoded(source, "JPEG", exif=exif, icc_profile=profile, comment=b"where I live", xmp=b"<x>where I live</x>")
    result = prepared(body)
    stored = Image.open(io.BytesIO(result.jpg))
    assert b"where I live" not in result.jpg
    assert not dict(stored.getexif())
    assert not {"icc_profile", "comment", "xmp", "exif"} & stored.info.keys()
    assert near(pixel(result, 9, 9), (20, 120, 220))


@pytest.mark.parametrize("profile", [b"", b"no profile", b"\0" * 200])
def test_an_invalid_color_profile_is_ignored(profile: bytes) -> None:
    result = prepared(encoded(Image.new("RGB", (32, 32), (20, 120, 220)), "JPEG", icc_profile=profile))
    assert near(pixel(result, 9, 9), (20, 120, 220))


def test_colors_of_another_profile_are_brought_to_srgb() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert prepared(encoded(Image.new("L", (32, 32), 50), "JPEG", icc_profile=lab)).reason == KEEP


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
    assert (result.reason, result.jpg) == (reason, b"")
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


def test_hashes_are_those_of_the_original_bytes() -> None:
    md5, sha256 = digests(b"abc")
    assert md5 == "900150983cd24fb0d6963f7d28e17f72"
    assert sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_same_bytes_give_the_same_jpeg() -> None:
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
