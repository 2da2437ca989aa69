"""Figures of a comparison: the same bytes for the same numbers, and every number in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import rc_context

from experiments import figures
from experiments.results import Overlap, Row
from laion_dask.report.figures import STYLE

ROWS = [
    Row(
        label=f"en={value}",
        changes={"filter.similarity.en": value},
        kept=kept,
        share=kept / 100,
        share_of={"en": kept / 100, "multi": 0.5, "nolang": None},
        precision=0.9,
        recall=kept / 90,
        safety={"unsafe_of_kept": (0.02, 0.01, 0.04), "watermark_of_kept": None},
    )
    for value, kept in ((0.2, 80), (0.3, 60), (0.4, 20))
]
SHARED = Overlap(
    labels=tuple(row.label for row in ROWS),
    identity="uid",
    shared=((80, 60, 20), (60, 60, 20), (20, 20, 20)),
    exactly={(0,): 20, (0, 1): 40, (0, 1, 2): 20},
)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["filter.similarity.en", None])
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, key: str | None) -> None:
    names = [[figure["name"] for figure in figures.versions_figures(tmp_path / run, ROWS, SHARED, key)] for run in "ab"]
    assert names[0] == names[1] == ["curve" if key else "versions", "overlap", "sets"]
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_every_figure_says_what_to_see(tmp_path: Path) -> None:
    for figure in figures.versions_figures(tmp_path, ROWS, SHARED, None):
        assert figure["caption"].endswith(".")
        assert (tmp_path / f"{figure['name']}.png").is_file()


def test_a_single_version_has_nothing_to_overlap_with(tmp_path: Path) -> None:
    assert [figure["name"] for figure in figures.versions_figures(tmp_path, ROWS[:1], None, None)] == ["versions"]


def test_the_matrix_shows_pairs_in_both_of_pairs_in_either() -> None:
    with rc_context(STYLE):
        texts = [text.get_text() for text in figures.matrix(SHARED).axes[0].texts]
    assert texts == ["100", "75", "25", "75", "100", "33", "25", "33", "100"]


def test_an_upset_figure_counts_what_it_does_not_show() -> None:
    exactly = {(place,): 100 - place for place in range(20)}
    with rc_context(STYLE):
        drawn = figures.upset([f"rule {place}" for place in range(20)], exactly, [100] * 20, "Pairs")
    bars = drawn.axes[0]
    shown = [int(text.get_text()) for text in bars.texts]
    assert shown == sorted(exactly.values(), reverse=True)[: len(shown)]
    assert f"{sum(exactly.values()) - sum(shown):,} more" in bars.get_title(loc="left")


def test_a_curve_leaves_out_what_was_not_measured() -> None:
    with rc_context(STYLE):
        drawn = figures.curve(ROWS, "filter.similarity.en")
    lines = {line.get_label(): len(line.get_xdata()) for axes in drawn.axes for line in axes.get_lines()}
    assert (lines["en"], lines["recall"], lines["unsafe of kept"]) == (3, 3, 3)
    assert "nolang" not in lines
