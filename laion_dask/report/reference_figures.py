"""Draw numbers of a version beside published ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from laion_dask.report import reference
from laion_dask.statistics.summary import ALL, FunnelStep, Statistics

OWN: Final = "#0072B2"
PUBLISHED: Final = "#6B7782"
_WIDTH_IN: Final = 5.0


def own_shares(steps: Sequence[FunnelStep], numbers: Statistics) -> dict[str, float]:
    """Return this version's shares by the names of `reference.shares`; a share without a denominator is left out."""
    everything = next((split for split in numbers.splits if split.split == ALL), None)
    if everything is None:
        return {}
    links = next((step.seen for step in steps if step.ledger == "links"), 0)
    parts = {
        "downloaded, of those asked for": (everything.downloaded, everything.attempts),
        "kept, of those downloaded": (everything.kept, everything.downloaded),
        "kept, of links with a text": (everything.kept, links),
    }
    return {name: part / whole for name, (part, whole) in parts.items() if whole}


def shares(steps: Sequence[FunnelStep], numbers: Statistics) -> Figure:
    """Draw the shares that remain after the main steps, beside published ones."""
    own, published = own_shares(steps, numbers), reference.shares()
    groups = [name for name in published if name in own]
    heights = [1 + len(published[name]) for name in groups]
    figure = Figure(figsize=(_WIDTH_IN, 0.6 + 0.24 * sum(heights) + 0.3 * len(groups)))
    rows = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, name in zip(rows, groups, strict=True):
        bars = [("this version", own[name], True), *((label, share, False) for label, share in published[name].items())]
        _bars(axes, bars)
        axes.set_title(name[0].upper() + name[1:])
    rows[-1].set_xlabel("share")
    return figure


def _bars(axes: Axes, bars: Sequence[tuple[str, float, bool]]) -> None:
    axes.set_yticks(range(len(bars)), [label.replace("_", " ") for label, _, _ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    for place, (_, share, ours) in enumerate(bars):
        color, face = (OWN, OWN) if ours else (PUBLISHED, "white")
        axes.barh(place, share, height=0.62, color=face, edgecolor=color, linewidth=1.1)
        weight = "bold" if ours else "normal"
        axes.text(share + 0.012, place, f"{100 * share:.0f} %", va="center", weight=weight)
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_xlim(0, 1.14)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def mark_rates(axes: Axes, names: Sequence[str], places: dict[str, float]) -> bool:
    """Mark LAION-5B's published rates as hollow diamonds in the rows of `names`; return whether there is one."""
    marked = False
    for row, name in enumerate(names):
        for split, share in reference.rates(name).items():
            label = None if marked else "LAION-5B"
            place = row + places[split]
            axes.plot([share], [place], "D", mfc="white", mec=PUBLISHED, ms=5, ls="none", label=label)
            marked = True
    return marked


def mark_sizes(axes: Axes, place: float, measure: str, split: str) -> None:
    """Draw LAION-5B's published percentiles as a thin grey line under a row: 5 to 95 %, with a tick at the median."""
    published = reference.percentiles().get((measure, split))
    if published:
        low, _, middle, _, high = published
        axes.plot([low, high], [place, place], color=PUBLISHED, linewidth=1, linestyle=":")
        axes.plot([middle], [place], "|", color=PUBLISHED, markersize=7)
