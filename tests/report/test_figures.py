"""Figures: there, readable, and the same bytes for the same numbers."""

from __future__ import annotations

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
from laion_dask.statistics.summary import FunnelStep, Statistics
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
