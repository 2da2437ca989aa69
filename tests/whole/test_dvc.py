"""Versions: `dvc repro` and `dvc exp run` in a clone, what runs again, and what MLflow and `dvc metrics diff` show."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
import shutil
import signal
import sqlite3
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.processes import programs
from made.processes.elsewhere import scheduler, worker
from made.projects.built import ENVIRONMENT, call
from made.projects.project import Project

from laion_dask.versions import identity

pytestmark = pytest.mark.slow
TOOK = ("seconds", "processor hours")
BEHIND_FILTER = ("filter", "translate", "caption", "release", "report")


@pytest.fixture(scope="module")
def clone(built: tuple[Path, Project], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Git repository with the small demo built in it, whose stages now share one worker that stays.

    A cluster for each of twenty stages takes seconds each; that they start their own is shown where the demo is built.
    """
    folder, _ = built
    base = tmp_path_factory.mktemp("cluster")
    with (
        scheduler(base) as address,
        worker(address, base / "w", folder),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setitem(ENVIRONMENT, "DASK_LAION_DASK__CLUSTER__KIND", address)
        yield folder


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


def ran_in(said: str) -> list[str]:
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]


def test_a_second_run_looks_for_changed_inputs_and_finds_nothing_to_do(clone: Path) -> None:
    before = (clone / "dvc.lock").read_bytes()
    said = call(clone, "dvc", "repro")
    assert ran_in(said) == ["inputs"]
    assert "Stage 'report' didn't change, skipping" in said
    assert (clone / "dvc.lock").read_bytes() == before


def test_times_lie_beside_the_version_and_are_no_part_of_it(clone: Path, tmp_path: Path) -> None:
    (run,) = runs(clone)
    took = {name.split("/")[1] for name in run["latest_metrics"] if name.startswith("system/")}
    assert took == {*(f"{stage} {what}" for stage in identity.STAGES for what in TOOK), "peak memory GB"}
    page = (clone / "data" / "report" / "report.html").read_text()
    shown = re.findall(r'data="\.\./trace/((?:origin|parent|timeline)-\w+\.svg)"', page)
    assert sorted(path.name for path in (clone / "data" / "trace").glob("*.svg")) == sorted(shown)
    assert len(shown) == 3
    assert "download" in call(clone, "laion-dask", "trace")
    lock, status = (clone / "dvc.lock").read_bytes(), call(clone, "dvc", "status")
    assert "trace" not in status
    assert call(clone, "git", "status", "--porcelain") == ""
    traces = shutil.move(clone / "data" / "trace", tmp_path)
    assert (ran_in(call(clone, "dvc", "repro")), call(clone, "dvc", "status")) == (["inputs"], status)
    assert (clone / "dvc.lock").read_bytes() == lock
    shutil.move(traces, clone / "data")


def test_another_threshold_runs_filter_and_what_reads_it_only_and_is_another_version(clone: Path) -> None:
    assert len(runs(clone)) == 1
    said = call(clone, "dvc", "exp", "run", "-S", "filter.similarity.en=0.80")
    assert ran_in(said) == ["inputs", *BEHIND_FILTER]
    low, high = runs(clone)
    assert (float(low["params"]["filter.similarity.en"]), float(high["params"]["filter.similarity.en"])) == (0.25, 0.8)
    kept, dropped = "funnel/filter kept", "dropped/low_similarity"
    assert float(low["latest_metrics"][kept]) > float(high["latest_metrics"][kept])
    assert float(low["latest_metrics"][dropped]) < float(high["latest_metrics"][dropped])
    assert low["tags"]["laion_dask.version"] != high["tags"]["laion_dask.version"]
    assert "system/filter seconds" in high["latest_metrics"]
    assert high["tags"]["mlflow.runName"].startswith("similarity.en 0.8 (")
    assert "filter: its trace" not in call(clone, "laion-dask", "trace")
    changes = json.loads(call(clone, "dvc", "metrics", "diff", "--json"))
    assert changes["metrics/summary.json"]["kept"]["diff"] < 0


def test_the_tables_of_dvc_fit_120_columns_and_its_plots_show_both_versions(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "COLUMNS", "120")
    shown = call(clone, "dvc", "exp", "show", "--no-pager", "--only-changed", "--drop", ".*/")
    for name in ("kept", "recall", "filter.similarity.en", "0.25", "0.8"):
        assert name in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown  # what does not fit is cut so
    numbers = call(clone, "dvc", "metrics", "show")
    assert "precision" in numbers
    assert max(len(line) for line in (shown + numbers).splitlines()) <= 120
    call(clone, "dvc", "plots", "diff", "HEAD", "workspace", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots" / "index.html").read_text()
    assert page.count("vegaEmbed(") == 4
    assert {rev for rev in ("HEAD", "workspace") if f'"rev": "{rev}"' in page} == {"HEAD", "workspace"}


def test_a_file_that_changes_under_its_name_runs_what_reads_it_and_nothing_before(clone: Path) -> None:
    words = clone / "words.txt"
    words.write_text("a\n")
    params = clone / "params.yaml"
    params.write_text(re.sub(r"text_entities:[^#\n]*", "text_entities: words.txt  ", params.read_text()))
    # What follows a filter that has run is the matter of the test before.
    assert ran_in(call(clone, "dvc", "repro", "filter")) == ["inputs", "filter"]
    assert ran_in(call(clone, "dvc", "repro", "filter")) == ["inputs"]
    kept = json.loads((clone / "metrics" / "filter.json").read_text())["pairs"]["kept"]
    words.write_text("no such word\n")
    assert ran_in(call(clone, "dvc", "repro", "filter")) == ["inputs", "filter"]
    assert json.loads((clone / "metrics" / "filter.json").read_text())["pairs"]["kept"] < kept
    call(clone, "git", "checkout", "--", ".")
    call(clone, "dvc", "checkout", "--force")
    words.unlink()


def test_filing_the_same_version_again_adds_no_run(clone: Path) -> None:
    before = len(runs(clone))
    call(clone, "laion-dask", "mlflow")
    assert len(runs(clone)) == before


def test_a_sweep_leaves_the_workspace_alone_files_each_version_once_and_finds_what_was_run(clone: Path) -> None:
    (clone / "params.yaml").write_bytes(call(clone, "git", "show", "HEAD:params.yaml").encode())
    call(clone, "dvc", "checkout", "--quiet")
    call(clone, "git", "checkout", "--", ".")
    before = (clone / "params.yaml").read_bytes(), call(clone, "git", "status", "--porcelain")
    filed = len(runs(clone))
    sweep = (sys.executable, "-m", "experiments.sweep", "filter.similarity.en", "0.30,0.80", "--out", "answer")
    said = call(clone, *sweep, "--name", "en")
    assert "2 experiments, 0 of them there already" in said
    ran = [ran_in(path.read_text()) for path in (clone / ".laion_dask" / "experiments").glob("*.log")]
    # One keeps the same pairs as the committed version, so that they need no new texts. A test before has run and filed
    # the other one.
    assert sorted(ran) == [["inputs", "filter", "release", "report"], ["inputs", *BEHIND_FILTER]]
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
    # Both are child runs of the comparison, which is no child itself.
    assert len({tags["mlflow.parentRunId"] for tags in tagged}) == 1
    assert "mlflow.parentRunId" not in made[1]["tags"]
    again = call(clone, *sweep, "--name", "en")
    assert "2 experiments, 2 of them there already" in again
    assert len(runs(clone)) == filed + 2
    shutil.rmtree(clone / "answer")


def test_a_lost_mlflow_is_restored_from_git_and_the_cache(clone: Path) -> None:
    (clone / "mlflow.db").unlink()
    said = call(clone, sys.executable, "-m", "experiments.rebuild_mlflow")
    restored = runs(clone)
    # The committed version, the experiment by hand, and the new one of the sweep.
    assert len(restored) == 3, said
    assert {run["params"]["filter.similarity.en"] for run in restored} == {"0.25", "0.3", "0.8"}
    assert all(run["tags"]["dvc.rev"] for run in restored)
    assert "0 runs restored" in call(clone, sys.executable, "-m", "experiments.rebuild_mlflow")


def holders(folder: Path, *needles: bytes, also: tuple[Path, ...] = ()) -> list[str]:
    """List the files under a folder that hold any of these bytes, packed or not; not what is the web here.

    Written apart from laion_dask/removals/traces/traces.py: it proves what that says.
    """
    found = []
    wanted = [*needles, *(html.escape(needle.decode("latin-1")).encode("latin-1") for needle in needles)]
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
        if any(needle in body for needle in wanted):
            found.append(name)
    return found


def rows(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


@dataclass(frozen=True)
class Gone:
    """A released pair that a removal takes out: what it is known by, and where it was."""

    row: dict[str, Any]
    needles: tuple[bytes, ...]
    tombstone: str
    files: dict[str, str]
    """The files of the release that had it, with their sha256."""
    told: str
    """What `dvc repro` says after the removal."""


# The last ones: they take away what the versions before had.
@pytest.fixture(scope="module")
def gone(clone: Path) -> Gone:
    """Push the version, ask for the removal of a pair, and build the next version."""
    call(clone, "dvc", "checkout", "--force")
    call(clone, "dvc", "repro")
    call(clone, "dvc", "remote", "add", "store", str(clone.parent / "store"))
    call(clone, "dvc", "push", "--remote", "store")
    release = rows(min((clone / "data" / "release").glob("en-*.parquet")))
    # What another pair has too stays: the copies of a picture, a text that many pages have.
    images = [row for path in sorted((clone / "data" / "download").glob("0*.parquet")) for row in rows(path)]
    pairs = [row for path in sorted((clone / "data" / "extract" / "pairs").glob("*.parquet")) for row in rows(path)]
    same = Counter(row["sha256"] for row in images), Counter(row["text"] for row in pairs)
    urls = Counter(row["url"] for row in pairs)
    pair = next(row for row in release if (same[0][row["sha256"]], same[1][row["TEXT"]], urls[row["URL"]]) == (1, 1, 1))
    shard = clone / "data" / "download" / f"{pair['key'][:5]}.tar"
    with tarfile.open(shard) as tar:
        picture = next(tar.extractfile(one).read() for one in tar if one.name.startswith(f"{pair['key']}.j"))  # type: ignore[union-attr]
    needles = pair["URL"].encode(), pair["sha256"].encode(), pair["TEXT"].encode(), picture
    before = json.loads((clone / "data" / "release" / "manifest.json").read_text())["files"]
    held = [name.removeprefix("data/release/") for name in holders(clone, *needles) if name.startswith("data/release/")]
    told = call(clone, "laion-dask", "remove", "url", pair["URL"], "--reason", "asked for", "--source", "form 17")
    assert "removes 1 of " in told
    tombstone = hashlib.sha256(pair["uid"].encode()).hexdigest()
    files = {name: before[name]["sha256"] for name in held}
    return Gone(pair, needles, tombstone, files, call(clone, "dvc", "repro"))


def test_a_removed_pair_is_gone_from_every_output_without_a_new_download_and_why_explains_it(
    clone: Path, gone: Gone
) -> None:
    assert gone.files
    said = {line.split()[0]: line for line in gone.told.splitlines() if " seen, " in line}
    for stage in ("download", "score"):
        # Of the shard that lost the pair all other rows are taken over, and nothing is requested or scored.
        assert "taken over" in said[stage]
        assert "made" not in said[stage]
    stones = rows(clone / "data" / "release" / "tombstones.parquet")
    assert {"uid_sha256": gone.tombstone, "reason": "removed_url", "since": "1.0.0"} in stones
    held = {name.split("/")[1] for name in holders(clone, *gone.needles) if name.startswith("data/")}
    assert held == {"extract"}  # what the crawls had
    for question in (gone.row["uid"], gone.row["URL"]):
        answer = json.loads(call(clone, "laion-dask", "why", question, "--json").partition("{")[2].join(["{", ""]))
        found = next(one for one in answer["pairs"] if one["uid"] == gone.row["uid"])
        assert (found["removed"], found["uid_sha256"], found["since"]) == (True, gone.tombstone, "1.0.0")
        assert gone.row["TEXT"] not in json.dumps(answer)


def test_a_purge_that_was_killed_and_run_again_leaves_no_byte_of_a_pair_gone_from_every_output(
    clone: Path, gone: Gone
) -> None:
    assert "would be rewritten" in call(clone, "laion-dask", "purge", "--dry-run")
    held = holders(clone, *gone.needles)
    assert [name for name in held if name.startswith(".laion_dask/parts/download/")]
    assert [name for name in held if name.startswith(".dvc/cache/")]
    # Killed as soon as it has said what it will do: nothing is lost of what it knew.
    with programs.running(("laion-dask", "purge", "--remote", "store"), cwd=clone, env=ENVIRONMENT) as killed:
        programs.until((clone / "purges.json").is_file, "it has said what it will do", killed)
        killed.kill()
        said = programs.ended(killed)
    assert killed.returncode == -signal.SIGKILL, said
    (begun,) = json.loads((clone / "purges.json").read_text())
    assert begun["files"]
    assert begun["proof"] is None
    told = call(clone, "laion-dask", "purge")
    assert "continuing the interrupted purge" in told
    assert '"left": []' in told
    assert holders(clone, *gone.needles) == []
    crawl = tuple(path for path in (clone / "data" / "crawl").rglob("*") if path.is_file())
    assert holders(clone.parent / "store", *gone.needles, also=crawl) == []
    # The version stands as it was: nothing runs again, and its release is what its manifest says.
    assert ran_in(call(clone, "dvc", "repro")) == ["inputs"]
    call(clone, "laion-dask", "verify", "data/release")
    # Of the version before, the record says which files are gone.
    (entry,) = json.loads((clone / "purges.json").read_text())
    assert {*gone.files.values()} <= {one["sha256"] for one in entry["files"]}
    assert entry["uids_sha256"].count(gone.tombstone) == 1
    assert entry["objects"] == begun["objects"] != []
    assert entry["proof"]["left"] == 0
    assert str(clone) not in json.dumps(entry)
