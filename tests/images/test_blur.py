"""The blur of boxes: by its effect, and by img2dataset's own picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from laion_dask.images.blur import Strength, blur

Floats = np.ndarray


def width_of(step: Floats) -> float:
    """Return the sigma of the Gaussian that made a step of one row what it is, in px."""
    slope = np.diff(step)
    share, places = slope / slope.sum(), np.arange(len(slope))
    middle = (share * places).sum()
    return float(np.sqrt((share * (places - middle) ** 2).sum()))


@pytest.mark.parametrize(
    ("side", "strength", "sigma"),
    [
        *((side, "full", 0.1 * side) for side in (40, 80, 160, 320)),
        # As measured on img2dataset 1.47: a third of what its recipe says.
        *((side, "img2dataset", sigma) for side, sigma in ((40, 1.70), (80, 2.90), (160, 5.27), (320, 10.1))),
    ],
)
def test_an_edge_in_a_box_becomes_as_soft_as_the_recipe_says(side: int, strength: Strength, sigma: float) -> None:
    edge = np.zeros((600, 600, 3), np.uint8)
    edge[:, 300:] = 255
    low, high = (300 - side / 2) / 600, (300 + side / 2) / 600
    found = np.asarray(blur(Image.fromarray(edge), [(low, low, high, high)], strength))[300, :, 0].astype(float)
    # Within the box the mask is whole; two sigma on each side hold nearly all of the slope.
    inner = found[300 - side // 2 : 300 + side // 2]
    assert width_of(inner) == pytest.approx(sigma, rel=0.06)


def test_img2datasets_own_picture_comes_out_within_a_grey_level(shared_data: Path) -> None:
    folder = shared_data / "img2dataset_tests" / "blur_test_files"
    boxes = np.load(folder / "bbox.npy").astype(float).tolist()
    original, wanted = (Image.open(folder / name).convert("RGB") for name in ("original.png", "blurred.png"))
    off = np.abs(np.asarray(blur(original, boxes, "img2dataset")).astype(int) - np.asarray(wanted).astype(int))
    assert off.max() <= 1
    assert off.mean() < 0.001
    # Where it is strong, less of the face is left than there.
    rows, columns = (
        slice(round(low * side), round(high * side))
        for low, high, side in ((boxes[0][1], boxes[0][3], original.height), (boxes[0][0], boxes[0][2], original.width))
    )
    detail = [
        np.abs(np.diff(np.asarray(one).astype(int)[rows, columns], axis=1)).mean()
        for one in (original, wanted, blur(original, boxes))
    ]
    assert detail[2] < 0.6 * detail[1] < 0.6 * detail[0]


SHARES = st.floats(-0.5, 1.5, allow_nan=False)


@given(st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), max_size=3), st.sampled_from(["full", "img2dataset"]))
def test_only_what_a_box_can_reach_changes_in_whatever_order_boxes_come(
    boxes: list[tuple[float, float, float, float]], strength: Strength
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    image = Image.fromarray(noise)
    found = np.asarray(blur(image, boxes, strength))
    assert np.array_equal(found, np.asarray(blur(image, boxes[::-1], strength)))
    cut = np.clip(np.array(boxes, float).reshape(-1, 4), 0, 1) * [64, 48, 64, 48]
    sides = cut[:, 2:] - cut[:, :2]
    real = cut[(sides > 0).all(axis=1)]
    longest = float((real[:, 2:] - real[:, :2]).max(initial=0))
    reach = 0.1 * longest + np.ceil(0.4 * longest) + 1
    y, x = np.mgrid[:48, :64]
    near = np.zeros((48, 64), bool)
    for x1, y1, x2, y2 in real:
        near |= (x >= x1 - reach) & (x <= x2 + reach) & (y >= y1 - reach) & (y <= y2 + reach)
    assert np.array_equal(found[~near], noise[~near])
    assert np.array_equal(np.asarray(image), noise), "the picture that was given is not to change"


@pytest.mark.parametrize(
    "box", [(0.5, 0.5, 0.5, 0.9), (0.9, 0.1, 0.2, 0.9), (1.2, 0.1, 1.5, 0.4), (float("nan"), 0.1, 0.5, 0.5)]
)
def test_a_box_without_an_area_in_the_picture_changes_nothing(box: tuple[float, float, float, float]) -> None:
    image = Image.effect_noise((32, 32), 80).convert("RGB")
    assert blur(image, [box]) is image


def test_a_whole_picture_can_be_blurred() -> None:
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    assert np.asarray(blur(image, [(0, 0, 1, 1)])).std() < 0.2 * np.asarray(image).std()
