"""Git history and DVC's cache in, one MLflow run for every version out: `python -m experiments.rebuild_mlflow`.

MLflow is a mirror: each run is a function of tracked files (params.yaml, dvc.lock, metrics/) and of the report that
dvc.lock names. So a lost mlflow.db is no loss. A version that is filed already is left alone; give the command as often
as you like.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer

from experiments import versions
from experiments.versions import ComparedVersion, ComparedVersionError
from laion_dask.versions import identity

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_REPORT: Final = "data/report"
_RELEASE: Final = "data/release"
# The report's hash as DVC writes it among the outs of dvc.lock.
_REPORT_OUT: Final = re.compile(rb"- path: data/report\n(?:\s+(?!- )\S+: .*\n)*?\s+md5: (\w+(?:\.dir)?)\n")
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


@dataclass
class Restored:
    """What became of versions that were asked for."""

    made: dict[str, str] = field(default_factory=dict)
    """The id of each run that was logged, by commit."""
    versions: dict[str, str] = field(default_factory=dict)
    """The version of each commit that was read and has a run."""
    present: int = 0
    """Versions that had their run before."""
    uncached: int = 0
    """Versions whose report is not in the cache of this machine."""
    failed: int = 0

    def __str__(self) -> str:
        """Sum up in one line."""
        said = [f"{len(self.made)} runs restored"]
        said += [f"{self.present} there already"] if self.present else []
        said += [f"{self.failed} left out for the reasons above"] if self.failed else []
        if self.uncached:
            said.append(
                f"{self.uncached} left out, since their reports are not in the cache. Remedy: "
                "`dvc fetch --all-commits` and `dvc exp pull` from a remote, or build them again"
            )
        return "; ".join(said)


def restore(
    root: Path, wanted: Iterable[tuple[str, str]], say: Callable[[str], None], uri: str | None = None
) -> Restored:
    """Log the versions of (commit, experiment) that have no run yet.

    A version whose report is not in the cache of this machine is counted; one whose report is not its own, or that
    lacks what a report has today, is named to `say`.
    """
    done = Restored()
    cache = versions.cache_folder(root)
    # Most versions of a fresh clone end here: neither MLflow nor YAML is read for them, which takes a second for each.
    cached, done.uncached = _with_reports(root, cache, [*wanted])
    if not cached:
        return done
    from laion_dask.report import tracking  # noqa: PLC0415 - with what it imports, seconds

    runs = {name: tags["dvc.rev"] for name, tags in tracking.filed(root, uri).items() if "dvc.rev" in tags}
    for commit, experiment in cached:
        label = experiment or commit[:8]
        try:
            name, run = _log(root, cache, (commit, experiment), runs, uri)
        except (ComparedVersionError, OSError, KeyError) as error:
            # A version of long ago may lack what today's report has; the others must not wait for it.
            done.failed += 1
            kind = "" if isinstance(error, ComparedVersionError) else f"{type(error).__name__}: "
            say(f"{label}: left out, {kind}{error}")
            continue
        done.versions[commit] = name
        if run:
            runs[name] = commit
            done.made[commit] = run
            say(f"{label}: run {run}")
        else:
            done.present += 1
    return done


def _log(root: Path, cache: Path, wanted: tuple[str, str], runs: Mapping[str, str], uri: str | None) -> tuple[str, str]:
    """Log the version of (commit, experiment); returns its name, and the run's id or "" if it is there already.

    `runs` has the commit of each version that has a run.
    """
    from laion_dask.report import tracking  # noqa: PLC0415 - with what it imports, seconds

    commit, experiment = wanted
    for name, of in runs.items():
        if of == commit:
            return name, ""
    version = versions.read(root, commit, experiment or commit[:8])
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _lay_out(version, copy)
        name = identity.version(copy / "dvc.lock", copy / "metrics", version.params)
        if name in runs:
            return name, ""
        if outdated := identity.outdated(copy / "dvc.lock"):
            raise ComparedVersionError(f"it ended before {outdated[0]}; its report is of another version")
        _copy(versions.cached(cache, version, _REPORT), copy / _REPORT)
        release = versions.cached(cache, version, _RELEASE)
        _copy({path: file for path, file in release.items() if path in _DESCRIBING}, copy / _RELEASE)
        run = tracking.log_version(
            report=copy / _REPORT,
            metrics=copy / "metrics",
            values=version.params,
            lock=copy / "dvc.lock",
            experiment=version.params["report"]["experiment"],
            uri=uri,
            release=copy / _RELEASE,
            origin=_origin(root, version, experiment),
        )
    return name, run


def _with_reports(root: Path, cache: Path, wanted: Sequence[tuple[str, str]]) -> tuple[list[tuple[str, str]], int]:
    """Return the versions whose report may be in the cache by the hash in their dvc.lock, and how many others are."""
    found, without = [], set()
    for one, lock in zip(wanted, versions.blobs(root, [f"{commit}:dvc.lock" for commit, _ in wanted]), strict=True):
        if not lock:
            continue  # no version was built there
        digest = _REPORT_OUT.search(lock)
        # Another form of dvc.lock is read as a whole.
        if digest is None or versions.object_path(cache, digest[1].decode()).is_file():
            found.append(one)
        else:
            without.add(lock)  # of several commits with one dvc.lock, all have the same version
    return found, len(without)


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
    that has its run is left alone. Versions whose report is not in the cache, as most of a fresh clone, are counted in
    the last line: fetch what another machine built with `dvc fetch --all-commits` and `dvc exp pull` first.
    """
    root = Path.cwd()
    try:
        done = restore(root, history(root), typer.echo, uri)
    except ComparedVersionError as error:
        sys.exit(f"rebuild_mlflow: {error}")
    typer.echo(str(done))


if __name__ == "__main__":
    app()
