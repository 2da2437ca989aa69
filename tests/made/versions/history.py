"""Versions in a Git repository of their own: tracked files in commits, outs in a cache laid out as DVC lays it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from made.processes import programs
from ruamel.yaml import YAML

from laion_dask.versions import identity

NAMES = {
    **{
        f"GIT_{who}_{what}": word for who in ("AUTHOR", "COMMITTER") for what, word in (("NAME", "t"), ("EMAIL", "t@t"))
    },
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
}


def git(root: Path, *arguments: str) -> str:
    done = programs.finished(["git", *arguments], cwd=root, env={**os.environ, **NAMES})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def create(root: Path) -> None:
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("")
    (root / ".gitignore").write_text("/.dvc/cache\n/.dvc/tmp\n/data\n/mlflow.db\n/mlruns\n")


def store(cache: Path, folder: Path) -> str:
    """Put the files of an out into the cache and return its hash."""
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest = hashlib.md5(path.read_bytes()).hexdigest()
            entries.append({"md5": digest, "relpath": path.relative_to(folder).as_posix()})
            target = cache / "files" / "md5" / digest[:2] / digest[2:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    listing = json.dumps(entries, sort_keys=True, separators=(", ", ": "))
    digest = hashlib.md5(listing.encode()).hexdigest() + ".dir"
    target = cache / "files" / "md5" / digest[:2] / digest[2:]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(listing)
    return digest


def commit(root: Path, values: Mapping[str, Any], data: Path, metrics: Path, *, cached: bool = True) -> str:
    """Commit a version: params.yaml, metrics/ and a dvc.lock that names what lies in `data`; returns the commit."""
    cache = root / ".dvc" / "cache" if cached else root / ".dvc" / "tmp" / "elsewhere"
    YAML().dump(dict(values), root / "params.yaml")
    shutil.rmtree(root / "metrics", ignore_errors=True)
    shutil.copytree(metrics, root / "metrics")
    stages: dict[str, Any] = {}
    for stage in (*identity.STAGES, "report"):
        outs: list[dict[str, str]] = [{"path": f"data/{stage}", "md5": store(cache, data / stage)}]
        counts = root / "metrics" / f"{stage}.json"
        if counts.is_file():
            outs.append({"path": f"metrics/{stage}.json", "md5": hashlib.md5(counts.read_bytes()).hexdigest()})
        stages[stage] = {"cmd": f"python -m workflow.{stage}", "outs": outs}
    stages["release"]["params"] = {"params.yaml": {name: values[name] for name in values if name != "report"}}
    YAML().dump({"schema": "2.0", "stages": stages}, root / "dvc.lock")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "version")
    return git(root, "rev-parse", "HEAD")


def experiment(root: Path, name: str, values: Mapping[str, Any], data: Path, metrics: Path) -> str:
    """Make a DVC experiment on top of HEAD, as `dvc exp run --temp` leaves it: a reference, and HEAD as it was."""
    before = git(root, "rev-parse", "HEAD")
    made = commit(root, values, data, metrics)
    git(root, "reset", "-q", "--hard", before)
    git(root, "update-ref", f"refs/exps/{before[:2]}/{before[2:]}/{name}", made)
    return made
