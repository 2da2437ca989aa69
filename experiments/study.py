"""The name of a study in, its page with figures out: `python -m experiments.study NAME`.

A study is a module of `experiments/studies`: a title, a question, the commands that ask it by hand, and `answer`, which
runs the experiments, draws the figures and returns the rest of the page. So a page in docs/studies can always be made
again, and its numbers are those of the run that wrote it.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import typer

from experiments import ask, baseline, studies

PAGES: Final = Path("docs") / "studies"
HELP: Final = """Run a worked study again, and write its page and figures.

Without NAME all studies are listed. Experiments that are there already are not run again, so that a second run takes
seconds; Ctrl-C keeps what is finished. params.yaml, data/ and `git status` stay as they are, but for the page itself.
A page that is under Git is refused where params.yaml, removals.csv or code of a stage are not those of HEAD: commit
them, or give --out.

\b
python -m experiments.study
python -m experiments.study similarity_by_split
python -m experiments.study similarity_by_split --out /tmp/pages
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Study:
    """What a module of `experiments/studies` says of itself."""

    name: str
    title: str
    question: str
    commands: Sequence[str]
    answer: Callable[[Path, Path], str]
    """Project and folder of the figures in, Markdown with the figures' names relative to that folder's parent out."""


def names() -> list[str]:
    """Return the names of all studies, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(studies.__path__))


def load(name: str) -> Study:
    """Import one study; `KeyError` where there is none of that name."""
    if name not in names():
        raise KeyError(name)
    module = import_module(f"experiments.studies.{name}")
    return Study(name, module.TITLE, module.QUESTION, module.COMMANDS, module.answer)


def write(root: Path, study: Study, out: Path) -> Path:
    """Run a study and write `<out>/<name>.md`, its figures and tables in `<out>/<name>/`; returns the page.

    The page names the parameters that it started from. Raises `baseline.BaselineError` before anything runs if a page
    under Git would get numbers of other parameters, removals or code than HEAD's; and before the page is written if
    they have changed while the study ran.
    """
    started = baseline.read(root)
    baseline.refuse_other_parameters(root, out / f"{study.name}.md", started)
    body = study.answer(root, out / study.name)
    baseline.refuse_a_change(root, started)
    commands = "\n".join(study.commands)
    for file in (out / study.name).glob("*.svg"):
        file.unlink()  # pages show the PNG; the other is drawn for data/experiments
    # What the page does not show is not kept in Git.
    for file in (out / study.name).iterdir():
        if file.suffix == ".md" or (file.suffix == ".png" and f"({study.name}/{file.name})" not in body):
            file.unlink()
    page = out / f"{study.name}.md"
    page.write_text(
        f"# {study.title}\n\n**Question.** {study.question}\n\n```\n{commands}\n```\n\n"
        f"`python -m experiments.study {study.name}` does all of it and writes this page.\n\n"
        f"{started}\n\n{body.strip()}\n",
        encoding="utf-8",
    )
    return page


@app.command(help=HELP)
def main(
    name: Annotated[str | None, typer.Argument(help="As listed without it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the page.")] = PAGES,
) -> None:
    """List studies, or run one."""
    if name is None:
        for known in names():
            typer.echo(f"{known}: {load(known).title}\n  {load(known).question}\n")
        return
    with ask.told("study"):
        if name not in names():
            sys.exit(f"study: there is no study {name!r}. Remedy: one of {', '.join(names())}")
        typer.echo(f"written: {write(Path.cwd(), load(name), out)}")


if __name__ == "__main__":
    app()
