"""Versions: `dvc repro` and `dvc exp run` in a clone, what runs again, and what MLflow and `dvc metrics diff` show."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
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


def holders(folder: Path, *needles: bytes, also: tuple[Path, ...] = ()) -> list[str]:
    """List the files under a folder that hold any of these bytes, packed or not; not what is the web here.

    Written apart from laion_dask/traces.py: it proves what that says.
    """
    found = []
    web = [path for path in folder.glob("data/crawl/**/*") if path.is_file()] if (folder / "data").is_dir() else []
    spared = {hashlib.md5(path.read_bytes()).hexdigest() for path in (*web, *also)}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith((".git/", "data/crawl/", "removals.csv", "mlflow.db")):
            continue
        body = path.read_bytes()
        if path.parent.name + path.name in spared:
            continue
        if body[:4] == b"PAR1":
            body = "\n".join(str(value) for row in pq.read_table(path).to_pylist() for value in row.values()).encode()
        elif body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        if any(needle in body or html.escape(needle.decode("latin-1")).encode("latin-1") in body for needle in needles):
            found.append(name)
    return found


# The last one: it takes away what the versions before had.
def test_a_removed_pair_is_gone_from_every_output_and_a_purge_leaves_no_byte_of_it(clone: Path) -> None:
    call(clone, "dvc", "checkout", "--force")
    call(clone, "dvc", "repro")
    store = clone.parent / "store"
    call(clone, "dvc", "remote", "add", "store", str(store))
    call(clone, "dvc", "push", "--remote", "store")
    release = pq.read_table(min((clone / "data" / "release").glob("en-*.parquet"))).to_pylist()
    texts = [row["TEXT"] for row in release]
    pair = next(row for row in release if texts.count(row["TEXT"]) == 1)
    shard = clone / "data" / "download" / f"{pair['key'][:5]}.tar"
    with tarfile.open(shard) as tar:
        picture = next(tar.extractfile(one).read() for one in tar if one.name.startswith(f"{pair['key']}.j"))  # type: ignore[union-attr]
    needles = pair["URL"].encode(), pair["sha256"].encode(), pair["TEXT"].encode(), picture[200:260]
    before = json.loads((clone / "data" / "release" / "manifest.json").read_text())["files"]
    held = [name for name in holders(clone, *needles) if name.startswith("data/release/")]
    assert held

    told = call(clone, "laion-dask", "remove", "url", pair["URL"], "--reason", "asked for", "--source", "form 17")
    assert "takes 1 of " in told
    told = call(clone, "dvc", "repro")
    assert "Running stage 'filter'" in told
    assert "Running stage 'download'" not in told
    assert "Running stage 'score'" not in told
    gone = hashlib.sha256(pair["uid"].encode()).hexdigest()
    stones = pq.read_table(clone / "data" / "release" / "tombstones.parquet").to_pylist()
    assert {"uid_sha256": gone, "reason": "removed_later", "since": "1.0.0"} in stones
    assert not [name for name in holders(clone, *needles) if name.startswith(("data/release/", "data/report/"))]
    for question in (pair["uid"], pair["URL"]):
        answer = json.loads(call(clone, "laion-dask", "why", question, "--json").partition("{")[2].join(["{", ""]))
        found = next(one for one in answer["pairs"] if one["uid"] == pair["uid"])
        assert (found["removed"], found["uid_sha256"], found["since"]) == (True, gone, "1.0.0")
        assert pair["TEXT"] not in json.dumps(answer)

    assert "would be written anew" in call(clone, "laion-dask", "purge", "--dry-run")
    assert [name for name in holders(clone, *needles) if name.startswith("data/download/")]
    told = call(clone, "laion-dask", "purge", "--remote", "store")
    assert '"left": []' in told
    assert holders(clone, *needles) == []
    crawl = tuple(path for path in (clone / "data" / "crawl").rglob("*") if path.is_file())
    assert holders(store, *needles, also=crawl) == []
    # The version stands as it was: nothing runs again, and its release is what its manifest says.
    told = call(clone, "dvc", "repro")
    assert "Running stage" not in told
    call(clone, "laion-dask", "verify", "data/release")
    # Of the version before, the record says which files are gone.
    files = {one["sha256"] for one in json.loads((clone / "purges.json").read_text())[-1]["files"]}
    assert {before[name.removeprefix("data/release/")]["sha256"] for name in held} <= files
    assert json.loads((clone / "purges.json").read_text())[-1]["uids_sha256"].count(gone) == 1
