"""The program `laion-dask`: a command for each step of a project, and commands to inspect and correct versions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from laion_dask import __version__
from laion_dask.cli import (
    audit,
    console,
    crawls,
    diff,
    download,
    export,
    extract,
    linkrot,
    params,
    purge,
    remove,
    score,
    steps,
    verify,
    why,
)
from laion_dask.cli.new_texts import caption, translate
from laion_dask.cli.peers import img2dataset
from laion_dask.cli.runs import cluster, mlflow_runs, trace
from laion_dask.cli.sharing import publish
from laion_dask.cluster import interrupts
from laion_dask.schema.values import SPLITS
from laion_dask.storage import packaged


class Program(typer.Typer):
    """The command line: reports a user's error in one line, and exits with the usual status on a signal."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as typer has it
        """Run a command; a bug raises with its traceback."""
        try:
            with console.report_errors("laion-dask"), interrupts.raise_on_signals(), console.flush_output():
                return super().__call__(*args, **kwargs)
        except BrokenPipeError:
            sys.exit(1)  # the reader of our output has closed the pipe
        except typer.Exit as done:
            sys.exit(done.exit_code)


app = Program(
    name="laion-dask",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    # --dry_run is read as --dry-run.
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
    help="Build image-text datasets from web crawls, so that anyone can rebuild, compare and audit them.\n\n"
    "`make repro` (or `dvc repro`) runs all steps that have changed. Each step below runs one stage, with params.yaml; "
    "the questions are answered from the files of the current version.",
)


def _print_version(shown: bool) -> None:  # noqa: FBT001 - as typer calls it
    if shown:
        commit = _commit()
        console.say(f"laion-dask {__version__}{f' ({commit})' if commit else ''}")
        raise typer.Exit


def _commit() -> str:
    """Return the commit of the checkout that the package runs from, and whether its files were changed; "" without."""
    git = shutil.which("git")
    if git is None or not (packaged.PROJECT / ".git").exists():
        return ""
    command = [git, "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=packaged.PROJECT, capture_output=True, text=True, check=False)
    commit, changed, _ = done.stdout.strip().partition("-dirty")
    return f"commit {commit}{', files changed' if changed else ''}" if done.returncode == 0 else ""


@app.callback()
def program(
    version: Annotated[  # noqa: FBT002 - printed by its callback; a flag
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""


# In the order in which they run; several also accept files on the command line.
_STEPS: Mapping[str, tuple[Callable[..., None], str | None]] = {
    "inputs": (steps.inputs, None),
    "crawl": (steps.crawl, None),
    "extract": (extract.extract, extract.HELP),
    "catalog": (steps.catalog, None),
    "download": (download.download, download.HELP),
    "score": (score.score, score.HELP),
    "group": (steps.group, None),
    "filter": (steps.filter_, None),
    "translate": (translate.translate, translate.HELP),
    "caption": (caption.caption, caption.HELP),
    "release": (steps.release, None),
    "report": (steps.report, None),
}

for _name, (_function, _help) in _STEPS.items():
    _short = getattr(steps, _name).__doc__ if _help else None
    _class = img2dataset.Download if _name == "download" else None
    app.command(_name, cls=_class, help=_help, short_help=_short, rich_help_panel="Steps, in order")(_function)


@app.command(rich_help_panel="Questions")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print the funnel of the current version: rows seen, kept and dropped by reason, for each step.

    Says if the version is not built in this folder, and which values of params.yaml have changed since.
    """
    from laion_dask.cli.runs import state
    from laion_dask.schema.reasons import FUNNEL, NEW_TEXTS

    found = {
        name: json.loads(path.read_text()) for name in _STEPS if (path := Path("metrics") / f"{name}.json").is_file()
    }
    if not found:
        console.fail(
            "status: not built: there is no version, metrics/ is empty. Remedy: `make repro` in the project's folder"
        )
    for line in state.notes(Path(), tuple(_STEPS), tuple(found)):
        console.say(line, err=as_json)
    if as_json:
        console.say(json.dumps(found, indent=2))
        return
    ledgers = [(name, found[name][unit]) for name, unit in FUNNEL if found.get(name, {}).get(unit)]
    console.console().print(console.funnel("The funnel of this version", ledgers))
    release = found.get("release", {})
    splits = ", ".join(f"{name} {release.get(f'rows.{name}', 0):,}" for name in SPLITS)
    for stage, unit in NEW_TEXTS:
        if written := found.get(stage, {}).get(unit):
            without = ", ".join(f"{reason} {rows:,}" for reason, rows in written["dropped"].items())
            said = f"{written['kept']:,} {unit} for {written['seen']:,} kept pairs{f' ({without})' if without else ''}"
            console.say(f"{stage}: {said if written['seen'] else f'off ({stage}: null)'}")
    console.say(f"released: {splits}; tombstones {release.get('tombstones', 0):,}")
    console.say("report: data/report/report.html; versions side by side: laion-dask mlflow ui")


app.command("trace", help=trace.HELP, rich_help_panel="Questions")(trace.trace)
app.command("crawls", help=crawls.HELP, rich_help_panel="Questions")(crawls.crawls)
app.command("params", cls=params.ExplainsTextSteps, help=params.HELP, rich_help_panel="Questions")(params.params)
app.command("recipes", help=params.RECIPES_HELP, rich_help_panel="Questions")(params.recipes)


app.add_typer(audit.app, name="audit", rich_help_panel="Questions")
app.command("linkrot", help=linkrot.HELP, rich_help_panel="Questions")(linkrot.linkrot)


app.command("diff", help=diff.HELP, rich_help_panel="Questions")(diff.diff)
app.command("verify", help=verify.HELP, rich_help_panel="Questions")(verify.verify)


@app.command(rich_help_panel="Questions")
def columns() -> None:
    """Print the data dictionary: every table and array with its columns, types, units and meanings."""
    from laion_dask.release import layouts
    from laion_dask.schema import ARRAYS, TABLES, groups, traces

    for table in (*TABLES, *groups.TABLES, *layouts.TABLES, *traces.TABLES):
        console.say(f"\n{table.name} (written by {table.stage}; a row is {table.row})")
        for column in table.columns:
            unit = f" [{column.unit}]" if column.unit else ""
            console.say(f"  {column.name:<20} {column.type!s:<8} {column.meaning}{unit}")
    console.say("\nembeddings.zarr (written by score; a group for each model of score.models)")
    for array in ARRAYS:
        console.say(f"  {array.name:<20} {array.dtype:<8} ({', '.join(array.dims)}) {array.meaning}")


@app.command(rich_help_panel="Questions")
def demo_model() -> None:
    """Print the accuracy of the demo's small CLIP and its heads on held-out pictures."""
    from laion_dask.demo.training.evaluate import evaluate, load, report

    console.say(report(evaluate(load())))


app.command("why", help=why.HELP, rich_help_panel="Questions")(why.why)
app.command("cluster", help=cluster.HELP, rich_help_panel="Tools")(cluster.cluster)
app.command("index", help=why.INDEX_HELP, rich_help_panel="Tools")(why.index)
app.command("remove", help=remove.HELP, rich_help_panel="Removals")(remove.remove)
app.command("purge", help=purge.HELP, rich_help_panel="Removals")(purge.purge)
app.command("export", help=export.HELP, rich_help_panel="Tools")(export.export)
app.add_typer(publish.app, name="publish", rich_help_panel="Tools")


_REPLAY_HELP = """Serve responses for any host from WARC files, on 127.0.0.1, over http and https, until Ctrl-C.

\b
  laion-dask replay saved.warc.gz --http-port 8080
  curl --connect-to ::127.0.0.1:8080 http://a.example/1.jpg
"""


@app.command(help=_REPLAY_HELP, rich_help_panel="Tools")
def replay(
    files: Annotated[
        list[Path], typer.Argument(help="WARC files (.warc, .warc.gz, .warc.zst) that hold the responses.")
    ],
    http_port: Annotated[int, typer.Option(help="Port for http; 0 takes a free one.")] = 0,
    https_port: Annotated[int, typer.Option(help="Port for https; 0 takes a free one.")] = 0,
) -> None:
    """Serve responses for any host from WARC files, on 127.0.0.1, over http and https, until Ctrl-C."""
    from laion_dask.web.archive.replay import serve

    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        console.fail(f"no such file: {', '.join(missing)}. Remedy: give the paths of existing WARC files")
    with console.report_errors("replay"):
        serve(files, http_port, https_port)


app.add_typer(mlflow_runs.app, name="mlflow", rich_help_panel="Tools")


if __name__ == "__main__":
    app()
