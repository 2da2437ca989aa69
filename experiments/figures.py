"""Rows of numbers and overlaps in, figures out: PNG and SVG with the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.results import SPLITS, Overlap, Row
from laion_dask.report import reference
from laion_dask.report.figures import DROPPED, INK, KEPT, LINE, QUIET, STYLE, save

_SPLIT_STYLE: Final = {"en": ("#0072B2", "o"), "multi": ("#D55E00", "s"), "nolang": ("#009E73", "^")}
_SAFETY_STYLE: Final = {"unsafe_of_kept": ("#D55E00", "o"), "watermark_of_kept": ("#56B4E9", "s")}
_PERCENT: Final = FuncFormatter(lambda value, _: f"{100 * value:.0f} %")
_FINE: Final = FuncFormatter(lambda value, _: f"{100 * value:g} %")
_COUNT: Final = FuncFormatter(lambda value, _: f"{value:,.0f}")
# Marks of one version stand this far above and below its line: equal values would hide each other on it.
_APART: Final = 0.16
# An UpSet figure with more columns than this is no longer read.
_SETS_SHOWN: Final = 14
# Above this a field is too dark for dark letters.
_DARK: Final = 0.8
# Of one letter of a label, in inches.
_CHAR_IN: Final = 0.08


def draw(stem: Path, make: Callable[[], Figure]) -> Path:
    """Draw and write `<stem>.png` and `<stem>.svg`; returns the second."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        return save(make(), stem)


def curve(rows: Sequence[Row], key: str) -> Figure:
    """Draw what happens along one number: kept share by split, precision and recall, safety of what is kept."""
    figure = Figure(figsize=(6.4, 7.2))
    shares, truth, safety = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 2])
    x = [float(row.changes[key]) for row in rows]
    for split in SPLITS:
        color, marker = _SPLIT_STYLE[split]
        _line(shares, x, [row.share_of[split] for row in rows], color, marker, split)
    shares.set_title("Kept, of downloaded")
    for name, values, color, marker in (
        ("precision", [row.precision for row in rows], KEPT, "o"),
        ("recall", [row.recall for row in rows], "#D55E00", "D"),
    ):
        _line(truth, x, values, color, marker, name)
    truth.set_title("Kept pairs against the labels")
    for name, (color, marker) in _SAFETY_STYLE.items():
        found = [row.safety[name] for row in rows]
        _line(safety, x, [rate and rate[0] for rate in found], color, marker, name.replace("_", " "))
        bounds = [rate or (float("nan"),) * 3 for rate in found]
        low, high = [rate[1] for rate in bounds], [rate[2] for rate in bounds]
        safety.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    safety.set_title("Safety of what is kept, with 95 % interval")
    for axes in (shares, truth, safety):
        axes.yaxis.set_major_formatter(_FINE)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y")
        axes.legend(loc="best", fontsize=8.5)
    safety.set_ylim(bottom=0)
    safety.set_xlabel(", ".join(_together(rows, key)))
    return figure


def _together(rows: Sequence[Row], key: str) -> list[str]:
    """Return the keys that move with `key`: those that have its value in every row."""
    return [name for name in rows[0].changes if all(row.changes.get(name) == row.changes[key] for row in rows)]


def _line(axes: Axes, x: Sequence[float], values: Sequence[float | None], color: str, marker: str, label: str) -> None:
    points = [(place, value) for place, value in zip(x, values, strict=True) if value is not None]
    axes.plot(
        *zip(*points, strict=True), color=color, marker=marker, markersize=5, linewidth=1.5, label=label
    ) if points else None


def rows(found: Sequence[Row]) -> Figure:
    """Draw one line a version: kept share beside DataComp's, precision and recall, safety of what is kept."""
    margin = _CHAR_IN * max(len(row.label) for row in found)
    figure = Figure(figsize=(7.4 + margin, 1.5 + 0.5 * len(found)))
    shares, truth, safety = figure.subplots(1, 3, sharey=True)
    places = range(len(found))
    shares.set_yticks(places, [row.label for row in found])
    shares.set_ylim(len(found) - 0.4, -0.6)
    for share in reference.shares()["kept, of those downloaded"].values():
        shares.axvline(share, color=QUIET, linewidth=0.8, linestyle=":", zorder=0)
    for shift, split in zip((-_APART, 0, _APART), SPLITS, strict=True):
        color, marker = _SPLIT_STYLE[split]
        values = [row.share_of[split] for row in found]
        _dots(shares, [place + shift for place in places], values, color, marker, split)
    shares.plot([], [], color=QUIET, linewidth=0.8, linestyle=":", label="DataComp's filters")
    shares.set_title("Kept, of downloaded")
    above, below = ([place + shift for place in places] for shift in (-_APART / 2, _APART / 2))
    _dots(truth, above, [row.precision for row in found], KEPT, "o", "precision")
    _dots(truth, below, [row.recall for row in found], "#D55E00", "D", "recall")
    truth.set_title("Against the labels")
    for shift, (name, (color, marker)) in zip((-_APART, _APART), _SAFETY_STYLE.items(), strict=True):
        for place, row in zip(places, found, strict=True):
            rate = row.safety[name]
            if rate:
                safety.plot(rate[1:], [place + shift] * 2, color=color, linewidth=1.3, alpha=0.7)
        values = [(rate := row.safety[name]) and rate[0] for row in found]
        _dots(safety, [place + shift for place in places], values, color, marker, name.replace("_", " "))
    safety.set_title("Safety of what is kept")
    for axes in (shares, truth, safety):
        axes.xaxis.set_major_formatter(_PERCENT)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y")
        axes.tick_params(axis="y", length=0)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12 - 0.5 / len(found)), ncols=2, fontsize=8)
    safety.xaxis.set_major_formatter(_FINE)
    shares.set_xlim(0, 1.03)
    truth.set_xlim(0, 1.03)
    safety.set_xlim(left=0)
    return figure


def _dots(
    axes: Axes, places: Sequence[float], values: Sequence[float | None], color: str, marker: str, label: str
) -> None:
    points = [(value, place) for place, value in zip(places, values, strict=True) if value is not None]
    if points:
        axes.plot(*zip(*points, strict=True), marker, color=color, markersize=5.5, linestyle="none", label=label)


def matrix(found: Overlap) -> Figure:
    """Draw how much of what two versions keep is the same, for each two: pairs in both, of pairs in either."""
    size = len(found.labels)
    margin = _CHAR_IN * max(map(len, found.labels))
    figure = Figure(figsize=(1.3 + margin + 0.52 * size, 1.0 + 0.7 * margin + 0.46 * size))
    axes = figure.subplots()
    values = [[found.jaccard(one, other) for other in range(size)] for one in range(size)]
    lowest = min(map(min, values))
    axes.imshow(values, cmap="Blues", vmin=min(lowest, 0.5), vmax=1.15)
    for one in range(size):
        for other in range(size):
            text = f"{100 * values[one][other]:.0f}" if size > 1 else ""
            color = "white" if values[one][other] > _DARK else INK
            axes.text(other, one, text, ha="center", va="center", fontsize=8.5, color=color)
    axes.set_xticks(range(size), found.labels, rotation=40, ha="right", fontsize=8.5)
    axes.set_yticks(range(size), found.labels, fontsize=8.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title("Pairs in both, % of pairs in either")
    return figure


def upset(labels: Sequence[str], exactly: Mapping[tuple[int, ...], int], counts: Sequence[int], unit: str) -> Figure:
    """Draw which sets overlap: a column for each combination, its bar the rows that are in exactly these sets.

    `exactly` counts rows by the places of their sets in `labels`, `counts` all rows of each set.
    """
    shown = sorted(exactly.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in shown[_SETS_SHOWN:])
    shown = shown[:_SETS_SHOWN]
    margin = _CHAR_IN * max(map(len, labels))
    figure = Figure(figsize=(2.4 + margin + 0.42 * max(len(shown), 6), 2.6 + 0.27 * len(labels)))
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 2.4], height_ratios=[2.2, 0.27 * len(labels) + 0.3])
    bars, dots, totals = figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, 1]), figure.add_subplot(grid[1, 0])
    columns = range(len(shown))
    alone = [len(sets) == 1 for sets, _ in shown]
    bars.bar(columns, [count for _, count in shown], 0.62, color=[DROPPED if one else KEPT for one in alone])
    highest = max((count for _, count in shown), default=1)
    for column, (_, count) in enumerate(shown):
        bars.text(column, count + 0.015 * highest, f"{count:,}", ha="center", va="bottom", fontsize=8)
    bars.set_title(f"{unit} in exactly the marked sets" + (f" ({rest:,} more not shown)" if rest else ""))
    bars.set_xticks([])
    # Room for the number on the highest bar, below the title.
    bars.set_ylim(0, 1.12 * highest or 1)
    bars.yaxis.set_major_formatter(_COUNT)
    bars.set_xlim(-0.6, max(len(shown), 1) - 0.4)
    bars.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bars.grid(axis="y")
    for column, (sets, _) in enumerate(shown):
        dots.plot([column] * len(labels), range(len(labels)), "o", color=LINE, markersize=6)
        dots.plot([column] * len(sets), sets, "o-", color=DROPPED if len(sets) == 1 else KEPT, markersize=6, lw=1.6)
    dots.set_xlim(bars.get_xlim())
    dots.set_ylim(len(labels) - 0.4, -0.6)
    dots.set_xticks([])
    dots.set_yticks([])
    totals.barh(range(len(labels)), counts, 0.6, color=QUIET)
    widest = max(counts, default=1) or 1
    for place, count in enumerate(counts):
        totals.text(count + 0.02 * widest, place, f"{count:,}", va="center", ha="right", fontsize=8)
    totals.set_xlim(widest * 1.35, 0)
    totals.set_ylim(dots.get_ylim())
    totals.set_yticks(range(len(labels)), labels, fontsize=8.5)
    totals.set_xticks([])
    totals.set_title(f"All {unit.lower()} of a set", loc="right", fontsize=8.5)
    for axes in (dots, totals):
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(length=0)
    return figure


def versions_figures(out: Path, found: Sequence[Row], shared: Overlap | None, key: str | None) -> list[dict[str, Any]]:
    """Draw everything that a comparison shows into `out`; returns name, title and caption of each figure."""
    told: list[dict[str, Any]] = []
    if key is not None:
        draw(out / "curve", lambda: curve(found, key))
        told.append(
            {
                "name": "curve",
                "title": f"Along {', '.join(_together(found, key))}",
                "caption": "Where recall falls with the kept share, the rule drops good pairs; where precision stops "
                "rising, it has nothing left to drop.",
            }
        )
    else:
        draw(out / "versions", lambda: rows(found))
        told.append(
            {
                "name": "versions",
                "title": "Version by version",
                "caption": "Dotted: what DataComp's filters kept of their pool. A version further left keeps less; "
                "it is better only if precision or safety improved as well.",
            }
        )
    if shared is not None and len(found) > 1:
        draw(out / "overlap", lambda: matrix(shared))
        told.append(
            {
                "name": "overlap",
                "title": "What they keep in common",
                "caption": f"Pairs are the same by {shared.identity}. A pale field: the two versions keep different "
                "pairs, even if they keep as many.",
            }
        )
        if len(found) <= 8:
            counts = [shared.shared[place][place] for place in range(len(found))]
            draw(out / "sets", lambda: upset(shared.labels, shared.exactly, counts, "Pairs"))
            told.append(
                {
                    "name": "sets",
                    "title": "Kept by exactly these versions",
                    "caption": "Orange columns: pairs that only one version keeps. A version without one adds nothing.",
                }
            )
    return told
