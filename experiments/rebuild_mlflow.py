"""Git history and DVC's cache in, one MLflow run for every version out: `python -m experiments.rebuild_mlflow`.

MLflow is a mirror: each run is a function of tracked files (params.yaml, dvc.lock, metrics/) and of the report that
dvc.lock names. So a lost mlflow.db is no loss. A version that is filed already is left alone; give the command as often
as you like.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from experiments import versions
from experiments.versions import ComparedVersion, ComparedVersionError
from laion_dask.versions import identity

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_REPORT: Final = "data/report"
_RELEASE: Final = "data/release"
_DESCRIBING: Final = ("README.md", "manifest.json", "croissant.json")


def history(root: Path) -> Iterator[tuple[str, str]]:
    """Yield commit and experiment name of every version: commits of branches and tags, oldest first, then experiments.

    A commit counts where dvc.lock or params.yaml changed; the name is "" for commits.
    """
    listed = versions.git(
        root, "log", "--reverse", "--format=%H", "HEAD", "--branches", "--tags", "--", "dvc.lock", "params.yaml"
    )
    for commit in listed.decode().split():
        yield commit, ""
    for name, commit in versions.experiments(root).items():
        yield commit, name


def restore(
    root: Path, wanted: Iterable[tuple[str, str]], say: Callable[[str], None], uri: str | None = None
) -> dict[str, str]:
    """File the versions of (commit, experiment) that are not filed yet; returns the run's id by commit.

    A version whose report is not in the cache of this machine, or is not its own, is told and left out.
    """
    from laion_dask.report import tracking  # noqa: PLC0415 - with what it imports, seconds

    cache = versions.cache_folder(root)
    known = {name for name, tags in tracking.filed(root, uri).items() if "dvc.rev" in tags}
    made: dict[str, str] = {}
    for commit, experiment in wanted:
        label = experiment or commit[:8]
        try:
            version = versions.read(root, commit, label)
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder)
                _lay_out(version, copy)
                name = identity.version(copy / "dvc.lock", copy / "metrics", version.params)
                if name in known:
                    say(f"{label}: filed already")
                    continue
                if outdated := identity.outdated(copy / "dvc.lock"):
                    say(f"{label}: left out, it ended before {outdated[0]}; its report is of another version")
                    continue
                _copy(versions.cached(cache, version, _REPORT), copy / _REPORT)
                release = versions.cached(cache, version, _RELEASE)
                _copy({path: file for path, file in release.items() if path in _DESCRIBING}, copy / _RELEASE)
                made[commit] = tracking.log_version(
                    report=copy / _REPORT,
                    metrics=copy / "metrics",
                    values=version.params,
                    lock=copy / "dvc.lock",
                    experiment=version.params["report"]["experiment"],
                    uri=uri,
                    release=copy / _RELEASE,
                    origin=_origin(root, version, experiment),
                )
                known.add(name)
                say(f"{label}: run {made[commit]}")
        except (ComparedVersionError, OSError, KeyError) as error:
            # A version of long ago may lack what today's report has; the others must not wait for it.
            say(f"{label}: left out, {type(error).__name__}: {error}")
    return made


def _origin(root: Path, version: ComparedVersion, experiment: str) -> identity.Origin:
    # The commit of an experiment hangs on the one that it began from.
    began = versions.git(root, "rev-parse", f"{version.rev}~1").decode().strip() if experiment else version.rev
    return identity.Origin(root, began, experiment, version.rev)


def _lay_out(version: ComparedVersion, folder: Path) -> None:
    for name, body in version.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def _copy(files: dict[str, Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)


@app.command()
def main(
    uri: Annotated[
        str | None, typer.Option(help="MLflow to file in; without it MLFLOW_TRACKING_URI, else ./mlflow.db.")
    ] = None,
) -> None:
    """Restore the MLflow run of every version in Git's history and of every DVC experiment.

    Reads params.yaml, dvc.lock and metrics/ of each commit, and the report out of DVC's cache. Idempotent: a version
    that has its run is left alone. What another machine built is fetched first with `dvc fetch --all-commits`, and
    `dvc exp pull`.
    """
    root = Path.cwd()
    try:
        made = restore(root, history(root), typer.echo, uri)
    except ComparedVersionError as error:
        sys.exit(f"rebuild_mlflow: {error}")
    typer.echo(f"{len(made)} runs restored")


if __name__ == "__main__":
    app()
