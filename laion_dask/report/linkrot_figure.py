"""Draw link rot: the share of each result over all pairs, by year and by large host."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from laion_dask.report.figures import INK, QUIET, STYLE, FigureFiles, save
from laion_dask.schema import comparison
from laion_dask.versions.linkrot import LinkRot, LinkRotGroup

CAPTION: Final = (
    "Pairs of the earlier version by what their address gives now. Black lines: 95 % Wilson interval of the share that "
    "still gives the picture, in the same or in other bytes."
)
# Okabe and Ito's; blue for pictures that still exist. The order of the bars repeats the meaning.
_COLORS: Final = {
    comparison.SAME_BYTES: "#0072B2",
    comparison.SAME_PICTURE: "#56B4E9",
    comparison.CHANGED: "#D55E00",
    comparison.REFUSED: "#CC79A7",
    comparison.GONE: "#D9822B",
    comparison.UNREACHABLE: "#D5DBE1",
}
_HOSTS: Final = 15


def write(folder: Path, report: LinkRot) -> FigureFiles | None:
    """Draw `linkrot.png` and `linkrot.svg` into a folder; None if no pair was compared."""
    if not report.everything.pairs:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        return FigureFiles("linkrot", "Link rot", CAPTION, save(_figure(report), folder / "linkrot"))


def _figure(report: LinkRot) -> Figure:
    hosts = report.hosts[:_HOSTS]
    groups = [report.everything, *report.years, *hosts]
    figure = Figure(figsize=(5.0, 1.0 + 0.26 * len(groups)))
    axes = figure.subplots()
    axes.set_yticks(range(len(groups)), [f"{group.name} ({group.pairs:,})" for group in groups])
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    for found, color in _COLORS.items():
        lefts = [_below(group, found) for group in groups]
        widths = [group.share(found).rate or 0.0 for group in groups]
        axes.barh(range(len(groups)), widths, 0.7, left=lefts, color=color, label=found.replace("_", " "))
    for place, group in enumerate(groups):
        low, high = group.still_there()
        axes.plot([low, high], [place, place], color=INK, linewidth=1.4)
    for first in (1, 1 + len(report.years)):
        axes.axhline(first - 0.5, color=QUIET, linewidth=0.6)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.set_xlabel("share of the pairs that were asked for again")
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def _below(group: LinkRotGroup, found: str) -> float:
    names = list(_COLORS)
    return sum(group.share(name).rate or 0.0 for name in names[: names.index(found)])
