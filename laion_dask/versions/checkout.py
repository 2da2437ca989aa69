"""Open the release and the verdicts of a version: a folder, a Git revision or a DVC experiment.

The files of a revision come from DVC's cache with `dvc get`, without changing the working tree.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laion_dask.release.manifest import NAME
from laion_dask.storage.files import sha256
from laion_dask.versions.diff import ReleaseFolder

_EXPERIMENTS = "refs/exps/"
_RELEASE, _VERDICTS = "data/release", "data/filter"


class VersionError(Exception):
    """A version does not exist, or its files are missing; the message has the name and the remedy."""


@contextmanager
def opened(name: str, project: Path = Path()) -> Iterator[ReleaseFolder]:
    """Yield the version of this name; its files may be temporary.

    A folder with a manifest is a release; if the folder is called `release`, its verdicts are in `filter` beside it.
    Any other name is a revision of the Git repository in `project`, or one of its DVC experiments. `VersionError` if it
    is neither, or the cache lacks its release.
    """
    folder = project / name
    if (folder / NAME).is_file():
        verdicts = folder.resolve().parent / "filter"
        beside = folder.resolve().name == "release" and verdicts.is_dir()
        yield ReleaseFolder(name, folder, verdicts if beside else None)
        return
    if folder.is_dir():
        raise VersionError(f"{name} has no {NAME}. Remedy: give the folder of a release, such as data/release")
    commit = find_commit(name, project)
    with tempfile.TemporaryDirectory(prefix="laion-dask-") as temporary:
        release = Path(temporary) / "release"
        _get(project, _RELEASE, commit, release, name)
        verdicts = Path(temporary) / "filter"
        try:
            _get(project, _VERDICTS, commit, verdicts, name)
        except VersionError:
            yield ReleaseFolder(name, release)  # removed pairs are then listed without a reason
        else:
            yield ReleaseFolder(name, release, verdicts)


def identity(name: str, project: Path = Path()) -> str:
    """Return what a name identifies: the digest of the manifest in a folder, or the commit of a revision."""
    path = project / name / NAME
    return sha256(path) if path.is_file() else find_commit(name, project)


def find_commit(name: str, project: Path = Path()) -> str:
    """Return the commit of a revision or a DVC experiment; `VersionError` if there is none."""
    resolved = _git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if resolved is not None:
        return resolved
    # DVC keeps an experiment as refs/exps/<two digits>/<commit>/<name>.
    listed = _git(project, "for-each-ref", "--format=%(objectname) %(refname)", _EXPERIMENTS) or ""
    commits = [
        commit for commit, _, ref in (line.partition(" ") for line in listed.splitlines()) if ref.endswith(f"/{name}")
    ]
    if not commits:
        message = (
            f"{name!r} is not a folder of a release, a Git revision or a DVC experiment. "
            "Remedy: `git tag`, `git log` and `dvc exp list` list them"
        )
        raise VersionError(message)
    return commits[0]


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 - git is found on the path, as users find it
            cwd=project,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise VersionError("git is not installed. Remedy: install it, or give folders of releases") from error
    return done.stdout.strip() if done.returncode == 0 else None


def _get(project: Path, out: str, commit: str, target: Path, name: str) -> None:
    """Copy an out of a revision from DVC's cache."""
    command = [sys.executable, "-m", "dvc", "get", "--quiet", "--rev", commit, "--out", str(target), ".", out]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not target.is_dir():
        # DVC writes an offer of help, and with --quiet nothing else.
        said = [line for line in done.stderr.strip().splitlines() if "Having any troubles?" not in line]
        cause = (said or ["files of it are not there"])[0]
        message = (
            f"{out} of {name} ({commit[:10]}) cannot be read from DVC's cache ({cause}). Remedy: fetch it from a "
            "remote (`dvc fetch --all-commits`), or check that revision out elsewhere, run `make repro` there and give "
            "the folder of its release"
        )
        raise VersionError(message)
