"""`laion-dask mlflow`: log the current version again; `laion-dask mlflow ui`: open the runs in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer

from laion_dask.cli import console

HELP: Final = """Log the current version to MLflow again, or open MLflow's page.

\b
  laion-dask mlflow        # after `dvc checkout`; a version is one run
  laion-dask mlflow ui     # each version with its thresholds and counts

`make repro` logs each version that it builds. `python -m experiments.rebuild_mlflow` restores the runs of a lost
database, and those of versions that were built elsewhere.
"""
UI_HELP: Final = """Start MLflow's server, and open its runs: thresholds and counts as columns.

\b
  laion-dask mlflow ui                  # prints the address, and opens it
  laion-dask mlflow ui --port 0         # on a free port
  ssh -L 5000:127.0.0.1:5000 MACHINE    # first, from another machine

Select two runs and click Compare, or look at the charts. Only this machine reaches the server. Ctrl-C ends it. Where
MLFLOW_TRACKING_URI names a server (http or https), no other is started, and the address on that server is printed.
"""
_REPORT: Final = Path("data") / "report"

app = typer.Typer(invoke_without_command=True, help=HELP)


@app.callback()
def log(context: typer.Context) -> None:
    """Log the current version to MLflow again, or open its page with `laion-dask mlflow ui`."""
    if context.invoked_subcommand is not None:
        return
    from laion_dask import params as parameters
    from laion_dask.report.tracking import log_version

    with console.report_errors("mlflow"):
        settings = parameters.load()
        console.need("mlflow", _REPORT, Path("data") / "release")
        run = log_version(
            report=_REPORT,
            metrics=Path("metrics"),
            values=settings.model_dump(mode="json"),
            lock=Path("dvc.lock"),
            experiment=settings.report.experiment,
            uri=None,
            release=Path("data") / "release",
            data=Path("data"),
        )
    console.say(f"MLflow run {run}. `laion-dask mlflow ui` shows it beside the others")


@app.command("ui", help=UI_HELP)
def ui(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the server; 0 takes a free one.")] = 5000,
    open_browser: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page in a browser; by default if there is one.")
    ] = None,
) -> None:
    """Open MLflow's page."""
    from laion_dask import params as parameters
    from laion_dask.report.runs import page, server
    from laion_dask.storage import work_folder

    with console.report_errors("mlflow ui", kept="Runs are kept."):
        name = parameters.load().report.experiment
        found = page.find(Path.cwd(), name)
        if found.server:
            _show(found.address(found.server), open_browser=open_browser)
            return
        with server.started(found.folder, found.uri, port, work_folder.work_folder() / "mlflow.log") as running:
            console.say("starting MLflow's server, which takes some seconds, a minute on a slow machine")
            running.wait(console.say)
            console.say(f"MLflow answers at {running.address}; Ctrl-C ends it")
            _show(found.address(running.address), open_browser=open_browser)
            running.process.wait()
            console.fail(f"mlflow ui: MLflow's server has ended by itself; its log: {running.log}")


def _show(address: str, *, open_browser: bool | None) -> None:
    console.say(f"runs with thresholds and counts: {address}")
    screen = sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if open_browser or (open_browser is None and screen and sys.stdout.isatty()):
        webbrowser.open(address)
