"""Names of versions in, what a model learns from each out: `python -m experiments.train`."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final, cast

import typer

from experiments import ask, held_out, kept_pairs, scales, scores
from laion_dask.storage.shards import ShardError

HELP: Final = """Train the same model on what each version keeps, and score it: filter in, zero-shot score out.

A version is a folder like data (download/ beside filter/ or release/), a tag or commit, or a DVC experiment. All are
trained from nothing by one recipe, at equal samples seen, once for each seed; the same seed gives the same weights.

\b
--scale demo                 a small CLIP on drawn shapes: under a minute of one core a run
--scale small, medium        DataComp's, on one GPU; large and xlarge are open_clip's own work on many
--held-out FOLDER            classification/ and retrieval/ in clip_benchmark's webdataset layout; without it the
                             demo's is drawn, with pictures that no crawl of the demo has

\b
What does the similarity filter do for a model? Build the version without it, then train on both:
dvc exp run --temp -n no-similarity -S filter.similarity.en=-1 -S filter.similarity.multi=-1 \\
    -S filter.similarity.nolang=-1 filter
python -m experiments.train no-similarity data

\b
How sure is it? More seeds; the spread is printed, and whether the difference is more than chance:
python -m experiments.train no-similarity data --seeds 1,2,3,4,5

\b
Do captions teach more than alt texts? A model for each kind of text, of the same pairs:
python -m experiments.train data --texts alt,translation,caption,mix --seeds 1,2,3,4,5

Results: a table; scores.csv, scores.json (seeds, mean, spread, the filter's numbers) and scores.png in --out; one
MLflow run a version. Runs that are finished are kept there: after Ctrl-C the same command goes on with the next seed.
"""
OUT: Final = ask.ANSWERS / "train"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="VERSION...", help="data, if none is named.")] = None,
    scale: Annotated[str, typer.Option(help="A recipe of experiments/scales.yaml.")] = scales.DEMO,
    seeds: Annotated[str, typer.Option(help="One run for each, separated by commas.")] = "1,2,3",
    held: Annotated[Path | None, typer.Option("--held-out", help="What is asked; drawn without it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = OUT,
    texts: Annotated[str, typer.Option(help="alt, translation, caption or mix, separated by commas.")] = "alt",
    caption_share: Annotated[float, typer.Option(min=0, max=1, help="Of mix: pairs that have their caption.")] = 0.5,
    samples: Annotated[int | None, typer.Option(min=1, help="Pairs seen, in the place of the scale's.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode; part of what makes a run equal.")] = 0,
    mlflow: Annotated[bool, typer.Option(help="File the scores in MLflow.")] = True,  # noqa: FBT002 - a flag
) -> None:
    """Train and score every version."""
    with ask.told("train"):
        try:
            kinds = [kept_pairs.Texts(cast("kept_pairs.TextKind", kind), caption_share) for kind in texts.split(",")]
            asked = [(name, kind) for name in names or ["data"] for kind in kinds]
            _train(asked, scales.load(scale, samples), _seeds(seeds), held, out, workers, mlflow=mlflow)
        except (scales.ScaleError, kept_pairs.PairsError, held_out.HeldOutError, ShardError) as error:
            sys.exit(f"train: {error}")


def _seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise scales.ScaleError(f"--seeds {text!r} is not whole numbers. Remedy: such as 1,2,3")
    return list(dict.fromkeys(int(part) for part in parts))


def _train(
    names: Sequence[tuple[str, kept_pairs.Texts]],
    scale: scales.Scale,
    seeds: list[int],
    held: Path | None,
    out: Path,
    workers: int,
    *,
    mlflow: bool,
) -> None:
    if held is None and scale.name != scales.DEMO:
        raise scales.ScaleError(
            f"{scale.name} is not scored by drawn shapes. Remedy: --held-out with a set of clip_benchmark's, such as "
            "wds_imagenet1k"
        )
    found = [kept_pairs.find(name, Path.cwd(), texts=texts) for name, texts in names]
    questions = asked(held)
    scored = compare(found, scale, seeds, questions, out / "runs", workers)
    scores.write(out, scored, scale, questions.sha256)
    if mlflow:
        file(scored, scale, questions, out)
    typer.echo(scores.markdown(scored))
    for line in scores.differences(scored):
        typer.echo(line)
    typer.echo(f"{out / 'scores.png'}, scores.csv, scores.json")


def asked(held: Path | None = None) -> held_out.HeldOut:
    """Read a held-out set; without a folder draw the demo's."""
    if held is not None:
        return held_out.read(held)
    with tempfile.TemporaryDirectory() as folder:
        return held_out.read(held_out.draw(Path(folder)))


def compare(
    found: Sequence[kept_pairs.Kept],
    scale: scales.Scale,
    seeds: Sequence[int],
    questions: held_out.HeldOut,
    done: Path,
    workers: int = 0,
) -> list[scores.Scored]:
    """Train and score every version with every seed; what lies finished in `done` is read from there.

    Raises `scales.ScaleError` for a version or scale that cannot be trained, before the first one is.
    """
    from experiments import trained, zero_shot  # noqa: PLC0415 - as ask does: a refusal needs neither

    for kept in found:
        trained.check(kept, scale)
    files = {
        (place, seed): done / f"{_digest(kept, scale, questions, workers)}-{seed}.json"
        for place, kept in enumerate(found)
        for seed in seeds
    }
    ready = sum(path.is_file() for path in files.values())
    _say(f"{len(files)} runs of {scale.steps:,} steps, {ready} of them there already")
    pictures: trained.Ready = {}
    # Seed by seed, so that what is there after Ctrl-C is a comparison already.
    for seed in seeds:
        for place, kept in enumerate(found):
            if not files[place, seed].is_file():
                label = f"{kept.name}, seed {seed}"
                model = trained.fit(kept, scale, seed, workers=workers, say=partial(_step, label), ready=pictures)
                result = zero_shot.evaluate(model.model, model.tokenizer, model.transform, questions)
                _keep(files[place, seed], result)
                _say(f"{label}: " + ", ".join(f"{name} {value:.3f}" for name, value in result.items()))
    return [
        scores.Scored(kept, {seed: json.loads(files[place, seed].read_text(encoding="utf-8")) for seed in seeds})
        for place, kept in enumerate(found)
    ]


def _keep(path: Path, result: Mapping[str, float]) -> None:
    """Write a finished run under a name that only whole files have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partly = path.with_suffix(".partial")
    partly.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    partly.replace(path)


def _digest(kept: kept_pairs.Kept, scale: scales.Scale, questions: held_out.HeldOut, workers: int) -> str:
    """Digest all that decides a run but the seed: kept pairs, recipe, model, questions, and how the order is drawn."""
    # The keys say which pairs of the shards, their sizes which shards.
    content = [
        {shard: sorted(keys) for shard, keys in kept.keys.items()},
        {shard: path.stat().st_size for shard, path in kept.tars.items()},
        scale.model_dump(),
        (scales.DEMO_CLIP / "open_clip_config.json").read_text(encoding="utf-8") if scale.model == scales.DEMO else "",
        {name: version(name) for name in ("torch", "open_clip_torch")},
        questions.sha256,
        workers,
        *([{shard: sorted(texts.items()) for shard, texts in kept.texts.items()}] if kept.texts else []),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def file(scored: Sequence[scores.Scored], scale: scales.Scale, questions: held_out.HeldOut, out: Path) -> None:
    """File the scores of each version as one run of MLflow, with the filter's parameters and counts."""
    from laion_dask.report import tracking  # noqa: PLC0415 - mlflow, seconds

    for one in scored:
        spread = {name: one.spread(name) for name in one.names}
        metrics = {
            f"zero_shot.{name}.{part}": value
            for name, pair in spread.items()
            for part, value in zip(("mean", "sd"), pair, strict=True)
        }
        metrics |= {
            f"zero_shot.{name}.seed_{seed}": value for seed, each in one.each.items() for name, value in each.items()
        }
        metrics |= {"kept": one.kept.pairs} | {f"dropped.{reason}": count for reason, count in one.kept.dropped.items()}
        values = {
            "scale": scale.model_dump(),
            "filter": dict(one.kept.parameters),
            "held_out": {"sha256": questions.sha256},
        }
        tracking.log_scores(Path.cwd(), f"{one.kept.name} at {scale.name}", metrics, values, out, "laion-dask-scores")


def _step(label: str, line: str) -> None:
    _say(f"{label}: {line}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is what people read


if __name__ == "__main__":
    app()
