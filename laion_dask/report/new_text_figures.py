"""Draw the similarities of texts that models wrote beside those of the alt texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from laion_dask.report import figures
from laion_dask.report.figures import FigureFiles
from laion_dask.statistics.new_texts import ALL, KINDS, NewTexts

_WIDTH_IN: Final = 5.0
_ROW_IN: Final = 1.75
_TITLES: Final = {"translate": "English texts beside alt texts", "caption": "Captions beside alt texts"}


def write(folder: Path, numbers: Sequence[NewTexts]) -> list[FigureFiles]:
    """Draw a figure for each stage with compared texts into `folder`, `<stage>.png` and `.svg`."""
    drawn = []
    with rc_context(figures.STYLE):
        for stage, title in _TITLES.items():
            rows = [one for one in numbers if one.stage == stage and one.edges and one.split != ALL]
            if rows:
                what = KINDS[stage].what
                caption = (
                    f"Kept pairs by the cosine of the text with the image. Dark line: alt text. Blue: {what}. The "
                    f"share says how often the {what} is more similar."
                )
                svg = figures.save(_histograms(rows, what), folder / stage)
                drawn.append(FigureFiles(stage, title, caption, svg))
    return drawn


def _histograms(rows: Sequence[NewTexts], what: str) -> Figure:
    figure = Figure(figsize=(_WIDTH_IN, 0.9 + _ROW_IN * len(rows)))
    all_axes = figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0]
    for axes, one in zip(all_axes, rows, strict=True):
        widths = [after - before for before, after in pairwise(one.edges)]
        axes.bar(one.edges[:-1], one.new, widths, align="edge", color=figures.KEPT, label=what)
        axes.stairs(one.alt, one.edges, color=figures.INK, linewidth=1.3, label="alt text")
        share = f"{100 * one.wins.rate:.0f} % of {one.wins.total:,}" if one.wins.rate is not None else "none"
        axes.set_title(f"{one.split}: {what} nearer in {share}")
        axes.yaxis.set_major_formatter(FuncFormatter(figures.short_number))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylabel("pairs")
        axes.grid(axis="y")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(6))
    figure.legend(*all_axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    all_axes[-1].set_xlabel("cosine of image and text embedding")
    return figure
