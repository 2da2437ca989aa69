"""A question in, its answer out: experiments run, filed in MLflow and drawn: what sweep, compare and study share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from experiments import baseline, results, runs, values, versions
from laion_dask import params
from laion_dask.params import recipes
from laion_dask.storage import printable

ANSWERS: Final = Path("data") / "experiments"
"""Where answers go unless a folder is named: ignored by Git, so that asking leaves no trace in its status."""
DEMO: Final = "demo"
_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class DvcAnswer:
    """What came out of a question."""

    versions: Sequence[versions.ComparedVersion]
    rows: Sequence[results.Row]
    overlap: results.Overlap | None
    figures: Sequence[Mapping[str, Any]]


def ask(
    root: Path,
    name: str,
    wanted: Sequence[tuple[str, Mapping[str, Any]]],
    out: Path,
    *,
    key: str | None = None,
    mlflow: bool = True,
) -> DvcAnswer:
    """Run experiments of (label, changes), file them in MLflow, and write figures, table.csv and README.md to `out`.

    `key` is the one that moves, where only one does and its values are numbers: then curves are drawn along it.
    Raises what `runs.plan` and `runs.run` raise.
    """
    trials = runs.plan(root, wanted)
    found = runs.run(root, trials)
    # They bring matplotlib and pandas, 10 s on a busy machine: a question that is refused, or --help, needs neither.
    from experiments import figures, rebuild_mlflow  # noqa: PLC0415 - as said
    from laion_dask.report import tracking  # noqa: PLC0415 - as said

    rows = [results.row(version, trial.changes) for version, trial in zip(found, trials, strict=True)]
    shared = results.overlap(root, found) if len(found) > 1 else None
    out.mkdir(parents=True, exist_ok=True)
    told = figures.versions_figures(out, rows, shared, key)
    table = results.table(rows)
    results.write_csv(out / "table.csv", table)
    page = [f"# {name}", "", results.markdown(table)]
    page += [picture(figure) for figure in told]
    (out / "README.md").write_text("\n".join(page), encoding="utf-8")
    if mlflow:
        commits = [(version.rev, trial.name) for version, trial in zip(found, trials, strict=True)]
        restored = rebuild_mlflow.restore(root, commits, lambda _: None).versions
        compared = {version.name: (version.rev, restored.get(version.rev, "")) for version in found}
        tracking.log_comparison(root, name, out, compared, str(found[0].params["report"]["experiment"]))
    return DvcAnswer(found, rows, shared, told)


def picture(figure: Mapping[str, Any], folder: str = "") -> str:
    """Return a figure and its caption in Markdown."""
    return f"![{figure['title']}]({folder}{figure['name']}.png)\n\n**{figure['title']}.** {figure['caption']}\n"


def recipe(name: str, base: Mapping[str, Any], *, demo: bool) -> dict[str, Any]:
    """Return what a recipe changes in plain parameters, by dotted key; raises as `recipes.describe`.

    With `demo` the recipe of that name is laid over it: the demo's models stand in for weights that have to be fetched.
    Where there is no such recipe, the recipe's section score is left out.
    """
    stands_in = demo and DEMO in recipes.names()
    laid = recipes.apply(f"{name} {DEMO}" if stands_in else name, base)
    if demo and not stands_in:
        laid["score"] = base["score"]
    before = dict(values.flat(base))
    return {key: value for key, value in values.flat(laid) if before.get(key, ...) != value}


def show(answer: DvcAnswer, out: Path) -> None:
    """Print the table and where the figures are."""
    print(results.markdown(results.table(answer.rows)))  # noqa: T201 - this is what people read
    for figure in answer.figures:
        print(f"{figure['title']}: {out / figure['name']}.png")  # noqa: T201


@contextmanager
def told(name: str) -> Iterator[None]:
    """End errors that a user can mend in one message and status 1, Ctrl-C in status 130."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{name}: interrupted. What is finished is kept: the same command goes on from here.\n")
        sys.exit(_INTERRUPTED)
    except (
        baseline.BaselineError,
        values.ValuesError,
        runs.RunError,
        versions.ComparedVersionError,
        params.ParamsError,
        recipes.RecipeError,
    ) as error:
        sys.stderr.write(f"{name}: {printable.plain(str(error))}\n")
        sys.exit(1)
