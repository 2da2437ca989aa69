"""Names of versions in, what a model learns from each out: `python -m experiments.train`."""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from experiments import ask, held_out, kept_pairs, scales, scores
from laion_dask.shards import ShardError

HELP: Final = """Train the same model on what each version keeps, and score it: filter in, zero-shot score out.

A version is a folder like data (download/ beside filter/ or release/), a tag or commit, or a DVC experiment. All are
trained from nothing by one recipe, at equal samples seen, once for each seed; the same seed gives the same weights.

\b
--scale demo                 51,200 samples, the demo's small CLIP: minutes on 2 cores
--scale small, medium        DataComp's, on one GPU; large and xlarge are open_clip's own work on many
--held-out FOLDER            classification/ and retrieval/ in clip_benchmark's webdataset layout; without it the
                             demo's is drawn, with pictures that no crawl of the demo has

\b
dvc exp run --temp -n no-similarity -S filter.similarity.en=-1 -S filter.similarity.multi=-1 \\
    -S filter.similarity.nolang=-1
python -m experiments.train no-similarity data

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
    samples: Annotated[int | None, typer.Option(min=1, help="Pairs seen, in the place of the scale's.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode; part of what makes a run equal.")] = 0,
    mlflow: Annotated[bool, typer.Option(help="File the scores in MLflow.")] = True,  # noqa: FBT002 - a flag
) -> None:
    """Train and score every version."""
    with ask.told("train"):
        try:
            _train(names or ["data"], scales.load(scale, samples), _seeds(seeds), held, out, workers, mlflow=mlflow)
        except (scales.ScaleError, kept_pairs.PairsError, held_out.HeldOutError, ShardError) as error:
            sys.exit(f"train: {error}")


def _seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise scales.ScaleError(f"--seeds {text!r} is not whole numbers. Remedy: such as 1,2,3")
    return list(dict.fromkeys(int(part) for part in parts))


def _train(
    names: list[str], scale: scales.Scale, seeds: list[int], held: Path | None, out: Path, workers: int, *, mlflow: bool
) -> None:
    if held is None and scale.name != scales.DEMO:
        raise scales.ScaleError(
            f"{scale.name} is not scored by drawn shapes. Remedy: --held-out with a set of clip_benchmark's, such as "
            "wds_imagenet1k"
        )
    found = [kept_pairs.find(name, Path.cwd()) for name in names]
    # All are checked before the first one is trained.
    from experiments import trained, zero_shot  # noqa: PLC0415 - as ask does: a refusal needs neither

    for kept in found:
        trained.check(kept, scale)
    with tempfile.TemporaryDirectory() as folder:
        questions = held_out.read(held or held_out.draw(Path(folder)))
    scored = []
    for kept in found:
        each = {}
        for seed in seeds:
            label = f"{kept.name}, seed {seed}"
            known = out / "runs" / f"{_digest(kept, scale, questions, workers)}-{seed}.json"
            if known.is_file():
                each[seed] = json.loads(known.read_text(encoding="utf-8"))
                continue
            done = trained.fit(kept, scale, seed, workers=workers, say=partial(_step, label))
            each[seed] = zero_shot.evaluate(done.model, done.tokenizer, done.transform, questions)
            known.parent.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(each[seed], indent=2) + "\n", encoding="utf-8")
            _say(f"{label}: " + ", ".join(f"{name} {value:.3f}" for name, value in each[seed].items()))
        scored.append(scores.Scored(kept, each))
    scores.write(out, scored, scale, questions.sha256)
    if mlflow:
        _file(scored, scale, questions, out)
    typer.echo(scores.markdown(scored))
    typer.echo(f"{out / 'scores.png'}, scores.csv, scores.json")


def _digest(kept: kept_pairs.Kept, scale: scales.Scale, questions: held_out.HeldOut, workers: int) -> str:
    """Digest all that decides a run but the seed: kept pairs, recipe, questions, and how the order is drawn."""
    import hashlib  # noqa: PLC0415 - only here

    # The keys say which pairs of the shards, their sizes which shards.
    content = [
        {shard: sorted(keys) for shard, keys in kept.keys.items()},
        {shard: path.stat().st_size for shard, path in kept.tars.items()},
        scale.model_dump(),
        questions.sha256,
        workers,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _file(scored: list[scores.Scored], scale: scales.Scale, questions: held_out.HeldOut, out: Path) -> None:
    from laion_dask import tracking  # noqa: PLC0415 - mlflow, seconds

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
