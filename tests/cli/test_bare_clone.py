"""A clone in which nothing is built, and a folder that is no project: each command says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from typer.testing import CliRunner

from laion_dask.cli.main import app

NOT_BUILT = "nothing is built here: "
REMEDY = "Remedy: `make repro` builds the version in the project's folder; `dvc pull` fetches it"
# Command -> what a clone says, and what a folder without a project says.
COMMANDS = {
    "why https://a.example/1.jpg": (
        "why: there is no version to ask: data/release is missing",
        "params.yaml is missing",
    ),
    "index": (f"index: {NOT_BUILT}data/release is missing. {REMEDY}", "and this is not the folder of a project"),
    "mlflow": (f"mlflow: {NOT_BUILT}data/report, data/release are missing. {REMEDY}", "mlflow: params.yaml is missing"),
    "export subset --out o": (f"export: {NOT_BUILT}data/score, data/filter are missing", "not the folder of a project"),
    "trace": ("trace: no stage has a trace of this version", "trace: no stage has a trace of this version"),
    "audit sample": ("audit sample: data/download is missing: run the stage download", "params.yaml is missing"),
    "remove --count": ("remove: there is no version in data/. Remedy: `make repro`", "params.yaml is missing"),
    "publish hub a/b --dry-run": ("Remedy: `make repro`, or `dvc checkout` the version", "Remedy: `make repro`"),
    "verify data/release": ("data/release/manifest.json is missing. Remedy: ", "manifest.json is missing. Remedy: "),
    "params": ("", "params.yaml is missing"),
}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("params.yaml", "removals.csv", "dvc.yaml", "dvc.lock", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "metrics", folder / "metrics")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=lambda _, names: {*names} - {"config", ".gitignore"})
    identity = ("-c", "user.name=t", "-c", "user.email=t@t.example")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        programs.finished(["git", *identity, *words], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LAION_DASK_DSN", raising=False)
    monkeypatch.delenv("LAION_DASK_HOME", raising=False)
    return folder


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if ".git" not in path.parts}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_clone_is_told_what_is_missing_and_what_to_do_and_nothing_is_left_in_it(clone: Path, command: str) -> None:
    before = files(clone)
    status, _, told = run(*command.split())
    expected = COMMANDS[command][0]
    assert status == (1 if expected else 0)
    assert expected in told
    assert files(clone) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_no_project_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")
    status, _, told = run(*command.split())
    assert status == 1
    assert COMMANDS[command][1] in told
    assert files(tmp_path) == {"a folder"}


@pytest.mark.slow
@pytest.mark.usefixtures("clone")
def test_a_purge_of_a_clone_says_that_only_gits_objects_can_hold_anything_and_searches_them() -> None:
    status, said, told = run("purge", "--dry-run")
    assert status == 0
    assert told.startswith("purge: nothing is built here (there is no data/), so only DVC's cache, work folders and")
    assert "restore it first: `dvc pull`, or `make repro`" in told
    assert "no file holds them" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told_of"),
    [
        (("index", "HEAD"), "index: the tables of HEAD ("),
        (("diff", "HEAD", "HEAD"), "diff: data/release of HEAD ("),
    ],
)
def test_a_version_that_the_cache_lacks_is_told_with_the_remedy(
    clone: Path, words: tuple[str, ...], told_of: str
) -> None:
    status, _, told = run(*words)
    assert status == 1
    assert told.startswith(told_of)
    assert "cannot be read from DVC's cache" in told
    assert "Remedy: " in told
    assert "troubles" not in told
    assert clone.is_dir()
