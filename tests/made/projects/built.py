"""The small demo, built once for all tests of a run: `dvc repro` in a Git repository of its own, and a copy to read."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path

from made.places import ROOT
from made.processes import programs
from made.projects.project import SMALL, Project

# DVC's own start takes a second; what is silenced are its libraries' deprecations, not ours.
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DASK_LAION_DASK__CLUSTER__WORKERS": "2",
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@t.example",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@t.example",
}
# A whole run of the demo is among what is called: somewhat less than the limit of a test.
_RUN_S = 1_100
# What the stages leave in a project's folder beside params.yaml and removals.csv.
_LEFT = ("data", "metrics", "mlruns", ".laion_dask")


def call(folder: Path, *command: str) -> str:
    """Run a program in a folder, and return its output; it must end with status 0."""
    done = programs.finished(command, within_s=_RUN_S, cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def build(base: Path) -> tuple[Path, Project]:
    """Return the clone with the demo built in it by two workers, and a copy of what its stages wrote, for reading.

    `base` is shared by all processes of a test run: the first one builds, the others wait for it. Only
    test_dvc.py may change the clone; nobody may change the copy.
    """
    base.mkdir(exist_ok=True)
    built, copy, done = base / "c", base / "p", base / "done"
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            # What a build that failed has left.
            for folder in (built, copy, base / "params"):
                shutil.rmtree(folder, ignore_errors=True)
            _build(built, base / "params")
            _copy(built, copy)
            done.touch()
    return built, Project(copy)


def _build(folder: Path, params: Path) -> None:
    """Build the small demo in a clone, and commit the version."""
    clone(folder, params)
    call(folder, "dvc", "repro")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "first version")


def clone(folder: Path, params: Path) -> None:
    """Copy the working tree as it is into a Git repository of its own, with the small demo's parameters."""
    listed = call(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(Project.create(params, SMALL).folder / "params.yaml", folder / "params.yaml")
    (folder / "dvc.lock").unlink(missing_ok=True)
    call(folder, "git", "init", "-q")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "small demo")


def _copy(built: Path, folder: Path) -> None:
    Project.create(folder, SMALL)
    for name in _LEFT:
        shutil.copytree(built / name, folder / name, symlinks=True)
    shutil.copy(built / "mlflow.db", folder)
