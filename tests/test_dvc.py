"""Versions: `dvc repro` and `dvc exp run` in a clone, what runs again, and what MLflow and `dvc metrics diff` show."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, SMALL, Project

pytestmark = pytest.mark.slow

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


def call(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as it is, in a Git repository of its own, with the small demo built in it."""
    folder = tmp_path_factory.mktemp("clone") / "c"
    listed = call(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    params = Project.create(folder.parent / "params", SMALL).folder / "params.yaml"
    shutil.copy(params, folder / "params.yaml")
    (folder / "dvc.lock").unlink(missing_ok=True)
    call(folder, "git", "init", "-q")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "small demo")
    call(folder, "dvc", "repro")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "first version")
    return folder


def runs(folder: Path) -> list[dict[str, dict[str, str]]]:
    """Read params and metrics of every MLflow run out of its database."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        found = []
        for (run,) in database.execute("select run_uuid from runs order by start_time").fetchall():
            entry = {}
            for table in ("params", "latest_metrics", "tags"):
                rows = database.execute(f"select key, value from {table} where run_uuid = ?", (run,)).fetchall()
                entry[table] = {str(key): str(value) for key, value in rows}
            found.append(entry)
    database.close()
    return found


def test_a_second_run_finds_nothing_to_do(clone: Path) -> None:
    said = call(clone, "dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said


def test_another_threshold_runs_filter_release_and_report_only_and_is_another_version(clone: Path) -> None:
    before = len(runs(clone))
    assert before == 1
    for threshold in ("0.20", "0.80"):
        said = call(clone, "dvc", "exp", "run", "-S", f"filter.similarity.en={threshold}")
        ran = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]
        assert ran == ["filter", "release", "report"]
    low, high = runs(clone)[before:]
    assert (float(low["params"]["filter.similarity.en"]), float(high["params"]["filter.similarity.en"])) == (0.2, 0.8)
    kept, dropped = "filter.pairs.kept", "filter.pairs.dropped.low_similarity"
    assert float(low["latest_metrics"][kept]) > float(high["latest_metrics"][kept])
    assert float(low["latest_metrics"][dropped]) < float(high["latest_metrics"][dropped])
    assert low["tags"]["laion_dask.version"] != high["tags"]["laion_dask.version"]
    changes = json.loads(call(clone, "dvc", "metrics", "diff", "--json"))
    assert changes["metrics/filter.json"]["pairs.kept"]["diff"] < 0


def test_filing_the_same_version_again_adds_no_run(clone: Path) -> None:
    before = len(runs(clone))
    call(clone, "laion-dask", "mlflow")
    assert len(runs(clone)) == before
