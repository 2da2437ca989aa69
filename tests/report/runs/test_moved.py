"""A project that was moved or copied: MLflow shows its own artifacts, and writes into no other."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from made.processes import programs
from made.servers import asked
from made.versions import logged

from laion_dask.params import Params
from laion_dask.report.runs import store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> tuple[Path, str]:
    """A project with one run, in the folder where it was made."""
    root = tmp_path_factory.mktemp("first") / "project"
    root.mkdir()
    logged.write(root, defaults)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        # Not in the project: a stage may work in a copy of it.
        patch.chdir(root.parent)
        run = logged.log(root, defaults)
    assert not (root.parent / "mlruns").exists()
    return root, run


@pytest.fixture
def moved(first: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same project in another folder."""
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return Path(shutil.copytree(first[0], tmp_path / "another folder"))


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def record_absolute(root: Path, recorded: Path) -> None:
    """Record the addresses as MLflow does, and as earlier code did."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        prefix = [f"{recorded.as_uri()}/"]
        database.execute(
            "update experiments set artifact_location = ? || artifact_location where name = 'test'", prefix
        )
        database.execute("update runs set artifact_uri = ? || artifact_uri", prefix)


def test_the_client_finds_the_artifacts_of_a_moved_project(
    first: tuple[Path, str], moved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = moved / "mlruns" / first[1] / "artifacts" / "report.html"
    report.write_text("the copy's")
    monkeypatch.chdir(moved)
    with store.quiet():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
        assert "report.html" in {item.path for item in client.list_artifacts(first[1])}
        assert Path(client.download_artifacts(first[1], "report.html")).read_text() == "the copy's"


def test_the_page_shows_the_artifacts_of_a_moved_project(first: tuple[Path, str], moved: Path) -> None:
    report = moved / "mlruns" / first[1] / "artifacts" / "report.html"
    report.write_text("the copy's")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlflow.db"]
    command += ["--port", str(port), "--workers", "1"]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://127.0.0.1:{port}"

    with programs.running(command, cwd=moved, env=os.environ | settings) as server:
        programs.until(lambda: asked.get(f"{address}/health")[0] == 200, "MLflow's page answers", server)
        assert asked.get(f"{address}/get-artifact?path=report.html&run_uuid={first[1]}") == (200, b"the copy's")
        assert b"report.html" in asked.get(f"{address}/ajax-api/2.0/mlflow/artifacts/list?run_id={first[1]}")[1]


@pytest.mark.parametrize("absolute", [False, True], ids=["relative addresses", "absolute addresses of earlier code"])
def test_a_copied_project_writes_into_itself_alone(
    first: tuple[Path, str],
    moved: Path,
    defaults: Params,
    monkeypatch: pytest.MonkeyPatch,
    absolute: bool,  # noqa: FBT001 - a case
) -> None:
    root, run = first
    if absolute:
        record_absolute(moved, root)
    before = content(root)
    monkeypatch.chdir(moved.parent)
    assert logged.log(moved, defaults) == run
    second = logged.log(moved, logged.with_threshold(defaults, 0.35))
    assert (moved / "mlruns" / second / "artifacts" / "report.html").is_file()
    assert not (moved.parent / "mlruns").exists()
    assert content(root) == before
    with closing(sqlite3.connect(moved / "mlflow.db")) as database:
        addresses = {uri for (uri,) in database.execute("select artifact_uri from runs")}
    assert addresses == {f"mlruns/{one}/artifacts" for one in (run, second)}


def test_an_artifact_that_is_read_only_or_a_link_to_the_cache_is_replaced_and_its_source_stays(
    first: tuple[Path, str], moved: Path, tmp_path: Path, defaults: Params
) -> None:
    report = moved / "mlruns" / first[1] / "artifacts" / "report.html"
    report.unlink()
    source = tmp_path / "cached"
    source.write_text("of the cache")
    source.chmod(0o444)
    report.hardlink_to(source)
    logged.log(moved, defaults)
    assert report.read_bytes() == (moved / "data" / "report" / "report.html").read_bytes()
    assert source.read_text() == "of the cache"
