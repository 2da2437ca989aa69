"""From filter to score: what a model learns from the same pairs, filtered and not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments import ask, figures, held_out, kept_pairs, pairs, results, runs, scales, scores, train
from experiments.versions import ComparedVersion
from laion_dask.report.figures import DROPPED, INK, KEPT, QUIET

TITLE: Final = "A better filter, a better model"
QUESTION: Final = (
    "Does a model learn more from the pairs that the filter keeps than from all downloaded pairs, if it sees equally"
    " many samples, but fewer different pairs?"
)
SPLITS: Final = ("en", "multi", "nolang")
SEEDS: Final = (1, 2, 3, 4, 5)
_NONE: Final = {
    **{f"filter.similarity.{split}": -1.0 for split in SPLITS},
    "filter.min_side_px": 0,
    "filter.max_aspect_ratio": 1000.0,
    "filter.max_punsafe": 1.0,
    "filter.max_pwatermark": 1.0,
    "filter.duplicate_images": "keep",
    "filter.near_duplicates": "keep",
}
FILTERS: Final[Sequence[tuple[str, Mapping[str, Any]]]] = (("no filter", _NONE), ("the demo's filter", {}))
COMMANDS: Final = (
    " ".join(["dvc exp run --temp -n no-filter", *(f"-S {key}={value}" for key, value in _NONE.items()), "filter"]),
    f"python -m experiments.train no-filter data --seeds {','.join(map(str, SEEDS))}",
)
# Labels of the demo, in the order in which the figure lays them side by side.
_KINDS: Final = {"right text": KEPT, "right text, but marked": "#56B4E9", "wrong text": DROPPED, "no label": QUIET}
# Of the longest bar: a part that is wider has room for its number.
_WIDE: Final = 0.06


def answer(root: Path, folder: Path) -> str:
    """Run the filters, train on what each keeps, and draw what each keeps beside what was learned of it."""
    found = runs.run(root, runs.plan(root, FILTERS, upto="filter"))
    kept = [kept_pairs.find(version.rev, root, version.name) for version in found]
    scale, questions = scales.load(scales.DEMO), train.asked()
    scored = train.compare(kept, scale, SEEDS, questions, root / train.OUT / "runs")
    scores.write(folder, scored, scale, questions.sha256)
    train.file(scored, scale, questions, folder)
    kinds = {version.name: _kinds(root, version) for version in found}
    figures.draw(folder / "kept", lambda: _figure(kinds))
    results.write_numbers(folder, numbers(questions, kinds))
    parts = [
        ask.picture(
            {
                "name": "scores",
                "title": "Zero-shot scores by filter",
                "caption": f"A mark is one model, {len(SEEDS)} seeds each; upright line and number: their mean; bar:"
                f" one standard deviation to each side. Chance is {chance(questions)}.",
            },
            f"{folder.name}/",
        ),
        scores.markdown(scored),
        ask.picture(
            {
                "name": "kept",
                "title": "What the models were given",
                "caption": "Pairs that each filter keeps, by the labels of the demo's crawl. Marked: a picture with a"
                " watermark, or with the mark that stands for unsafe.",
            },
            f"{folder.name}/",
        ),
        _text(scored, scale, kinds),
    ]
    return "\n\n".join(parts)


def numbers(questions: held_out.HeldOut, kinds: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Return what the prose says beside the scores."""
    return {
        **{f"chance of {what}": share for what, share in chances(questions).items()},
        **{f"pairs with {kind}, {name}": count for name, counts in kinds.items() for kind, count in counts.items()},
        **{f"share of pairs with a wrong text, {name}": _wrong(counts) for name, counts in kinds.items()},
        "side of a picture in pixels": size_px(),
    }


def _wrong(counts: Mapping[str, int]) -> float:
    return counts.get("wrong text", 0) / sum(counts.values())


def chances(questions: held_out.HeldOut) -> dict[str, float]:
    """Return what scores a model has that knows nothing."""
    found = {}
    if questions.classification is not None:
        found["classification"] = 1 / len(questions.classification.classes)
    if questions.retrieval is not None:
        found["retrieval"] = 1 / len(questions.retrieval.pictures)
    return found


def chance(questions: held_out.HeldOut) -> str:
    """Say what scores a model has that knows nothing."""
    return " and ".join(f"{share:.1%} of {what}" for what, share in chances(questions).items())


def _kinds(root: Path, version: ComparedVersion) -> dict[str, int]:
    """Count the pairs that a version keeps by what the labels say of them."""
    with pairs.of(root, version) as database:
        rows = database.execute(
            "select case when matching is null then 'no label' when not matching then 'wrong text'"
            " when unsafe or watermark then 'right text, but marked' else 'right text' end, count(*)"
            " from pairs where verdict = 'keep' group by 1"
        ).fetchall()
    return {str(kind): int(count) for kind, count in rows}


def _figure(kinds: Mapping[str, Mapping[str, int]]) -> Figure:
    made = Figure(figsize=(7.9, 1.1 + 0.5 * len(kinds)))
    axes = made.subplots()
    for place, counts in enumerate(kinds.values()):
        left = 0
        for kind, color in _KINDS.items():
            count = counts.get(kind, 0)
            axes.barh(place, count, left=left, color=color, height=0.6, label=kind if place == 0 else None)
            if count > _WIDE * max(sum(each.values()) for each in kinds.values()):
                axes.text(left + count / 2, place, f"{count:,}", ha="center", va="center", color="white", fontsize=8.5)
            left += count
    axes.set_yticks(range(len(kinds)), list(kinds))
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_title("Pairs that each filter keeps", color=INK)
    axes.grid(axis="x")
    handles, labels = axes.get_legend_handles_labels()
    shown = [at for at, label in enumerate(labels) if any(counts.get(label) for counts in kinds.values())]
    axes.legend(
        [handles[at] for at in shown], [labels[at] for at in shown], loc="upper center", bbox_to_anchor=(0.5, -0.16),
        ncols=len(shown), fontsize=8.5,
    )  # fmt: skip
    return made


def _text(scored: Sequence[scores.Scored], scale: scales.Scale, kinds: Mapping[str, Mapping[str, int]]) -> str:
    first, last = scored[0], scored[-1]
    shown = [name for name in scores.MAIN if name in first.names]
    found = [scores.difference(first, last, name) for name in shown]
    higher = [name for name, each in zip(shown, found, strict=True) if each.told and each.value > 0]
    verdict = {
        len(shown): "Yes, by all main scores",
        0: "These seeds do not show it: no main score is higher by more than chance",
    }.get(len(higher), f"Yes by {' and '.join(higher)}, beyond chance; what the other scores say may be chance")
    wrong = {name: _wrong(counts) for name, counts in kinds.items()}
    told = "\n".join(f"- {line}" for line in scores.differences(scored))
    passes = " and ".join(f"{scale.steps * scale.batch / one.kept.pairs:.1f}" for one in scored)
    shares = " and ".join(f"{share:.1%} with {name}" for name, share in wrong.items())
    side_px = size_px()
    return f"""## Answer

{verdict}. Pairs with a wrong text: {shares}. All models see {scale.steps * scale.batch:,} pairs, so they see
each pair {passes} times. Differences are over {len(first.each)} seeds, with the 95 % interval of a paired t-test,
because models of one seed start with the same weights, and some initial weights are better than others for all
filters:

{told}

**What this does not say.** The world of the demo is drawn shapes: fourteen things in eight colors, one in each picture.
Its wrong texts are wholly wrong, and the CLIP of the filter was trained on such drawings and separates them almost
without error. On the web neither holds, and a filter gains less. The models are small ({scale.steps:,} steps of
{scale.batch} pairs, pictures of {side_px} pixels a side) and far from their best possible scores. The rules for marks,
sizes and copies protect people and storage more than scores: a marked picture has a right text. For more certainty,
give more seeds (`--seeds`). DataComp's scales (`--scale small`, `medium`) answer the same question on a real crawl, on
a GPU.

Every score of every seed: [scores.csv](trained_comparison/scores.csv); with recipe, filter and digest of the questions:
[scores.json](trained_comparison/scores.json).
"""


def size_px() -> int:
    """Return the side of the pictures that the models are trained on."""
    config = json.loads((scales.DEMO_CLIP / "open_clip_config.json").read_text(encoding="utf-8"))
    return int(config["model_cfg"]["vision_cfg"]["image_size"])
