"""Draw the figure beside the card: an SVG whose bytes depend on the numbers alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.release.composition import BIN, STEPS
from laion_dask.schema.values import SPLITS

FOLDER: Final = "figures"
# Okabe and Ito's colors, and a line style for each split, to be readable without color.
_LINES: Final = {"en": ("#0072B2", "-"), "multi": ("#D55E00", "--"), "nolang": ("#009E73", ":")}
_STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "laion_dask",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def write(out: Path, numbers: Mapping[str, Any], settings: params.Params) -> list[tuple[str, str]]:
    """Draw the scores of the kept pairs into `figures/scores.svg`; return (path, alternative text) of each figure.

    `numbers` come from `composition.measure`; without scores nothing is drawn.
    """
    if not any(numbers["scores"].get(name) for name in ("similarity", "aesthetic")):
        return []
    # matplotlib takes a second to import, and a release without pairs does not need it.
    from matplotlib import rc_context  # noqa: PLC0415 - see above
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.6))
        panels = figure.subplots(1, 2)
        for panel, name in zip(panels, ("similarity", "aesthetic"), strict=True):
            _histogram(panel, numbers["scores"].get(name, {}), BIN[name])
            panel.set_xlabel(name)
            panel.set_ylabel("share of the split's pairs")
        for split, (color, line) in _LINES.items():
            panels[0].axvline(getattr(settings.filter.similarity, split), color=color, linestyle=line, linewidth=0.6)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(_LINES))
        path = out / FOLDER / "scores.svg"
        path.parent.mkdir(exist_ok=True)
        # Without a date, so that the same numbers give the same bytes.
        figure.savefig(path, metadata={"Date": None, "Creator": None})
    return [
        (
            f"{FOLDER}/scores.svg",
            "Distribution of similarity and aesthetic scores over the kept pairs by split; thin lines: thresholds",
        )
    ]


def _histogram(panel: Any, score: Mapping[str, Any], width: int) -> None:  # noqa: ANN401 - matplotlib's axes
    for split in SPLITS:
        if split in score:
            counts = {round(float(edge) * STEPS): rows for edge, rows in score[split]["histogram"].items()}
            # Empty bins at both ends and in gaps, so that the line returns to zero.
            edges = range(min(counts) - width, max(counts) + 2 * width, width)
            shares = [counts.get(edge, 0) / score[split]["pairs"] for edge in edges]
            color, line = _LINES[split]
            panel.plot([edge / STEPS for edge in edges], shares, line, color=color, label=split, drawstyle="steps-post")
    panel.set_ylim(bottom=0)
