"""Scores of versions by seed in, what is read of them out: mean and spread, scores.csv, scores.json, and a figure."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from experiments.kept_pairs import SHOWN, Kept
from experiments.scales import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAIN: Final = ("acc1", "image_retrieval_recall@1", "text_retrieval_recall@1")
"""Those that the figure and the table show, where they were asked."""


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


def apart(one: Scored, other: Scored, score: str) -> tuple[float, float]:
    """Return how far the mean of the second is above the first's, and the standard error of that difference."""
    (low, low_sd), (high, high_sd) = one.spread(score), other.spread(score)
    return high - low, (low_sd**2 / len(one.each) + high_sd**2 / len(other.each)) ** 0.5


def write(out: Path, scored: Sequence[Scored], scale: Scale, held_out: str) -> None:
    """Write scores.csv (a row for each version and seed), scores.json (all of it, with mean and sd) and the figure."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [
            {"version": one.kept.name, **one.filter_numbers(), "scale": scale.name, "seed": seed, **scores}
            for one in scored
            for seed, scores in one.each.items()
        ]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
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
    """Draw a dot for each seed and a line for the mean, version beside version, one panel a score."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - as above

    from laion_dask.figures import DROPPED, KEPT  # noqa: PLC0415 - as above

    shown = [name for name in MAIN if name in scored[0].names]
    made = Figure(figsize=(2.6 * len(shown) + 0.6, 3.2))
    panels = made.subplots(1, len(shown), squeeze=False)[0]
    for axes, name in zip(panels, shown, strict=True):
        for place, one in enumerate(scored):
            values = [scores[name] for scores in one.each.values()]
            color, marker = ((DROPPED, "s"), (KEPT, "o"))[min(place, 1)]
            axes.plot([place] * len(values), values, marker, color=color, markersize=6, alpha=0.75)
            mean, sd = one.spread(name)
            axes.errorbar(place + 0.16, mean, sd, fmt="_", color=color, markersize=14, capsize=4)
        axes.set_title(name.replace("_retrieval_recall@", " retrieval R@"))
        axes.set_xticks(range(len(scored)), [f"{Path(one.kept.name).name}\n{one.kept.pairs:,} pairs" for one in scored])
        axes.set_xlim(-0.5, len(scored) - 0.4)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.grid(axis="y")
    return made
