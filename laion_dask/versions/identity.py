"""What identifies a version: its digest, its recipe, and the version before it.

Only params.yaml, dvc.lock, metrics/ and Git are read, so that the result does not change with time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from laion_dask.params import recipes

STAGES: Final = (
    "crawl",
    "extract",
    "catalog",
    "download",
    "score",
    "group",
    "filter",
    "translate",
    "caption",
    "release",
)
"""The stages whose outs make a version; the report only describes it."""
_LATER: Final = frozenset({"translate", "caption"})
"""Stages that versions of earlier code do not have."""
# Commits that are searched for the previous version.
_PARENTS: Final = 10


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version is in Git's history; "" for unknown values."""

    root: Path
    """The project's folder, with mlflow.db and the Git repository."""
    commit: str
    """The commit that the version was built from, or that contains it."""
    experiment: str = ""
    """Name of the DVC experiment."""
    rev: str = ""
    """The commit that contains the version; unknown while its report is being made."""

    @classmethod
    def here(cls, lock: Path) -> Origin:
        """Read the origin of a dvc.lock from Git and DVC's environment variables."""
        root = project_root(lock)
        return cls(root, _git(root, "rev-parse", "HEAD").strip(), os.environ.get("DVC_EXP_NAME", ""))

    def parent(self, name: str) -> str:
        """Return the version before `name` in Git's history, or ""."""
        return self.before(name)[1]

    def before(self, name: str) -> tuple[str, str]:
        """Return the commit and the digest of the version before `name` in Git's history, or "" twice."""
        for rev in _git(self.root, "log", f"-{_PARENTS}", "--format=%H", self.commit, "--", "dvc.lock").split():
            with tempfile.TemporaryDirectory() as folder:
                lock, metrics = Path(folder) / "dvc.lock", Path(folder) / "metrics"
                metrics.mkdir()
                lock.write_text(_git(self.root, "show", f"{rev}:./dvc.lock"), encoding="utf-8")
                for stage in STAGES:
                    counts = _git(self.root, "show", f"{rev}:./metrics/{stage}.json")
                    (metrics / f"{stage}.json").write_text(counts, encoding="utf-8")
                previous = version(lock, metrics, {}) if dataset_digests(lock) else ""
            if previous and previous != name:
                return rev, previous
        return "", ""

    def date(self, rev: str) -> str:
        """Return the day of a commit as its author's clock had it, such as 2026-11-30, or ""."""
        return _git(self.root, "show", "--no-patch", "--format=%cs", rev).strip() if rev else ""

    def file(self, rev: str, path: str) -> str:
        """Return the text of a file at a commit, or ""."""
        return _git(self.root, "show", f"{rev}:./{path}")

    def changed(self, *paths: str) -> list[str]:
        """List the files below these paths that Git tracks and that differ from the last commit."""
        return _git(self.root, "diff", "--name-only", "HEAD", "--", *paths).split()

    def recipe(self, values: Mapping[str, Any]) -> str:
        """Return the recipe that a version was built by, or "".

        In this order: the names in its parameters; the recipe in the experiment's name; of the recipes whose values
        all equal the parameters, the one with the most values.
        """
        chosen = values.get("recipe")
        if chosen:
            return " ".join(map(str, chosen))
        stem = re.sub(r"-[0-9a-f]{8}$", "", self.experiment)
        if stem in recipes.names():
            return stem
        sizes: dict[str, int] = {}
        parameters = dict(flat(values))
        for name in recipes.names():
            expected = dict(flat(recipes.describe(name).values))
            if all(key in parameters and parameters[key] == value for key, value in expected.items()):
                sizes[name] = len(expected)
        return max(sizes, key=lambda name: sizes[name], default="")


def dataset_digests(lock: Path) -> dict[str, str]:
    """Return DVC's hash of each data out by its path, in the order of the stages.

    Empty if dvc.lock is missing, lacks a stage, or does not match the metrics on disk, as after a run without DVC: then
    its digests belong to other data.
    """
    if not lock.is_file():
        return {}
    stages = (YAML(typ="safe", pure=True).load(lock) or {}).get("stages", {})
    digests: dict[str, str] = {}
    for stage in STAGES:
        if stage in _LATER and stage not in stages:
            continue
        outs = {out["path"]: str(out.get("md5", "")) for out in stages.get(stage, {}).get("outs", [])}
        metrics = {path: digest for path, digest in outs.items() if path == f"metrics/{stage}.json"}
        data = {path: digest for path, digest in outs.items() if path not in metrics and digest}
        if not data or not all(_md5(lock.parent / path) == digest for path, digest in metrics.items()):
            return {}
        digests |= data
    return digests


def outdated(lock: Path) -> list[str]:
    """Name the stages in dvc.lock whose deps differ from the outs recorded there: they have to run again."""
    stages = (YAML(typ="safe", pure=True).load(lock) or {}).get("stages", {})
    recorded = {out["path"]: out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}
    return [
        name
        for name, stage in stages.items()
        if any(recorded.get(dep["path"], dep.get("md5")) != dep.get("md5") for dep in stage.get("deps", []))
    ]


def tracked_params(lock: Path) -> dict[str, Any]:
    """Return the release's parameters in dvc.lock, by section; {} if it has none."""
    if not lock.is_file():
        return {}
    stages = (YAML(typ="safe", pure=True).load(lock) or {}).get("stages", {})
    return dict(stages.get(STAGES[-1], {}).get("params", {}).get("params.yaml", {}))


def version(lock: Path, metrics: Path, values: Mapping[str, Any]) -> str:
    """Return the digest that identifies a version: of DVC's hashes and the parameters in dvc.lock.

    It depends on a tracked file only, so time and code do not change it. If the lock does not match this version, it is
    the digest of the stages' metrics and of `values`, plain parameters by section.
    """
    digests = dataset_digests(lock)
    content: Mapping[str, Any] = digests or stage_metrics(metrics)
    return _digest([content, (tracked_params(lock) if digests else {}) or values])


def project_root(lock: Path) -> Path:
    """Return the folder of the real repository: `dvc exp run --temp` works in a copy that is deleted afterwards."""
    folder = lock.resolve().parent
    project, inside, _ = folder.as_posix().partition("/.dvc/tmp/exps/")
    if inside:
        return Path(project)
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    return Path(top) if top else folder


def stage_metrics(folder: Path) -> dict[str, Any]:
    """Return the counts of each stage, without stages that have not run."""
    files = {stage: folder / f"{stage}.json" for stage in STAGES}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in files.items() if path.is_file()}


def _digest(content: object) -> str:
    # YAML parses dates, which JSON cannot represent.
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _git(folder: Path, *arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *arguments], cwd=folder, capture_output=True, check=False)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names and values of nested mappings; lists stay whole."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else ""
