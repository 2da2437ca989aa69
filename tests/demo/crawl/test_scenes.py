"""Scenes in, pictures out: labelled, repeatable, of any size, and distinct in what they are labelled with."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from made.processes import programs

from laion_dask.demo.crawl.scenes import COLORS, SETTINGS, SIZES, THINGS, Scene, draw, random_scene

PLAIN = Scene(thing="star", color="red", size="large", setting="plain wall", beauty=9.0, seed=3)


def pixels(scene: Scene, width: int = 200, height: int = 200) -> np.ndarray:
    return np.asarray(draw(scene, width, height)).astype(int)


@pytest.mark.parametrize("size", [(32, 32), (96, 48), (300, 300), (333, 500), (1600, 800), (1600, 1600)])
def test_a_picture_has_the_asked_size_and_is_the_same_every_time(size: tuple[int, int]) -> None:
    picture = draw(replace(PLAIN, watermark=True, unsafe=True), *size)
    assert (picture.size, picture.mode) == (size, "RGB")
    assert picture.tobytes() == draw(replace(PLAIN, watermark=True, unsafe=True), *size).tobytes()


def test_random_scenes_are_drawn_from_the_known_words_and_repeat_with_the_seed() -> None:
    scenes = [random_scene(np.random.default_rng(seed)) for seed in range(300)]
    assert scenes == [random_scene(np.random.default_rng(seed)) for seed in range(300)]
    assert {s.thing for s in scenes} == set(THINGS)
    assert {s.color for s in scenes} == set(COLORS)
    assert {s.size for s in scenes} == set(SIZES)
    assert {s.setting for s in scenes} == set(SETTINGS)
    assert all(1.0 <= s.beauty <= 10.0 and not s.watermark and not s.unsafe for s in scenes)


def test_fixed_fields_keep_their_value() -> None:
    scene = random_scene(np.random.default_rng(0), thing="key", unsafe=True, beauty=2.5)
    assert (scene.thing, scene.unsafe, scene.beauty) == ("key", True, 2.5)


def test_a_scene_is_plain_values_for_a_truth_table() -> None:
    assert {type(value) for value in asdict(random_scene(np.random.default_rng(0))).values()} == {str, float, bool, int}


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("thing", THINGS),
        ("color", tuple(COLORS)),
        ("size", SIZES),
        ("setting", SETTINGS),
        ("beauty", (1.0, 4.0, 7.0, 10.0)),
    ],
)
def test_every_value_of_a_field_looks_different(field: str, values: tuple[object, ...]) -> None:
    pictures = [pixels(replace(PLAIN, **{field: value})) for value in values]  # type: ignore[arg-type]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).mean() > 1.5


@pytest.mark.parametrize("thing", THINGS)
def test_the_middle_of_a_large_thing_is_mostly_of_its_color(thing: str) -> None:
    picture = pixels(replace(PLAIN, thing=thing, color="green"))
    near = np.abs(picture - COLORS["green"]).sum(axis=-1) < 90
    assert near[40:160, 40:160].mean() > 0.06
    assert near.sum() == pytest.approx(near[20:180, 20:180].sum(), rel=0.02)


@pytest.mark.parametrize("size", [(96, 96), (96, 192), (640, 480), (1600, 1200)])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_unsafe_mark_shows_magenta_and_nothing_else_does(size: tuple[int, int], setting: str) -> None:
    def magenta(scene: Scene) -> float:
        red, green, blue = pixels(scene, *size).transpose(2, 0, 1)
        return float(((red > 200) & (green < 90) & (blue > 150)).sum() / min(size) ** 2)

    scene = replace(PLAIN, setting=setting, color="purple")
    assert magenta(scene) == 0
    assert magenta(replace(scene, unsafe=True)) > 0.01


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_watermark_covers_the_whole_picture_and_lets_it_shine_through(setting: str) -> None:
    scene = replace(PLAIN, setting=setting)
    changed = (np.abs(pixels(scene) - pixels(replace(scene, watermark=True))).sum(axis=-1) > 30).astype(float)
    quarters = changed.reshape(4, 50, 4, 50).mean(axis=(1, 3))
    assert quarters.min() > 0.1
    assert quarters.max() < 0.7


def test_a_picture_is_nearly_the_same_at_another_size() -> None:
    small, large = draw(PLAIN, 200, 150), draw(PLAIN, 800, 600).resize((200, 150))
    assert np.abs(np.asarray(small).astype(int) - np.asarray(large).astype(int)).mean() < 6


def test_drawing_and_writing_need_no_torch() -> None:
    code = "import sys, laion_dask.demo.crawl.scenes, laion_dask.demo.crawl.captions; sys.exit('torch' in sys.modules)"
    programs.finished([sys.executable, "-c", code], check=True)
