"""Names of recipes in, one experiment for each and their figure out: `python -m experiments.compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from experiments import ask
from laion_dask import params

HELP: Final = """Build the dataset by several recipes, and draw what each keeps beside the others.

Each recipe becomes one DVC experiment, run in a copy of the project: params.yaml, data/ and `git status` stay as they
are. A recipe that changes extract or download runs all stages behind it, which takes minutes on the demo; one that
changes filter alone runs filter, release and report.

The name `params` stands for params.yaml as it is. On the demo the demo's CLIP scores in place of the weights that a
recipe names, unless --scores is given: its similarities have another scale.

\b
python -m experiments.compare params laion-5b laion-5b-as-run
python -m experiments.compare laion-400m datacomp --out answers/

Ctrl-C ends it; the same command goes on where it was, for experiments that are there are not run again.

Results: one line a version, what they keep in common as matrix and UpSet figure, table.csv, README.md, and MLflow runs
to compare.
"""
BASE: Final = "params"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(help=HELP)
def main(
    names: Annotated[list[str], typer.Argument(metavar="RECIPE...", help="As `laion-dask recipes` lists them.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the results; data/experiments/NAME without it.")] = None,
    scores: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--scores", help="On the demo too: score with the models that the recipe names.")
    ] = False,
    mlflow: Annotated[bool, typer.Option(help="File versions and figures in MLflow.")] = True,  # noqa: FBT002 - a flag
) -> None:
    """Run every recipe and write the answer."""
    with ask.told("compare"):
        settings = params.load()
        base, demo = settings.model_dump(mode="json"), settings.crawl.source == ask.DEMO and not scores
        wanted = [(name, {} if name == BASE else ask.recipe(name, base, demo=demo)) for name in names]
        title = " ".join(names)
        folder = out or ask.ANSWERS / "-".join(["compare", *names])
        ask.show(ask.ask(Path.cwd(), title, wanted, folder, mlflow=mlflow), folder)


if __name__ == "__main__":
    app()
