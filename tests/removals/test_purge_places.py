"""A purge looks into every place of a project; what it may not delete or cannot read is named and ends the proof."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest
from made.processes import programs
from made.projects.dvc_projects import call, dvc, under_dvc
from made.projects.removed_pairs import body, build, text, uid, url
from made.texts import trace_cases
from made.versions import tables
from ruamel.yaml import YAML
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.removals import purge_record
from laion_dask.removals.purge_record import RECORD

GONE: Final = (0, 1)
KEPT: Final = (0, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made") / "p")


def purged(project: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, Any]:
    """Purge; return its status, what it says, and the JSON of its last line."""
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["purge", *arguments])
    told = next((line for line in reversed(done.output.splitlines()) if line.startswith("{")), "{}")
    return done.exit_code, done.output, json.loads(told)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "notes.csv",
        "audit/audit.html",
        "audit/sample.csv",
        "deep/er/and/deeper/list.txt",
        ".dvc/plots/a.json",
        "metrics/a.json",
        ".hidden",
        "data/notes/more.txt",
    ],
)
@pytest.mark.parametrize("value", [url(*GONE), text(*GONE), f"{url(*GONE)}?at=last"])
def test_a_trace_in_any_file_of_the_project_is_told_and_nothing_is_proved(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    # The address of a kept pair stands there too, as in any list.
    (project / name).write_text(f"1,{url(*KEPT)},{text(*KEPT)}\n2,{value},x\n", encoding="utf-8")
    status, said, _ = purged(project, monkeypatch)
    assert status == 1
    assert name in said
    assert "Remedy: " in said
    (project / name).write_text(f"1,{url(*KEPT)},{text(*KEPT)}\n", encoding="utf-8")
    assert purged(project, monkeypatch)[0] == 0


@pytest.mark.parametrize("case", ["tar.gz", "zip", "npz", "bzip2", "xz", "zstd", "sqlite, deleted", "feather, struct"])
def test_a_trace_in_a_packed_file_of_the_project_is_told(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    (project / "mine").write_bytes(trace_cases.CASES[case](url(*GONE)))
    status, _, told = purged(project, monkeypatch)
    assert (status, told["left"]) == (1, ["mine"])


def test_a_stored_picture_as_a_plain_file_is_told(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = shutil.copytree(made, tmp_path / "p")
    (fresh / "holiday.dat").write_bytes(body(*GONE))
    (fresh / "other.dat").write_bytes(body(*KEPT))
    status, _, told = purged(fresh, monkeypatch)
    assert (status, told["left"]) == (1, ["holiday.dat"])
    # All else has gone meanwhile; the next purge goes on, still knows the picture, and proves it.
    (entry,) = json.loads((fresh / RECORD).read_text())
    assert entry["files"]
    assert entry["proof"] is None
    (fresh / "holiday.dat").unlink()
    assert purged(fresh, monkeypatch)[0] == 0
    assert json.loads((fresh / RECORD).read_text())[0]["proof"]["left"] == 0


@pytest.mark.parametrize(
    "content", [gzip.compress(b"a" * 999)[:-4], trace_cases.zipped(b"a" * 999)[:-9], b"7z\xbc\xaf\x27\x1c" + bytes(99)]
)
def test_a_file_that_cannot_be_read_is_told_and_nothing_is_proved(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    (project / "mine").write_bytes(content)
    status, said, told = purged(project, monkeypatch)
    assert (status, told["left"], list(told["unread"])) == (1, [], ["mine"])
    assert "nothing is proved" in said
    (entry,) = json.loads((project / RECORD).read_text())
    assert entry["files"], "what can be deleted is deleted all the same"
    assert entry["proof"] is None
    assert (project / ".laion_dask" / purge_record.TRACES).exists()
    (project / "mine").unlink()
    assert purged(project, monkeypatch)[0] == 0
    (entry,) = json.loads((project / RECORD).read_text())
    assert entry["proof"]["left"] == 0


def test_the_proof_says_what_was_looked_into_what_was_not_and_how(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    assert purged(project, monkeypatch)[0] == 0
    (entry,) = json.loads((project / RECORD).read_text())
    proof = entry["proof"]
    assert proof["scanned"] > 10
    assert proof["bytes"] > 10_000
    assert proof["members"] > 5
    assert {"parquet", "tar", "text", "zstd"} <= set(proof["kinds"])
    assert (proof["left"], proof["unread"]) == (0, {})
    assert proof["traces"]["urls"] == 10
    assert "removals.csv" in proof["not_looked_into"]
    assert proof["method"]
    assert proof["limits"]
    told = json.dumps(entry)
    assert url(*GONE) not in told
    assert str(project) not in told


def test_what_an_experiment_left_behind_is_deleted(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    shard = project / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1" / "data" / "download" / "00000.tar"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(trace_cases.tar("1.txt", text(*GONE).encode()))
    (shard.parent / "00001.tar").write_bytes(trace_cases.tar("1.txt", text(*KEPT).encode()))
    status, said, _ = purged(project, monkeypatch)
    assert status == 0, said
    assert [path.name for path in shard.parent.iterdir()] == ["00001.tar"]


@pytest.mark.parametrize("beside", [False, True], ids=["an absolute address", "a relative address elsewhere"])
def test_artifacts_are_looked_for_where_mlflow_has_recorded_them(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    beside: bool,  # noqa: FBT001 - a case
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    elsewhere = tmp_path / "moved" / "mlruns" / "1" / "artifacts"
    elsewhere.mkdir(parents=True)
    (elsewhere / "old.html").write_text(f"<a href={url(*GONE)}>")
    (elsewhere / "new.html").write_text(f"<a href={url(*KEPT)}>")
    # A relative address is read from the folder of the database, wherever purge is run.
    database = tmp_path / "moved" / "mlflow.db" if beside else project / "mlflow.db"
    connection = sqlite3.connect(database)
    connection.execute("create table experiments (artifact_location text)")
    connection.execute("create table runs (artifact_uri text)")
    connection.execute(
        "insert into experiments values (?)", ["mlruns" if beside else f"file://{tmp_path}/moved/mlruns"]
    )
    connection.execute("insert into runs values ('s3://bucket/1')")
    connection.commit()
    connection.close()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if beside:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    status, said, _ = purged(project, monkeypatch)
    assert status == 0, said
    assert [path.name for path in elsewhere.iterdir()] == ["new.html"]
    assert "s3://bucket/1" in said


def test_a_folder_elsewhere_is_looked_into_when_it_is_named(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "audit.html").write_text(f"<p>{url(*GONE)}</p>")
    assert purged(project, monkeypatch)[0] == 0
    status, _, told = purged(project, monkeypatch, "--also", "../audit")
    assert (status, told["left"]) == (1, ["../audit/audit.html"])
    status, said, _ = purged(project, monkeypatch, "--also", "../absent")
    assert status == 1
    assert "Remedy: name an existing folder" in said


def test_inputs_and_lists_that_parameters_name_stand_for_the_web_and_are_left(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    yaml = YAML()
    values = yaml.load(project / "params.yaml")
    values["crawl"]["files"] = ["wats/*.wat"]
    values["catalog"]["lists"] = [{"name": "partner", "kind": "url_md5", "file": "lists/partner.txt"}]
    yaml.dump(values, project / "params.yaml")
    for name in ("wats/1.wat", "lists/partner.txt"):
        (project / name).parent.mkdir()
        (project / name).write_text(f"{url(*GONE)}\n")
    status, said, _ = purged(project, monkeypatch)
    assert status == 0, said
    assert "not searched: wats/1.wat" in said
    assert "not searched: lists/partner.txt" in said


def test_objects_of_git_are_looked_into_but_for_the_ledger(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    call(project, "git", "init", "-q")
    (project / ".gitignore").write_text("/data/\n/.laion_dask/\n/mlruns/\n")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "all")
    # A ledger that was staged and never committed, which no commit reaches.
    ledger = (project / "removals.csv").read_text()
    (project / "removals.csv").write_text(f"{ledger}url,{url(1, 0)},again,2026-02-01,form\n")
    call(project, "git", "add", "removals.csv")
    (project / "removals.csv").write_text(ledger)
    call(project, "git", "add", "removals.csv")
    status, said, _ = purged(project, monkeypatch)
    assert status == 0, said
    (project / "leak.txt").write_text(f"look: {url(*GONE)}, please\n")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "leak")
    (project / "leak.txt").unlink()
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "gone")
    call(project, "git", "gc", "-q")
    status, _, told = purged(project, monkeypatch)
    assert status == 1
    assert [name.rpartition(" ")[0] for name in told["left"]] == [".git object"]


NAMES: Final[dict[str, Callable[[Path], Path]]] = {
    "a mirror of the web": lambda project: project / "mirror" / url(*GONE).partition("//")[2],
    "an address that was escaped": lambda project: project / f"{quote(url(*GONE), safe='')}.html",
    "a text": lambda project: project / f"{text(*GONE)}.txt",
}


@pytest.mark.parametrize("case", NAMES)
def test_a_trace_in_the_name_of_a_file_is_told(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    path = NAMES[case](project)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nothing")
    status, _, told = purged(project, monkeypatch)
    assert (status, told["left"]) == (1, [str(path.relative_to(project))])


def test_what_git_keeps_beside_its_objects_is_looked_into(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    call(project, "git", "init", "-q")
    call(project, "git", "init", "-q", "--bare", "backup.git")
    (project / ".git" / "lfs" / "objects").mkdir(parents=True)
    (project / ".git" / "lfs" / "objects" / "ab").write_text(text(*GONE))
    (project / ".git" / "COMMIT_EDITMSG").write_text(f"take out {url(*GONE)}\n")
    blob = ("git", f"--git-dir={project / 'backup.git'}", "hash-object", "-w", "--stdin")
    programs.finished(blob, input=text(*GONE), check=True)
    status, _, told = purged(project, monkeypatch)
    assert status == 1
    assert [name.rpartition(" object ")[0] or name for name in told["left"]] == [
        ".git/COMMIT_EDITMSG",
        ".git/lfs/objects/ab",
        "backup.git",
    ]


@pytest.mark.slow
def test_what_only_an_older_version_has_is_looked_for_and_deleted_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = build(tmp_path / "p")
    pairs = project / "data" / "extract" / "pairs" / "00.parquet"
    now = pairs.read_bytes()
    old = {"uid": tables.uid(99), "url": "https://old.example/only.jpg", "text": "a text that only version one has"}
    here = pq.read_table(pairs).to_pylist()
    tables.write(pairs, tables.pairs(*here, old))
    under_dvc(project, "copy")  # version v1
    pairs.chmod(0o644)
    pairs.write_bytes(now)
    with (project / "removals.csv").open("a") as stream:
        stream.write(f"url,{old['url']},asked,2026-01-02,form\n")
    dvc(project, "commit", "--force", "--quiet")
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "v2")
    call(project, "git", "branch", "-M", "master")
    (project / "copied.csv").write_text(f'7,"{old["text"]}",en\n')
    status, said, told = purged(project, monkeypatch)
    assert (status, told["left"]) == (1, ["copied.csv"]), said
    (project / "copied.csv").unlink()
    status, said, _ = purged(project, monkeypatch)
    assert status == 0, said
    (entry,) = json.loads((project / RECORD).read_text())
    assert entry["pairs"] == 6
    # The committed versions have lost tables: that is told, as nothing more can be learned of them.
    assert entry["proof"]["versions"]["tables_missing"] == ["master", "v1"]
    assert "version v1: some of its tables are not in the cache" in said
    cache = project / ".dvc" / "cache"
    for path in (path for path in cache.rglob("*") if path.is_file()):
        assert not trace_of(path, old["url"], old["text"]), path


def trace_of(path: Path, *values: str) -> bool:
    """Written apart from what it checks."""
    content = path.read_bytes()
    if content[:4] == b"PAR1":
        content = repr(pq.read_table(path).to_pylist()).encode()
    return any(value.encode() in content for value in values)


PLACES: Final[dict[str, Callable[[Path], Path]]] = {
    "a link to a file elsewhere": lambda project: project / "link.txt",
    "a link to a folder elsewhere": lambda project: project / "folder" / "list.txt",
}


@pytest.mark.parametrize("name", PLACES)
def test_links_that_lead_out_of_the_project_are_followed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "list.txt").write_text(url(*GONE))
    path = PLACES[name](project)
    if path.parent == project:
        path.symlink_to(tmp_path / "elsewhere" / "list.txt")
    else:
        path.parent.symlink_to(tmp_path / "elsewhere")
    (project / "loop").symlink_to(project)
    (project / "nowhere").symlink_to(project / "absent")
    status, _, told = purged(project, monkeypatch)
    assert (status, told["left"]) == (1, [str(path.relative_to(project))])
    assert uid(*GONE) in (project / "removals.csv").read_text()
    assert sys.platform == "linux" or path.exists()
