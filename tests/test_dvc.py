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


def test_a_sweep_finds_what_was_run_leaves_the_workspace_alone_and_files_what_dvc_restored(clone: Path) -> None:
    (clone / "params.yaml").write_bytes(call(clone, "git", "show", "HEAD:params.yaml").encode())
    call(clone, "dvc", "checkout", "--quiet")
    call(clone, "git", "checkout", "--", ".")
    before = (clone / "params.yaml").read_bytes(), call(clone, "git", "status", "--porcelain")
    filed = len(runs(clone))
    sweep = (sys.executable, "-m", "experiments.sweep", "filter.similarity.en", "0.20,0.30", "--out", "answer")
    said = call(clone, *sweep, "--name", "en")
    assert "2 experiments, 0 of them there already" in said
    logs = {path.name: path.read_text() for path in (clone / ".laion_dask" / "experiments").glob("*.log")}
    ran = {
        name: [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]
        for name, text in logs.items()
    }
    # The test before has run 0.20: DVC restores that, and no stage runs that would file it.
    assert sorted(map(len, ran.values())) == [0, 3]
    assert ["filter", "release", "report"] in ran.values()
    assert {path.name for path in (clone / "answer").iterdir()} >= {
        "curve.png",
        "overlap.png",
        "table.csv",
        "README.md",
    }
    shutil.rmtree(clone / "answer")
    assert ((clone / "params.yaml").read_bytes(), call(clone, "git", "status", "--porcelain")) == before
    made = runs(clone)[filed:]
    assert [("laion_dask.comparison" in run["tags"]) for run in made] == [False, True]
    tagged = [run["tags"] for run in runs(clone) if "dvc.rev" in run["tags"]]
    assert len(tagged) == 2
    first = runs(clone)[0]["tags"]["laion_dask.version"]
    assert {tags["laion_dask.parent"] for tags in tagged} == {first}
    again = call(clone, *sweep, "--name", "en")
    assert "2 experiments, 2 of them there already" in again
    assert len(runs(clone)) == filed + 2
    shutil.rmtree(clone / "answer")


def test_a_lost_mlflow_is_restored_from_git_and_the_cache(clone: Path) -> None:
    (clone / "mlflow.db").unlink()
    said = call(clone, sys.executable, "-m", "experiments.rebuild_mlflow")
    restored = runs(clone)
    # The committed version, two experiments by hand and the one of the sweep that was new.
    assert len(restored) == 4, said
    assert {run["params"]["filter.similarity.en"] for run in restored} == {"0.25", "0.2", "0.3", "0.8"}
    assert all(run["tags"]["dvc.rev"] for run in restored)
    assert "0 runs restored" in call(clone, sys.executable, "-m", "experiments.rebuild_mlflow")
