"""Real files: those that decoders stumble over end as a table says, photos are sized as img2dataset sizes them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.images.pictures import levels, opened, prepared
from made.versions import judging, tables
from PIL import Image

from laion_dask import params
from laion_dask.images import prepare
from laion_dask.images.prepare import Smaller, fit
from laion_dask.schema.reasons import KEEP

# Pillow warns of broken EXIF and of large pictures; both are handled, and a run outside of tests goes on.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

# File, reason, format, width and height when upright (0: not known), animated.
FILES = {
    "robustness/image-rs/Bad_badbitcount.bmp": ("not_an_image", None, 0, 0, False),
    "robustness/image-rs/Bad_height.bmp": ("too_many_pixels", None, 0, 0, False),
    "robustness/image-rs/Bad_reallybig.bmp": ("too_many_pixels", None, 0, 0, False),
    "robustness/image-rs/Bad_shortfile.bmp": ("truncated_image", "BMP", 127, 64, False),
    # Pillow opens ICO, which is left out: see images.FORMATS.
    "robustness/image-rs/Bad_smile-incorrect-image-length.ico": ("not_an_image", None, 0, 0, False),
    "robustness/image-rs/advertises_rgba_but_frames_are_rgb.webp": ("keep", "WEBP", 265, 199, True),
    "robustness/image-rs/anim.webp": ("keep", "WEBP", 200, 200, True),
    "robustness/image-rs/issue_1455_oversized.gif": ("keep", "GIF", 16, 16, False),
    "robustness/image-rs/lossy_alpha.webp": ("keep", "WEBP", 100, 100, False),
    "robustness/image-rs/oob.gif": ("keep", "GIF", 40, 40, False),
    "robustness/image-rs/simple-rgb.webp": ("keep", "WEBP", 100, 100, False),
    "robustness/image-rs/simple.webp": ("keep", "WEBP", 300, 300, False),
    "robustness/pillow/12bit.cropped.tif": ("keep", "TIFF", 100, 100, False),
    "robustness/pillow/16_bit_noise.tif": ("keep", "TIFF", 32, 32, False),
    "robustness/pillow/16bit.cropped.jp2": ("keep", "JPEG2000", 64, 64, False),
    "robustness/pillow/16bit.cropped.tif": ("keep", "TIFF", 64, 64, False),
    "robustness/pillow/1_trns.png": ("keep", "PNG", 64, 64, False),
    "robustness/pillow/app13-multiple.jpg": ("keep", "JPEG", 256, 160, False),
    "robustness/pillow/avif_exif.avif": ("keep", "AVIF", 512, 512, False),
    "robustness/pillow/avif_hopper-missing-pixi.avif": ("keep", "AVIF", 128, 128, False),
    "robustness/pillow/avif_hopper.avif": ("keep", "AVIF", 128, 128, False),
    # HEIF is no format of the web, and nothing here decodes it.
    "robustness/pillow/avif_hopper.heif": ("not_an_image", None, 0, 0, False),
    "robustness/pillow/avif_icc_profile.avif": ("keep", "AVIF", 57, 57, False),
    "robustness/pillow/avif_rot1mir1.avif": ("keep", "AVIF", 640, 427, False),
    "robustness/pillow/avif_star.avifs": ("keep", "AVIF", 159, 159, True),
    "robustness/pillow/avif_transparency.avif": ("keep", "AVIF", 64, 64, False),
    "robustness/pillow/avif_xmp_tags_orientation.avif": ("keep", "AVIF", 326, 268, False),
    "robustness/pillow/background_outside_palette.gif": ("keep", "GIF", 1, 1, True),
    "robustness/pillow/broken.png": ("truncated_image", "PNG", 0, 0, False),
    "robustness/pillow/broken_data_stream.png": ("truncated_image", "PNG", 128, 128, False),
    "robustness/pillow/broken_exif_dpi.jpg": ("keep", "JPEG", 100, 100, False),
    "robustness/pillow/chi.gif": ("keep", "GIF", 320, 240, True),
    "robustness/pillow/comment_after_only_frame.gif": ("keep", "GIF", 1, 1, False),
    "robustness/pillow/decompression_bomb.gif": ("too_many_pixels", None, 0, 0, False),
    "robustness/pillow/decompression_bomb.ico": ("not_an_image", None, 0, 0, False),
    "robustness/pillow/decompression_bomb_extents.gif": ("keep", "GIF", 100, 100, True),
    "robustness/pillow/dispose_prev.gif": ("keep", "GIF", 100, 100, True),
    "robustness/pillow/duplicate_frame.gif": ("keep", "GIF", 10, 10, True),
    "robustness/pillow/empty_gps_ifd.jpg": ("keep", "JPEG", 10, 10, False),
    "robustness/pillow/exif-dpi-zerodivision.jpg": ("keep", "JPEG", 200, 200, False),
    "robustness/pillow/exif_gps.jpg": ("keep", "JPEG", 8, 8, False),
    "robustness/pillow/exif_typeerror.jpg": ("keep", "JPEG", 800, 531, False),
    "robustness/pillow/flower.jpg": ("keep", "JPEG", 480, 360, False),
    "robustness/pillow/flower.webp": ("keep", "WEBP", 480, 360, False),
    "robustness/pillow/flower2.webp": ("keep", "WEBP", 300, 225, False),
    "robustness/pillow/frame_size.mpo": ("keep", "MPO", 56, 70, False),
    "robustness/pillow/hopper.bmp": ("keep", "BMP", 128, 128, False),
    "robustness/pillow/hopper.gif": ("keep", "GIF", 128, 128, False),
    "robustness/pillow/hopper.ico": ("not_an_image", None, 0, 0, False),
    "robustness/pillow/hopper.jpg": ("keep", "JPEG", 128, 128, False),
    "robustness/pillow/hopper.png": ("keep", "PNG", 128, 128, False),
    "robustness/pillow/hopper.psd": ("keep", "PSD", 128, 128, False),
    "robustness/pillow/hopper.tif": ("keep", "TIFF", 128, 128, False),
    "robustness/pillow/hopper.webp": ("keep", "WEBP", 128, 128, False),
    "robustness/pillow/hopper_16bit_qtables.jpg": ("keep", "JPEG", 128, 128, False),
    "robustness/pillow/hopper_bad_exif.jpg": ("keep", "JPEG", 500, 500, False),
    "robustness/pillow/hopper_gray.jpg": ("keep", "JPEG", 128, 128, False),
    "robustness/pillow/hopper_idat_after_image_end.png": ("keep", "PNG", 128, 128, False),
    "robustness/pillow/hopper_orientation_2.jpg": ("keep", "JPEG", 128, 128, False),
    "robustness/pillow/hopper_orientation_3.jpg": ("keep", "JPEG", 128, 128, False),
    "exif_orientation/Portrait_1.jpg": ("keep", "JPEG", 1200, 1800, False),
    "exif_orientation/Portrait_2.jpg": ("keep", "JPEG", 1200, 1800, False),
    "exif_orientation/Portrait_6.jpg": ("keep", "JPEG", 1200, 1800, False),
    "exif_orientation/Portrait_8.jpg": ("keep", "JPEG", 1200, 1800, False),
}
# What Pillow decodes and is refused here.
LEFT_OUT = {"robustness/image-rs/Bad_smile-incorrect-image-length.ico", "robustness/pillow/hopper.ico"}
PORTRAITS = [name for name in FILES if name.startswith("exif_orientation/")]


@pytest.mark.parametrize("name", FILES)
def test_every_odd_file_ends_as_an_image_or_with_a_reason(shared_data: Path, name: str) -> None:
    result = prepared((shared_data / "images" / name).read_bytes())
    found = (result.reason, result.format, result.original_width, result.original_height, result.animated)
    assert found == FILES[name]
    assert (result.picture == b"") == (result.reason != KEEP)
    if result.reason == KEEP:
        assert opened(result).size == (result.width, result.height)
        assert opened(result).mode == "RGB"


def test_the_table_names_every_file_and_differs_from_pillow_only_where_it_says(shared_data: Path) -> None:
    known = json.loads((shared_data / "images" / "expected_pillow.json").read_text())["files"]
    assert known.keys() == FILES.keys()
    kept = {name for name, (reason, *_) in FILES.items() if reason == KEEP}
    assert {name for name, file in known.items() if file["decodes"]} == kept | LEFT_OUT
    for name in kept:
        assert {FILES[name][2], FILES[name][3]} == set(known[name]["size"])


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name][0] == KEEP])
def test_as_original_every_file_that_decodes_is_stored_as_received(shared_data: Path, name: str) -> None:
    body = (shared_data / "images" / name).read_bytes()
    result = prepared(body, mode="no", encode="original")
    assert result.picture == body
    assert result.extension == prepare.EXTENSIONS[FILES[name][1] or ""]
    assert (result.width, result.height) == (result.original_width, result.original_height) == FILES[name][2:4]


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name][0] != KEEP])
def test_as_original_a_file_that_does_not_decode_has_the_same_reason(shared_data: Path, name: str) -> None:
    result = prepared((shared_data / "images" / name).read_bytes(), mode="no", encode="original")
    assert (result.reason, result.picture) == (FILES[name][0], b"")


def test_photos_stored_in_four_orientations_come_out_upright_and_equal(shared_data: Path) -> None:
    results = [prepared((shared_data / "images" / name).read_bytes()) for name in PORTRAITS]
    assert {(result.width, result.height) for result in results} == {(171, 256)}
    for result in results[1:]:
        assert np.abs(levels(result) - levels(results[0])).mean() < 2.4
        # The hash is that of the upright picture, however it was stored.
        assert _distance(result.pdq, results[0].pdq) <= 10


def _distance(one: str | None, other: str | None) -> int:
    return (int(one or "0", 16) ^ int(other or "0", 16)).bit_count()


def golden(shared_data: Path) -> list[dict[str, Any]]:
    return list(json.loads((shared_data / "golden_img2dataset" / "resizer_dims.json").read_text()))


def smaller(row: dict[str, Any]) -> Smaller:
    return "keep" if row["resize_only_if_bigger"] else "enlarge"


def test_sizes_equal_those_of_img2dataset(shared_data: Path) -> None:
    rows = [row for row in golden(shared_data) if "image_size" in row]
    assert len(rows) == 210
    for row in rows:
        size = fit(row["original_width"], row["original_height"], row["mode"], row["image_size"], smaller(row))
        assert size.canvas == (row["width"], row["height"]), row


@pytest.mark.slow
def test_resized_photos_have_the_size_and_nearly_the_color_of_img2dataset(shared_data: Path) -> None:
    folder = shared_data / "img2dataset_tests" / "resize_test_image"
    rows = [row for row in golden(shared_data) if "image_size" in row]
    for row in rows:
        body = (folder / row["file"]).read_bytes()
        result = prepared(body, mode=row["mode"], side_px=row["image_size"], smaller=smaller(row), pdq="skip")
        assert (result.width, result.height) == opened(result).size == (row["width"], row["height"]), row
        assert (result.original_width, result.original_height) == (row["original_width"], row["original_height"])
        mean = levels(result).reshape(-1, 3).mean(axis=0)[::-1]
        assert np.abs(mean - row["mean_bgr"]).max() < 1.0, row


# Decisions of img2dataset while it downloads: its message, the parameter that decides the same here, its reason.
FILTERS = {
    "min_image_size": ("image too small", "filter.min_side_px", "image_too_small"),
    "max_aspect_ratio": ("aspect ratio too large", "filter.max_aspect_ratio", "aspect_ratio"),
    # Differs on purpose: the limit is on the header, before decoding, and belongs to the download.
    "max_image_area": ("image area too large", "download.max_pixels", "too_many_pixels"),
}


def test_pictures_are_dropped_by_size_and_ratio_where_img2dataset_drops_them(
    shared_data: Path, defaults: params.Params
) -> None:
    rows = [row for row in golden(shared_data) if "filter" in row]
    assert len(rows) == 28
    folder = shared_data / "img2dataset_tests" / "resize_test_image"
    reasons = {err: reason for err, _, reason in FILTERS.values()} | {None: KEEP}
    for row in rows:
        body = (folder / row["file"]).read_bytes()
        limits = {FILTERS[name][1]: value for name, value in row["filter"].items()}
        found = prepared(body, max_pixels=limits.get("download.max_pixels", 40_000_000), pdq="skip")
        reason = found.reason if found.reason != KEEP else _verdict(found, limits, defaults.filter)
        assert reason == reasons[row["err"]], row


def _verdict(found: prepare.Prepared, limits: dict[str, float], settings: params.Filter) -> str:
    changes = {key.removeprefix("filter."): value for key, value in limits.items() if key.startswith("filter.")}
    free = {"min_side_px": 0, "max_aspect_ratio": 1e6, "min_words": 0, "duplicate_images": "keep"} | changes
    size = {"original_width": found.original_width, "original_height": found.original_height}
    changed = settings.model_copy(update=free)
    return judging.verdicts(tables.images(size), tables.scores({}), changed)[0]


@pytest.mark.slow
@pytest.mark.parametrize("side_px", [200, 256, 384, 512])
def test_decoding_a_jpeg_at_reduced_size_changes_it_by_two_grey_levels_at_most(
    shared_data: Path, side_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [
        *(shared_data / "hashes" / "pdq").glob("bridge-mods__*.jpg"),
        *(shared_data / "img2dataset_tests" / "resize_test_image").glob("*.jpg"),
        shared_data / "images" / PORTRAITS[0],
    ]
    bodies = [path.read_bytes() for path in photos]
    quick = [levels(prepared(body, side_px=side_px, encode="png", pdq="skip")) for body in bodies]
    # No reduced size is a billion times the wanted one.
    monkeypatch.setattr(prepare, "DRAFT_GAP", 1e9)
    full = [levels(prepared(body, side_px=side_px, encode="png", pdq="skip")) for body in bodies]
    differences = [np.abs(one - other).mean() for one, other in zip(quick, full, strict=True)]
    assert max(differences) < 2.0
    assert np.mean(differences) < 0.4
    # Large photos do take the short way.
    assert max(differences) > 0 or side_px == 512


def test_sizes_before_and_after_do_not_depend_on_reduced_decoding(shared_data: Path) -> None:
    body = (shared_data / "images" / PORTRAITS[2]).read_bytes()
    with Image.open(io.BytesIO(body)) as stored:
        assert stored.size == (1800, 1200)
    for side_px in (16, 64, 250, 700, 1799):
        result = prepared(body, side_px=side_px)
        assert (result.original_width, result.original_height) == (1200, 1800)
        assert (result.width, result.height) == fit(1200, 1800, "keep_ratio_largest", side_px).canvas
        assert _distance(result.pdq, prepared(body, mode="no").pdq) <= 24
