"""Draw figures as PNG and SVG: the same numbers give the same bytes.

Colors are Okabe and Ito's, which color-blind readers can tell apart; shape or position repeats the meaning of a color.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from laion_dask.report import reference, reference_figures
from laion_dask.schema.values import SIGNALS, SPLITS
from laion_dask.statistics.rate_queries import NO_LANGUAGE
from laion_dask.statistics.summary import ALL, FunnelStep, Histogram, Statistics
from laion_dask.statistics.truth import DecisionScore

KEPT: Final = "#0072B2"
DROPPED: Final = "#D9822B"
INK: Final = "#22303C"
QUIET: Final = "#6B7782"
LINE: Final = "#D5DBE1"
_SPLIT_STYLE: Final[dict[Any, Any]] = {"en": ("#0072B2", "o"), "multi": ("#D55E00", "s"), "nolang": ("#009E73", "^")}
_WIDTH_IN: Final = 5.0
# A phone of 390 px shows a figure 358 px wide, where no text may be under 11 px: 11 px / 358 px * 5 in * 72 pt/in.
_TEXT_PT: Final = 11.2
_LANGUAGES: Final = 15
_LABEL_BARS: Final = 9
"""Bars of a histogram over which the text of its first one stretches."""
STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "laion_dask",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": _TEXT_PT,
    "axes.titlesize": 11.6,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": LINE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, slots=True)
class FigureFiles:
    """One figure on disk: `<name>.png` at 150 dpi and `<name>.svg`, its title and caption."""

    name: str
    title: str
    caption: str
    svg: Path


def write(
    folder: Path, steps: Sequence[FunnelStep], statistics: Statistics, decisions: Sequence[DecisionScore]
) -> list[FigureFiles]:
    """Draw every figure that has data into `folder`, and return them in the order of the report."""
    folder.mkdir(parents=True, exist_ok=True)
    scored = any(split.scored for split in statistics.splits)
    plots: list[tuple[bool, str, str, str, Callable[[], Figure]]] = [
        (
            bool(steps),
            "funnel",
            "From image link to released pair",
            "Blue: what each stage was given. Orange: what it dropped, by reason, down to what the next one sees.",
            lambda: _funnel(steps),
        ),
        (
            scored,
            "similarity",
            "Similarity of image and text",
            (
                "Scored pairs by cosine. Dashed: the threshold of the split. Orange to its right fell to another rule. "
                "Hatched: a bar at the end of the axis, which also holds all values beyond it."
            ),
            lambda: _similarity(statistics),
        ),
        (
            bool(statistics.languages),
            "languages",
            "Languages",
            "Scored pairs (outline) and kept ones (blue). A short blue bar is a language that the filter treats worse.",
            lambda: _languages(statistics),
        ),
        (
            bool(statistics.safety),
            "safety",
            "Safety and rights",
            (
                "Share by split, with 95 % Wilson interval. Intervals that do not overlap differ by more than chance. "
                "Hollow: what LAION-5B published of what it kept."
            ),
            lambda: _safety(statistics),
        ),
        (
            bool(decisions),
            "truth",
            "Decisions against the truth",
            "Precision (dots) and recall (diamonds) with 95 % Wilson interval: few cases, wide interval.",
            lambda: _truth(decisions),
        ),
        (
            bool(statistics.sizes),
            "sizes",
            "Sizes of kept pairs",
            (
                "Dot: median. Thick line: half of the pairs (25 to 75 %). Thin line: nine tenths (5 to 95 %). "
                "Dotted below: LAION-5B as published, with a tick at its median."
            ),
            lambda: _sizes(statistics),
        ),
        (
            bool(steps) and scored,
            "shares",
            "Shares beside published data sets",
            (
                "Blue: this version. Hollow: published. A share far from all others asks for a reason: "
                "another crawl, dead links, or a rule that takes more than it should."
            ),
            lambda: reference_figures.shares(steps, statistics),
        ),
        (
            bool(sum(statistics.aesthetic.kept) + sum(statistics.aesthetic.dropped)),
            "aesthetics",
            "Aesthetics",
            (
                "Scored pairs by aesthetics score. Dashed lines: where the aesthetics subsets begin. "
                "Hatched: a bar at the end of the axis, which also holds all values beyond it."
            ),
            lambda: _aesthetics(statistics),
        ),
    ]
    pictures = []
    with rc_context(STYLE):
        for wanted, name, title, caption, draw in plots:
            if wanted:
                pictures.append(FigureFiles(name, title, caption, save(draw(), folder / name)))
    return pictures


def save(figure: Figure, stem: Path) -> Path:
    """Write `<stem>.png` and `<stem>.svg`, and return the second; call it inside `rc_context(STYLE)`."""
    # No dates and no version of the writer, so that the same numbers give the same bytes.
    figure.savefig(stem.with_name(f"{stem.name}.png"), dpi=150, metadata={"Software": None})
    # The layout is kept: computing it again takes longer than drawing.
    figure.set_layout_engine("none")
    figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None, "Creator": None})
    return stem.with_name(f"{stem.name}.svg")


def _frame(height: float, rows: int = 1, **options: Any) -> tuple[Figure, list[Axes]]:  # noqa: ANN401 - of subplots
    figure = Figure(figsize=(_WIDTH_IN, height))
    axes = figure.subplots(rows, 1, squeeze=False, **options)[:, 0]
    return figure, list(axes)


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def short_number(value: float, _: object = None) -> str:
    """Format the tick labels of counts: 1200 as 1.2k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _plain(reason: str) -> str:
    return reason.replace("_", " ")


def _funnel(steps: Sequence[FunnelStep]) -> Figure:
    labels: list[str] = []
    bars: list[tuple[float, float, bool]] = []
    for step in steps:
        labels.append(f"{step.stage}: {step.ledger}")
        bars.append((0, step.seen, True))
        left = step.seen
        for drop in step.dropped:
            left -= drop.count
            labels.append(_plain(drop.reason))
            bars.append((left, drop.count, False))
    if steps[-1].dropped:
        labels.append("kept")
        bars.append((0, steps[-1].kept, True))
    figure, (axes,) = _frame(0.5 + 0.205 * len(bars))
    _rows(axes, labels)
    widest = max((start + length for start, length, _ in bars), default=1) or 1
    for place, (start, length, stage) in enumerate(bars):
        axes.barh(place, length, left=start, height=0.72, color=KEPT if stage else DROPPED)
        text = f"{length:,.0f}" if stage else _signed(f"-{length:,.0f}")
        weight = "bold" if stage else "normal"
        axes.text(start + length + widest * 0.012, place, text, va="center", weight=weight)
    for label, (_, _, stage) in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_fontweight("bold" if stage else "normal")
        label.set_color(INK if stage else QUIET)
    axes.set_xlim(0, widest * 1.2)
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def _bars(axes: Axes, histogram: Histogram) -> None:
    edges = histogram.edges
    widths = [after - before for before, after in pairwise(edges)]
    kept = axes.bar(edges[:-1], histogram.kept, widths, align="edge", color=KEPT)
    dropped = axes.bar(edges[:-1], histogram.dropped, widths, align="edge", bottom=histogram.kept, color=DROPPED)
    # The bars at both ends also hold what lies beyond the axis, and must not look like all others.
    high = [one + other for one, other in zip(histogram.kept, histogram.dropped, strict=True)]
    for place in (place for place in (0, -1) if high[place]):
        for bar in (kept[place], dropped[place]):
            bar.set(hatch="/////", edgecolor="white", linewidth=0)
    if high[0]:  # above the bars that lie under the text too
        at = (edges[0], max(high[:_LABEL_BARS]))
        axes.annotate(_signed(f"\N{LESS-THAN OR EQUAL TO} {edges[1]:g}"), at, (0, 2), textcoords="offset points")
    if high[-1]:
        at = (edges[-1], high[-1])
        axes.annotate(_signed(f"\N{GREATER-THAN OR EQUAL TO} {edges[-2]:g}"), at, (3, 0), textcoords="offset points")
    axes.yaxis.set_major_formatter(FuncFormatter(short_number))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylabel("pairs")
    axes.grid(axis="y")


def _legend(figure: Figure) -> None:
    patches = [Patch(color=KEPT, label="kept"), Patch(color=DROPPED, label="dropped")]
    figure.legend(handles=patches, loc="outside upper right", ncols=2)


def _similarity(statistics: Statistics) -> Figure:
    figure, all_axes = _frame(5.8, len(SPLITS), sharex=True)
    for axes, histogram in zip(all_axes, statistics.similarity, strict=True):
        _bars(axes, histogram)
        axes.axvline(histogram.threshold or 0, color=INK, linestyle="--", linewidth=1.1)
        axes.set_title(f"{histogram.split}: kept from {histogram.threshold:g}")
    edges = statistics.similarity[0].edges
    bars = [
        kept + dropped for one in statistics.similarity for kept, dropped in zip(one.kept, one.dropped, strict=True)
    ]
    filled = [place % (len(edges) - 1) for place, pairs in enumerate(bars) if pairs]
    highest = max(one.threshold or 0 for one in statistics.similarity)
    # Cosines near 1 are rare: the axis ends behind the last bar, or behind the thresholds.
    axes.set_xlim(edges[0], max(edges[max(filled, default=len(edges) - 2) + 1], highest + 0.05))
    _legend(figure)
    all_axes[-1].set_xlabel("cosine of image and text embedding")
    return figure


def _languages(statistics: Statistics) -> Figure:
    rows = statistics.languages[:_LANGUAGES]
    figure, (axes,) = _frame(0.75 + 0.26 * len(rows))
    _rows(axes, [row.language or NO_LANGUAGE for row in rows])
    axes.barh(range(len(rows)), [row.scored for row in rows], 0.74, color="#E8EDF2", edgecolor=QUIET, label="scored")
    axes.barh(range(len(rows)), [row.kept for row in rows], 0.46, color=KEPT, label="kept")
    widest = max((row.scored for row in rows), default=1) or 1
    for place, row in enumerate(rows):
        share = f"{100 * row.kept / row.scored:.0f} % kept" if row.scored else ""
        axes.text(row.scored + widest * 0.012, place, share, va="center", color=QUIET)
    axes.set_xlim(0, widest * 1.28)
    axes.xaxis.set_major_formatter(FuncFormatter(short_number))
    axes.set_xlabel("pairs")
    axes.legend(loc="lower right")
    return figure


def _rate_label(name: str) -> str:
    """Return the label of a measure: for an opt-out, the name of its signal."""
    signal = name.removeprefix("opt_out_").removesuffix("_of_attempts")
    return _plain(signal if signal in SIGNALS else name)


def _safety(statistics: Statistics) -> Figure:
    shown = [rate for rate in statistics.safety if rate.count or (rate.total and reference.rates(rate.name))]
    names = list(dict.fromkeys(rate.name for rate in shown))
    figure, (axes,) = _frame(0.95 + 0.43 * max(1, len(names)))
    _rows(axes, [_rate_label(name) for name in names])
    places = {"en": -0.22, "multi": 0.0, "nolang": 0.22, ALL: 0.0}
    labelled: set[str] = set()
    for rate in statistics.safety:
        only_all = not any(other.name == rate.name and other.split != ALL for other in statistics.safety)
        if rate.name not in names or rate.rate is None or (rate.split == ALL and not only_all):
            continue
        color, marker = _SPLIT_STYLE.get(rate.split, (INK, "D"))
        place = names.index(rate.name) + places[rate.split]
        axes.plot([rate.low, rate.high], [place, place], color=color, linewidth=1.6, alpha=0.75)
        label = None if rate.split in labelled else rate.split
        labelled.add(rate.split)
        axes.plot([rate.rate], [place], marker, color=color, markersize=5.5, label=label, linestyle="none")
    reference_figures.mark_rates(axes, names, places)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("share, with 95 % interval")
    figure.legend(loc="outside upper right", ncols=5, columnspacing=1.0, handletextpad=0.2)
    return figure


def _truth(decisions: Sequence[DecisionScore]) -> Figure:
    figure, (axes,) = _frame(0.95 + 0.215 * len(decisions))
    _rows(axes, [_plain(decision.name) for decision in decisions])
    for place, decision in enumerate(decisions):
        for share, interval, color, marker, shift, label in (
            (decision.precision, decision.precision_interval, KEPT, "o", -0.14, "precision"),
            (decision.recall, decision.recall_interval, "#D55E00", "D", 0.14, "recall"),
        ):
            if share is None:
                continue
            axes.plot(interval, [place + shift] * 2, color=color, linewidth=1.4, alpha=0.7)
            name = label if not place else None
            axes.plot([share], [place + shift], marker, color=color, markersize=4.5, linestyle="none", label=name)
    axes.axvline(0.9, color=QUIET, linestyle=":", linewidth=1)
    # The axis of dots need not include zero; it begins at the lowest interval.
    lowest = min(low for decision in decisions for low, _ in (decision.precision_interval, decision.recall_interval))
    axes.set_xlim(math.floor(min(lowest, 0.85) * 10) / 10, 1.01)
    axes.set_xlabel("share (dotted: 0.9)")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def _sizes(statistics: Statistics) -> Figure:
    groups = [("px", "px, logarithmic"), ("characters", "characters of text")]
    figure, all_axes = _frame(3.6, len(groups), height_ratios=[2, 1])
    for axes, (unit, label) in zip(all_axes, groups, strict=True):
        sizes = [size for size in statistics.sizes if size.unit == unit]
        _rows(axes, [f"{size.measure}, {size.split}" for size in sizes])
        for place, size in enumerate(sizes):
            color, marker = _SPLIT_STYLE[size.split]
            low, quarter, middle, upper, high = size.percentiles
            axes.plot([low, high], [place, place], color=color, linewidth=1.2)
            axes.plot([quarter, upper], [place, place], color=color, linewidth=5, alpha=0.55, solid_capstyle="butt")
            axes.plot([middle], [place], marker, color=color, markersize=5.5)
            reference_figures.mark_sizes(axes, place + 0.32, size.measure, size.split)
        if unit == "px":
            axes.set_xscale("log", base=2)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel(label)
    return figure


def _aesthetics(statistics: Statistics) -> Figure:
    figure, (axes,) = _frame(2.8)
    _bars(axes, statistics.aesthetic)
    for level in statistics.aesthetic_levels:
        axes.axvline(level, color=INK, linestyle="--", linewidth=1.1)
    axes.set_xlabel("aesthetics score")
    _legend(figure)
    return figure
