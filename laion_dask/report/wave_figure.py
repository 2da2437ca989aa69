"""Draw by crawl what became of its new pairs: kept, dropped by the filter, or without an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from laion_dask.report.figures import STYLE, FigureFiles, save, short_number
from laion_dask.statistics import waves
from laion_dask.statistics.waves import Wave

CAPTION: Final = (
    "Pairs of the work list by the first crawl that has them, and what became of them; dropped means by the filter. "
    "Pairs that an earlier crawl has are counted there."
)
# Okabe and Ito's, as in the figure of link rot.
_COLORS: Final = {
    "kept": "#0072B2",
    "dropped": "#56B4E9",
    waves.REFUSED: "#CC79A7",
    waves.GONE: "#D9822B",
    waves.UNREACHABLE: "#D5DBE1",
    waves.LISTED: "#6B7782",
}
_LATEST: Final = 30
"""Crawls that the figure has at most; the table has all."""


def write(folder: Path, crawls: Sequence[Wave]) -> FigureFiles:
    """Draw `waves.png` and `waves.svg` of the latest crawls into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        return FigureFiles("waves", "What each crawl brought", CAPTION, save(_figure(crawls), folder / "waves"))


def _figure(crawls: Sequence[Wave]) -> Figure:
    shown = crawls[-_LATEST:]
    figure = Figure(figsize=(5.0, 1.3 + 0.3 * len(shown)))
    axes = figure.subplots()
    axes.set_yticks(range(len(shown)), [wave.crawl for wave in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    parts = [{"kept": wave.kept, "dropped": wave.alive - wave.kept, **wave.dead} for wave in shown]
    lefts = [0] * len(shown)
    for name, color in _COLORS.items():
        widths = [part[name] for part in parts]
        axes.barh(range(len(shown)), widths, 0.7, left=lefts, color=color, label=name)
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.set_xlabel("pairs of the work list")
    figure.legend(loc="outside upper center", ncols=3)
    return figure
