"""`laion-dask mlflow` and `laion-dask mlflow ui`: what they say, and that no process of the server is left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.projects.project import left_behind
from made.servers import asked
from made.versions import logged
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.params import Params
from laion_dask.report.runs import places, view

UI = [str(Path(sys.executable).parent / "laion-dask"), "mlflow", "ui"]


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["mlflow", *words], env={"COLUMNS": "80"})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which nothing was built."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "LAION_DASK_HOME", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_says_when_to_use_which() -> None:
    status, said = run("--help")
    assert status == 0
    assert "laion-dask mlflow ui" in said
    status, said = run("ui", "--help")
    assert status == 0
    assert "ssh -L 5000" in said


@pytest.mark.usefixtures("project")
def test_without_a_version_there_is_nothing_to_log_or_to_show() -> None:
    for words in ((), ("ui",)):
        status, said = run(*words)
        assert status == 1
        assert "Remedy: `make repro` builds" in said


def test_a_database_without_runs_and_a_file_that_is_none_are_told(project: Path) -> None:
    (project / "mlflow.db").write_bytes(b"no database, but as long as a header of one has to be" * 20)
    status, said = run("ui")
    assert status == 1
    assert "cannot be read as MLflow's database" in said
    assert "Remedy" in said


@pytest.fixture(scope="module")
def logged_project(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "params.yaml", root)
    logged.write(root, defaults)
    logged.log(root, defaults)
    with closing(sqlite3.connect(root / "mlflow.db")) as database, database:
        database.execute("delete from experiment_tags")  # as earlier code left it
    return root


@pytest.fixture
def environment() -> dict[str, str]:
    leave = {"MLFLOW_TRACKING_URI", "LAION_DASK_HOME", "DISPLAY", "WAYLAND_DISPLAY"}
    return {name: value for name, value in os.environ.items() if name not in leave}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_address_opens_the_runs_and_a_signal_ends_every_process(
    logged_project: Path, environment: dict[str, str], number: signal.Signals, status: int
) -> None:
    with programs.running([*UI, "--port", "0"], cwd=logged_project, env=environment) as process:
        said = lines_until(process, "runs with thresholds and counts: ")
        address = said[-1].split(": ", 1)[1].strip()
        server = address.partition("/#/")[0]
        assert asked.get(f"{server}/health")[0] == 200
        found = places.experiment_id(logged_project / "mlflow.db", "test")
        assert found
        assert address == view.address(server, found)
        answer = asked.get(f"{server}/ajax-api/2.0/mlflow/experiments/get?experiment_id={found}")[1]
        assert view.NAME in answer.decode()
        below = programs.family(process.pid)
        assert len(below) > 1
        process.send_signal(number)
        rest = programs.ended(process)
        assert process.returncode == status, rest
        assert not [one for one in below if programs.is_there(one)]
    assert "Traceback" not in rest
    assert left_behind(logged_project) == []


@pytest.mark.slow
def test_a_port_that_is_in_use_is_told_with_what_to_do(logged_project: Path, environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = programs.finished([*UI, "--port", str(port)], cwd=logged_project, env=environment)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in done.stderr
    assert "--port 0 takes a free one" in done.stderr


@pytest.mark.slow
def test_a_server_that_cannot_start_is_told_with_its_last_lines(
    logged_project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    # What stands in for a broken installation: a module of this name that ends at once.
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text("")
    (tmp_path / "mlflow" / "__main__.py").write_text("raise SystemExit('no such library')")
    broken = environment | {"PYTHONPATH": str(tmp_path)}
    done = programs.finished([*UI, "--port", "0"], cwd=logged_project, env=broken)
    assert done.returncode == 1
    assert "no such library" in done.stderr
    assert "mlflow.log" in done.stderr


def lines_until(process: subprocess.Popen[str], start: str) -> list[str]:
    said = [programs.line_of(process)]
    while not said[-1].startswith(start):
        said.append(programs.line_of(process))
    return said
