"""Figures: there, readable, and the same bytes for the same numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from made.versions import sample_version
from PIL import Image

from laion_dask.params import Params
from laion_dask.report import figures
from laion_dask.report.figures import FigureFiles
from laion_dask.statistics import summary, truth
from laion_dask.statistics.summary import FunnelStep, Histogram, Statistics
from laion_dask.statistics.truth import DecisionScore

NAMES = ["funnel", "similarity", "languages", "safety", "truth", "sizes", "shares", "aesthetics"]


@pytest.fixture(scope="module")
def numbers(
    tmp_path_factory: pytest.TempPathFactory, defaults: Params
) -> tuple[list[FunnelStep], Statistics, list[DecisionScore]]:
    data, metrics = sample_version.write(tmp_path_factory.mktemp("version"), links=120, shards=1)
    counts = sample_version.load_metrics(metrics)
    return (
        summary.funnel(counts),
        summary.collect(data, defaults, counts),
        truth.decisions(data, defaults, counts),
    )


@pytest.fixture(scope="module")
def drawn(
    numbers: tuple[list[FunnelStep], Statistics, list[DecisionScore]], tmp_path_factory: pytest.TempPathFactory
) -> list[FigureFiles]:
    return figures.write(tmp_path_factory.mktemp("figures"), *numbers)


@pytest.mark.slow
def test_every_figure_is_written_twice_with_a_title_and_a_caption(drawn: list[FigureFiles]) -> None:
    pictures, folder = drawn, drawn[0].svg.parent
    assert [picture.name for picture in pictures] == NAMES
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")
    )
    for picture in pictures:
        assert picture.title
        assert picture.caption.endswith(".")
        assert ET.parse(picture.svg).getroot().tag.endswith("svg")  # noqa: S314 - our own file
        with Image.open(folder / f"{picture.name}.png") as image:
            # 150 dpi, up to the rounding of pixels per metre; wide enough to be read on a phone without zoom.
            assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
            assert image.width == 750


@pytest.mark.slow
def test_the_same_numbers_give_the_same_bytes(
    drawn: list[FigureFiles], numbers: tuple[list[FunnelStep], Statistics, list[DecisionScore]], tmp_path: Path
) -> None:
    figures.write(tmp_path, *numbers)
    for path in drawn[0].svg.parent.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
        assert b"<dc:date>" not in path.read_bytes()


def test_a_figure_with_nothing_to_show_is_left_out(
    numbers: tuple[list[FunnelStep], Statistics, list[DecisionScore]], tmp_path: Path
) -> None:
    _, collected, _ = numbers
    empty = replace(collected, splits=(), languages=(), safety=(), sizes=())
    assert [picture.name for picture in figures.write(tmp_path, [], empty, [])] == ["aesthetics"]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (950, "950"), (1_200, "1.2k"), (5.85e9, "5.85G"), (3e6, "3M")])
def test_large_numbers_are_short_on_axes(value: float, text: str) -> None:
    assert figures.short_number(value) == text


def histogram(split: str, ends: tuple[int, int]) -> Histogram:
    """Ten bars between 0 and 10, of which the first and the last hold `ends`."""
    kept = (ends[0], *(3, 9, 27, 81, 81, 27, 9, 3), ends[1])
    return Histogram(split, tuple(range(11)), kept, (0,) * 10, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("ends", "hatched"), [((0, 0), 0), ((4, 0), 1), ((0, 4), 1), ((4, 4), 2)])
def test_bars_that_hold_all_values_beyond_the_axis_are_hatched_and_others_are_not(
    numbers: tuple[list[FunnelStep], Statistics, list[DecisionScore]],
    tmp_path: Path,
    ends: tuple[int, int],
    hatched: int,
) -> None:
    made = replace(numbers[1], aesthetic=histogram("aesthetic", ends), splits=(), languages=(), safety=(), sizes=())
    (picture,) = figures.write(tmp_path, [], made, [])
    text = picture.svg.read_text()
    bars = [one for one in re.findall(r"fill: (#0072b2|url\(#\w+\))", text) if one.startswith("url")]
    assert len(bars) == 2 * hatched  # one of what is kept, one of what is dropped
    # Each has its limit beside it, as text whose letters are in a comment of the file.
    assert [sign in text for sign in ("\N{LESS-THAN OR EQUAL TO} 1", "\N{GREATER-THAN OR EQUAL TO} 9")] == [
        end > 0 for end in ends
    ]
    assert "<!-- pairs -->" in text


@pytest.mark.slow
def test_no_text_of_a_figure_is_too_small_for_a_phone(drawn: list[FigureFiles]) -> None:
    for picture in drawn:
        text = picture.svg.read_text()
        width = re.search(r'viewBox="0 0 ([\d.]+)', text)
        assert width
        # matplotlib draws letters of 100 units, which a scale brings to their size.
        sizes = [100 * float(scale) for scale in re.findall(r"scale\(([\d.]+) -[\d.]+\)", text)]
        assert min(sizes) * 358 / float(width[1]) >= 11, picture.name
