"""Scores of versions by seed in, what is read of them out: mean and spread, scores.csv, scores.json, and a figure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from experiments.kept_pairs import SHOWN, Kept
from experiments.scales import Scale
from laion_dask.storage import sheets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAIN: Final = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")
"""Those that the figure and the table show, where they were asked."""
_TITLES: Final = {
    "acc1": "Classification",
    "image_retrieval_recall@1": "Image from text",
    "text_retrieval_recall@1": "Text from image",
}


@dataclass(frozen=True, slots=True)
class Scored:
    """One version with the scores of each seed."""

    kept: Kept
    each: Mapping[int, Mapping[str, float]]
    """By seed: the scores by name."""

    def spread(self, score: str) -> tuple[float, float]:
        """Return mean and standard deviation (of a sample: n - 1) over the seeds; 0 for one seed."""
        values = [scores[score] for scores in self.each.values()]
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    @property
    def names(self) -> list[str]:
        """Every score that each seed has."""
        return list(next(iter(self.each.values())))

    def filter_numbers(self) -> dict[str, Any]:
        """Return what the filter did, under the names of scores.csv."""
        return {
            "kept": self.kept.pairs,
            **{f"filter.{key}": self.kept.parameter(key) for key in SHOWN},
            "dropped.low_similarity": self.kept.dropped.get("low_similarity", 0),
        }


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a version's mean is above another's, with its 95 % interval; NaN where one seed leaves no spread."""

    value: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether the interval is on one side of zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """Say it in percentage points."""
        if self.low != self.low:
            return f"{100 * self.value:+.1f} points; one seed says nothing of chance"
        words = "" if self.told else ", which may be chance"
        return f"{100 * self.value:+.1f} points (95 %: {100 * self.low:+.1f} to {100 * self.high:+.1f}{words})"


def difference(one: Scored, other: Scored, score: str) -> Difference:
    """Return how far the second is above the first, seed by seed: models of one seed begin with the same weights.

    The interval is that of the paired t-test: what a lucky beginning gives to both is no difference.
    """
    from scipy.stats import ttest_1samp  # noqa: PLC0415 - 1 s, and a refusal does not need it

    each = [other.each[seed][score] - scores[score] for seed, scores in one.each.items() if seed in other.each]
    value = statistics.fmean(each)
    if len(each) < 2:
        return Difference(value, float("nan"), float("nan"))
    if statistics.stdev(each) == 0:
        return Difference(value, value, value)
    interval = ttest_1samp(each, 0.0).confidence_interval(0.95)
    return Difference(value, float(interval.low), float(interval.high))


def differences(scored: Sequence[Scored]) -> list[str]:
    """Say of every later version and main score how far it is above the first version."""
    shown = [name for name in MAIN if name in scored[0].names]
    return [
        f"{one.kept.name} against {scored[0].kept.name}, {name}: {difference(scored[0], one, name)}"
        for one in scored[1:]
        for name in shown
    ]


def write(out: Path, scored: Sequence[Scored], scale: Scale, held_out: str) -> None:
    """Write scores.csv (a row for each version and seed), scores.json (all of it, with mean and sd) and the figure."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [
        {"version": one.kept.name, **one.filter_numbers(), "scale": scale.name, "seed": seed, **scores}
        for one in scored
        for seed, scores in one.each.items()
    ]
    sheets.write_flat(out / "scores.csv", rows)
    told = {"scale": scale.model_dump(), "held_out_sha256": held_out, "versions": [_told(one) for one in scored]}
    (out / "scores.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    from experiments import figures  # noqa: PLC0415 - matplotlib, seconds

    figures.draw(out / "scores", lambda: _figure(scored))


def _told(one: Scored) -> dict[str, Any]:
    scores = {}
    for name in one.names:
        mean, sd = one.spread(name)
        scores[name] = {"mean": mean, "sd": sd, "each": {str(seed): found[name] for seed, found in one.each.items()}}
    return {
        "version": one.kept.name,
        **one.filter_numbers(),
        "dropped": dict(one.kept.dropped),
        "filter": dict(one.kept.parameters),
        "scores": scores,
    }


def markdown(scored: Sequence[Scored]) -> str:
    """Return a table, a row for each version: what the filter kept, then mean and sd of each main score in percent."""
    shown = [name for name in MAIN if name in scored[0].names]
    lines = ["| " + " | ".join(["version", *scored[0].filter_numbers(), *shown]) + " |"]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for one in scored:
        cells = [one.kept.name, *("" if value is None else f"{value:,}" for value in one.filter_numbers().values())]
        cells += [f"{100 * mean:.1f} ± {100 * sd:.1f} %" for mean, sd in map(one.spread, shown)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _figure(scored: Sequence[Scored]) -> Figure:
    """Draw a line of each version: a ring for each seed, a bar from mean - sd to mean + sd, one panel a score."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415 - as above

    from laion_dask.report.figures import DROPPED, INK, KEPT  # noqa: PLC0415 - as above

    shown = [name for name in MAIN if name in scored[0].names]
    made = Figure(figsize=(1.6 + 2.1 * len(shown), 1.2 + 0.55 * len(scored)))
    panels = made.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    labels = [f"{Path(one.kept.name).name}\n{one.kept.pairs:,} pairs" for one in scored]
    panels[0].set_yticks(range(len(scored)), labels)
    panels[0].set_ylim(len(scored) - 0.5, -0.5)
    for axes, name in zip(panels, shown, strict=True):
        for place, one in enumerate(scored):
            color, marker = (KEPT, "o") if place else (DROPPED, "s")
            mean, sd = one.spread(name)
            axes.plot([mean - sd, mean + sd], [place] * 2, color=color, linewidth=5, alpha=0.25, solid_capstyle="butt")
            values = [scores[name] for scores in one.each.values()]
            axes.plot(values, [place] * len(values), marker, color=color, markersize=5.5, markerfacecolor="white")
            axes.plot([mean], [place], "|", color=color, markersize=15, markeredgewidth=2)
            axes.annotate(
                f"{100 * mean:.1f}", (mean, place), (0, 10), textcoords="offset points", ha="center", fontsize=8.5,
                color=INK,
            )  # fmt: skip
        axes.set_title(_TITLES.get(name, name))
        axes.set_xlim(left=0)
        axes.margins(x=0.12)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x")
    return made
