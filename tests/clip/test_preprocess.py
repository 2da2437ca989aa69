"""Preprocessing: CLIP's own tensors bit for bit, open_clip's transforms for every resize mode, and reduced decoding."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made.images import small_clips
from PIL import Image

from laion_dask.clip import preprocess
from laion_dask.clip.preprocess import Preparation, UnreadableImageError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# What decoding a JPEG at a reduced size does to the numbers that the network sees, beside full decoding: on photos from
# a camera. One grey level is 0.015 of them.
REDUCED_MEAN, REDUCED_MAX = 0.03, 1.2


def transforms(**values: Any) -> Any:  # noqa: ANN401 - torchvision's own
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**values), is_train=False)


def tensor(body: bytes, preparation: Preparation, needed_px: int | None = None) -> np.ndarray:
    """Return what the network sees: float32 (3, height, width)."""
    import torch

    room = np.empty((1, *preparation.side, 3), np.uint8)
    preprocess.prepare(preprocess.decode(body, needed_px), [preparation], [room[0]], quick=needed_px is not None)
    return np.asarray(preprocess.normalised(torch.from_numpy(room), preparation)[0].numpy())


def test_clips_own_tensors_of_seven_photos_are_met_bit_for_bit(shared_data: Path) -> None:
    folder = shared_data / "golden_clip"
    golden = np.load(folder / "vitb32_preprocessed_f32.npy")
    preparation = preprocess.from_transforms(transforms())
    for name, wanted in zip((folder / "names.txt").read_text().split(), golden, strict=True):
        found = tensor((folder / f"{name}.jpg").read_bytes(), preparation)
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted), name


@pytest.mark.parametrize("size", [(640, 480), (90, 200), (224, 224), (33, 31), (1500, 700)])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"size": 64, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)},
        {"size": 256, "interpolation": "bilinear"},
        {"size": 384, "resize_mode": "squash"},
        {"size": 224, "resize_mode": "longest", "fill_color": 128},
        {"size": (240, 320)},
    ],
    ids=str,
)
def test_every_models_transforms_are_met_bit_for_bit(values: dict[str, Any], size: tuple[int, int]) -> None:
    wanted = transforms(**values)
    body = small_clips.jpeg(3, size)
    found = tensor(body, preprocess.from_transforms(wanted))
    assert np.array_equal(found, wanted(Image.open(io.BytesIO(body))).numpy())


def test_one_decode_gives_every_model_its_pixels_and_equal_steps_are_shared() -> None:
    clip, demo, again = (
        preprocess.from_transforms(transforms(**values))
        for values in ({}, {"size": 64}, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
    )
    assert clip.key == again.key != demo.key
    assert (clip.side, demo.side) == ((224, 224), (64, 64))
    rooms = [np.empty((*one.side, 3), np.uint8) for one in (clip, demo)]
    image = preprocess.decode(small_clips.jpeg(4, (300, 200)))
    preprocess.prepare(image, [clip, demo], rooms)
    for one, room in zip((clip, demo), rooms, strict=True):
        assert np.array_equal(room, np.asarray(one.steps(image)))


@pytest.mark.parametrize(
    ("size", "needed_px", "decoded"),
    [
        ((1024, 768), None, (1024, 768)),
        ((1024, 768), 224, (512, 384)),
        ((4000, 3000), 224, (500, 375)),
        ((1200, 1800), 224, (300, 450)),
        ((447, 600), 224, (447, 600)),
        ((448, 600), 224, (224, 300)),
        ((100, 80), 224, (100, 80)),
        ((1024, 768), 384, (512, 384)),
        ((3000, 449), 224, (1500, 225)),
    ],
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_large_enough(
    size: tuple[int, int], needed_px: int | None, decoded: tuple[int, int]
) -> None:
    assert preprocess.decode(small_clips.jpeg(5, size), needed_px).size == decoded


def test_reduced_decoding_stays_within_its_bound_on_photos(shared_data: Path) -> None:
    preparation = preprocess.from_transforms(transforms())
    photos = sorted((shared_data / "images" / "exif_orientation").glob("*.jpg"))
    assert len(photos) == 4
    for photo in photos:
        body = photo.read_bytes()
        assert min(preprocess.decode(body, 224).size) < 600, "a photo that is not reduced proves nothing"
        off = np.abs(tensor(body, preparation, 224) - tensor(body, preparation))
        assert off.mean() <= REDUCED_MEAN, (photo.name, off.mean())
        assert off.max() <= REDUCED_MAX, (photo.name, off.max())


@pytest.mark.parametrize("values", [{}, {"size": 64}, {"size": 256, "interpolation": "bilinear"}], ids=str)
@pytest.mark.parametrize("size", [(640, 480), (300, 1100), (256, 256), (257, 300)])
def test_the_quick_way_of_resizing_is_off_by_two_grey_levels_and_more_on_noise_alone(
    values: dict[str, Any], size: tuple[int, int]
) -> None:
    preparation = preprocess.from_transforms(transforms(**values))
    rng = np.random.default_rng(7)
    noise = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    assert preparation.quick is not None
    for image, most, mean in ((preprocess.decode(small_clips.jpeg(8, size)), 2, 0.15), (noise, 20, 0.35)):
        exact, quick = (np.empty((*preparation.side, 3), np.uint8) for _ in range(2))
        preprocess.prepare(image, [preparation], [exact])
        preprocess.prepare(image, [preparation], [quick], quick=True)
        off = np.abs(exact.astype(int) - quick.astype(int))
        assert off.max() <= most
        assert off.mean() <= mean


@pytest.mark.parametrize(
    ("values", "size"),
    [({}, (500, 223)), ({"resize_mode": "squash"}, (640, 480)), ({"resize_mode": "longest"}, (640, 480))],
    ids=str,
)
def test_what_the_quick_way_cannot_do_well_is_done_exactly(values: dict[str, Any], size: tuple[int, int]) -> None:
    preparation = preprocess.from_transforms(transforms(**values))
    exact, quick = (np.empty((*preparation.side, 3), np.uint8) for _ in range(2))
    image = preprocess.decode(small_clips.jpeg(9, size))
    preprocess.prepare(image, [preparation], [exact])
    preprocess.prepare(image, [preparation], [quick], quick=True)
    assert np.array_equal(exact, quick)


def test_a_format_without_reduced_sizes_is_decoded_whole() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (900, 700), "red").save(buffer, "PNG")
    assert preprocess.decode(buffer.getvalue(), 224).size == (900, 700)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("needed_px", [None, 64])
def test_every_mode_becomes_rgb(mode: str, needed_px: int | None) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (300, 200)).save(buffer, "JPEG")
    assert preprocess.decode(buffer.getvalue(), needed_px).mode == "RGB"


@pytest.mark.parametrize(
    "body",
    [b"", b"no image", small_clips.jpeg(6)[:200], b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a" + b"\xff" * 20],
    ids=["empty", "text", "cut", "png", "gif"],
)
def test_bytes_that_are_no_image_raise_one_error(body: bytes) -> None:
    with pytest.raises(UnreadableImageError):
        preprocess.decode(body)


def test_transforms_in_another_order_are_refused() -> None:
    from torchvision.transforms import Compose, Normalize, Resize, ToTensor

    for steps in ([Resize(8), ToTensor()], [ToTensor(), Resize(8), Normalize(MEAN, STD)], [Resize(8)]):
        with pytest.raises(ValueError, match=r"do not end in ToTensor and Normalize\. Remedy: "):
            preprocess.from_transforms(Compose(steps))
