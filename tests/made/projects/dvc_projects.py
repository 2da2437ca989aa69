"""Projects under Git and DVC for tests: a folder with the outs of stages, and a version for each commit."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from made.processes import programs

STAGES: Final = ("extract", "download", "score", "filter")
ENVIRONMENT: Final = {
    **os.environ,
    **{f"GIT_{who}_{what}": "t@t.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def call(folder: Path, *command: str) -> str:
    """Run a command in a folder and return what it writes; a failure of the command fails the test."""
    done = programs.finished(command, cwd=folder, env=ENVIRONMENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(folder: Path, *arguments: str) -> str:
    return call(folder, sys.executable, "-m", "dvc", *arguments)


def committed(project: Path, name: str) -> None:
    """Record what lies in `data/` as a version."""
    dvc(project, "commit", "--force", "--quiet")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", name)
    call(project, "git", "tag", name)


def under_dvc(project: Path, kind: str) -> Path:
    """Put a project under Git and DVC, with links of this kind between cache and project, and record version v1."""
    call(project, "git", "init", "-q")
    dvc(project, "init", "-q")
    dvc(project, "config", "cache.type", kind)
    (project / ".gitignore").write_text("/data/\n/.laion_dask/\n/mlruns/\n")
    stages = "".join(f"  {stage}:\n    cmd: 'true'\n    outs: [data/{stage}]\n" for stage in STAGES)
    (project / "dvc.yaml").write_text(f"stages:\n{stages}")
    committed(project, "v1")
    dvc(project, "checkout", "--relink", "--quiet")
    return project
