"""Keys of params.yaml with values in, an experiment for each combination out: `python -m experiments.sweep`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from experiments import ask, values

HELP: Final = """Try values of one or more parameters, and draw what they do to the dataset.

Each value becomes one DVC experiment, run in a copy of the project: params.yaml, data/ and `git status` stay as they
are. For a parameter of filter only filter, release and report run.

\b
VALUES  0.20:0.40:0.02      a range; its end belongs to it
        0.2,0.25,0.3        a list
        drop,keep           any YAML values; lists in brackets: [a],[a,b]
KEY     filter.max_punsafe  a parameter, as `laion-dask params` prints it
        KEY+KEY             these take the same value together

More pairs of KEY VALUES make a grid: every combination is run. All are checked before the first one begins.

\b
python -m experiments.sweep filter.similarity.en 0.20:0.40:0.02
python -m experiments.sweep filter.similarity.en+filter.similarity.multi 0.2,0.3 filter.max_punsafe 0.3,0.5

Ctrl-C ends it; the same command goes on where it was, for experiments that are there are not run again.

Results: curves (or one line a version), overlap of what is kept, table.csv, README.md, and MLflow runs to compare.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def moving(words: Sequence[str]) -> str | None:
    """Return the one key whose values are numbers, if it is the only one that moves: curves are drawn along it."""
    axes = {key: values.read(word) for key, word in zip(words[::2], words[1::2], strict=True)}
    several = [key for key, axis in axes.items() if len(axis) > 1]
    numbers = all(type(value) in {int, float} for key in several for value in axes[key])
    return several[0].split("+")[0] if len(several) == 1 and numbers else None


def label(keys: Sequence[str], point: Mapping[str, Any]) -> str:
    """Name a point of a grid: the short names of its keys (as typed, joined by +) with their values."""
    words = []
    for joined in keys:
        several = joined.split("+")
        parts = [key.split(".") for key in several]
        same = [name for name, *others in zip(*parts, strict=False) if all(other == name for other in others)]
        name = same[-1] if len(several) > 1 and same else ".".join(parts[0][-2:])
        words.append(f"{name}={point[several[0]]}")
    return " ".join(words)


@app.command(help=HELP)
def main(
    words: Annotated[list[str], typer.Argument(metavar="KEY VALUES [KEY VALUES]...", help="As above.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the results; data/experiments/NAME without it.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call it; made of the keys without it.")] = None,
    mlflow: Annotated[bool, typer.Option(help="File versions and figures in MLflow.")] = True,  # noqa: FBT002 - a flag
) -> None:
    """Run every combination and write the answer."""
    with ask.told("sweep"):
        points = values.grid(words)
        title = name or "sweep " + " ".join(words)
        folder = out or ask.ANSWERS / re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-")
        wanted = [(label(words[::2], point), point) for point in points]
        answer = ask.ask(Path.cwd(), title, wanted, folder, key=moving(words), mlflow=mlflow)
        ask.show(answer, folder)


if __name__ == "__main__":
    app()
