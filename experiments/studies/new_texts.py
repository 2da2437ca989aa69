"""From texts to score: what a model learns from the same pictures with alt texts, translations or captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments import ask, figures, kept_pairs, pairs, results, runs, scales, scores, train
from experiments.kept_pairs import ALT, Kept, Texts
from experiments.studies.trained_comparison import FILTERS, SEEDS, chance, chances, size_px
from experiments.versions import ComparedVersion
from laion_dask.demo.training import translations
from laion_dask.report.figures import DROPPED, INK, KEPT

TITLE: Final = "Other texts, a better model?"
QUESTION: Final = (
    "Does a model learn more from translations, from captions or from a mix than from alt texts, of the same pictures,"
    " with the wrong alt texts among them that no filter has taken out?"
)
TEXTS: Final[Sequence[Texts]] = (ALT, Texts("translation"), Texts("caption"), Texts("mix", 0.5))
# Captions help where alt texts are wrong, and behind a filter hardly any is.
ASKED: Final = FILTERS[:1]
_NONE: Final[Mapping[str, Any]] = ASKED[0][1]
_KINDS: Final = ",".join(texts.kind for texts in TEXTS)
COMMANDS: Final = (
    " ".join(["dvc exp run --temp -n no-filter", *(f"-S {key}={value}" for key, value in _NONE.items()), "release"]),
    f"python -m experiments.train no-filter --texts {_KINDS} --seeds {','.join(map(str, SEEDS))}",
)


def answer(root: Path, folder: Path) -> str:
    """Run the version without a filter with both stages of new texts, train on each kind of text, and compare."""
    # Up to the release, which needs both of the stages that write texts.
    found = runs.run(root, runs.plan(root, ASKED, upto="release"))
    asked = [(version, texts) for version in found for texts in TEXTS]
    kept = [kept_pairs.find(version.rev, root, f"{version.name}, {texts}", texts) for version, texts in asked]
    scale, questions = scales.load(scales.DEMO), train.asked()
    scored = train.compare(kept, scale, SEEDS, questions, root / train.OUT / "runs")
    scores.write(folder, scored, scale, questions.sha256)
    train.file(scored, scale, questions, folder)
    figure = {
        "name": "scores",
        "title": "Zero-shot scores by text",
        "caption": f"A mark is one model, {len(SEEDS)} seeds each; upright line and number: their mean; bar: one"
        f" standard deviation to each side. Chance is {chance(questions)}.",
    }
    shares = [_right(root, version, texts) for version, texts in asked]
    figures.draw(folder / "right", lambda: _figure([str(texts) for _, texts in asked], shares))
    rows = given(kept, shares)
    results.write_csv(folder / "given.csv", rows)
    told = {f"chance of {what}": share for what, share in chances(questions).items()}
    results.write_numbers(folder, {**told, "side of a picture in pixels": size_px()})
    right = {
        "name": "right",
        "title": "What the models were given",
        "caption": "Pairs whose text names the thing and the color of the picture, by the labels of the demo's crawl.",
    }
    parts = [
        ask.picture(figure, f"{folder.name}/"),
        ask.picture(right, f"{folder.name}/"),
        results.markdown(rows),
        scores.markdown(scored),
        text(scored, scale),
    ]
    return "\n\n".join(parts)


def _right(root: Path, version: ComparedVersion, texts: Texts) -> float:
    """Return the share of the pairs with a label whose text names thing and color of the picture."""
    new = kept_pairs.new_texts(version.rev, root, texts)
    with pairs.of(root, version) as database:
        rows = database.execute(
            "select uid, matching, thing, color from pairs where verdict = 'keep' and matching is not null"
        ).fetchall()
    return share_right(rows, new)


def share_right(rows: Sequence[tuple[str, bool, str, str]], new: Mapping[str, str]) -> float:
    """Return the share of right texts of (uid, whether the alt text is right, thing, color), given the new texts."""
    right = 0
    for uid, matching, thing, color in rows:
        if uid in new:
            said = translations.named(new[uid])
            right += said["thing"] == {thing} and said["color"] == {color}
        else:
            right += matching
    return right / len(rows)


def _figure(names: Sequence[str], shares: Sequence[float]) -> Figure:
    made = Figure(figsize=(7.9, 0.9 + 0.4 * len(names)))
    axes = made.subplots()
    axes.barh(range(len(names)), shares, height=0.6, color=[DROPPED if name == str(ALT) else KEPT for name in names])
    for place, share in enumerate(shares):
        axes.text(share - 0.01, place, f"{share:.1%}", ha="right", va="center", color="white", fontsize=8.5)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_title("Pairs with a right text", color=INK)
    axes.grid(axis="x")
    return made


def given(kept: Sequence[Kept], shares: Sequence[float]) -> list[dict[str, Any]]:
    """Return a row for each model: pairs, those with a new text, and the share whose text is right."""
    return [
        {
            "model trained on": one.name,
            "pairs": one.pairs,
            "of them with a new text": sum(map(len, one.texts.values())),
            "share of texts that name thing and color of the picture": round(share, 6),
        }
        for one, share in zip(kept, shares, strict=True)
    ]


def text(scored: Sequence[scores.Scored], scale: scales.Scale) -> str:
    """Return the answer: of each filter and kind of text how far it is above the alt texts of the same filter."""
    groups = [scored[first : first + len(TEXTS)] for first in range(0, len(scored), len(TEXTS))]
    verdicts, told = [], []
    for (name, _), group in zip(ASKED, groups, strict=True):
        shown: list[str] = [score for score in scores.MAIN if score in group[0].names]
        said = []
        for texts, one in zip(TEXTS[1:], group[1:], strict=True):
            found = {score: scores.difference(group[0], one, score) for score in shown}
            said.append(f"{texts}: {_verdict(found)}")
            told += [f"- {one.kept.name} against alt texts, {score}: {each}" for score, each in found.items()]
        verdicts.append(f"With {name}, beside alt texts: {'; '.join(said)}.")
    lines = "\n".join(told)
    return f"""## Answer

{" ".join(verdicts)} All models see {scale.steps * scale.batch:,} pairs. A pair without a translation or caption has its
alt text; in the mix the uid decides whether a pair has its caption. Differences are over {len(SEEDS)} seeds, with the
95 % interval of a paired t-test, because models of one seed start with the same weights:

{lines}

**What this does not say.** The questions are English, the alt texts in eight languages: translations and captions
make all texts English, which helps here by itself. The captioner and the CLIP that ranks its captions were trained on
such drawings and are almost always right; on the web they are not, and captions say less than people do. Behind a
filter hardly any alt text is wrong, and captions have less to repair: that is not asked here. The models are small
({scale.steps:,} steps of {scale.batch} pairs, pictures of {size_px()} pixels a side) and far from their best possible
scores. For more certainty, give more seeds (`--seeds`); `--caption-share` changes the mix. DataComp's scales
(`--scale small`, `medium`) answer the same question on a real crawl, on a GPU.

Every score of every seed: [scores.csv](new_texts/scores.csv); with recipe, filter and digest of the questions:
[scores.json](new_texts/scores.json).
"""


def _verdict(found: Mapping[str, scores.Difference]) -> str:
    """Say by which scores a kind of text is above the alt texts, or below, by more than chance."""
    above = [score for score, each in found.items() if each.told and each.value > 0]
    below = [score for score, each in found.items() if each.told and each.value < 0]
    words = [f"better by {' and '.join(above)}"] if above else []
    words += [f"worse by {' and '.join(below)}"] if below else []
    return ", ".join(words) or "no difference beyond chance"
