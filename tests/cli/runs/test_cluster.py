"""`laion-dask cluster`: what each stage gets, and what comes of trying it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.processes.elsewhere import copy_of_code, scheduler, worker

pytestmark = pytest.mark.slow


def run(folder: Path, *words: str, **settings: object) -> tuple[int, str, str]:
    """Run the command in a folder, with settings of the cluster by the last part of their variable."""
    named = {f"DASK_LAION_DASK__CLUSTER__{name}": str(value) for name, value in settings.items()}
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT), **named}
    program = [sys.executable, "-c", "from laion_dask.cli.main import app; app(prog_name='laion-dask')", "cluster"]
    done = programs.finished([*program, *words], cwd=folder, env=environment)
    return done.returncode, done.stdout, done.stderr


def test_local_workers_are_opened_tried_and_ended_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    status, said, told = run(tmp_path / "a folder", WORKERS=2)
    assert (status, told) == (0, "")
    assert "│ all    │ local (auto) │ 2" in said
    assert "scheduler: tls://127.0.0.1:" in said
    assert "dashboard: none" in said
    assert "2 workers may work" in said
    assert "tiny parts: the first was finished after " in said
    assert said.endswith("ended\n")
    assert list((tmp_path / "a folder").iterdir()) == []
    assert max(len(line) for line in said.splitlines() if not line.startswith("folder ")) <= 160


def test_stages_with_equal_settings_share_a_row(tmp_path: Path) -> None:
    status, said, _ = run(
        tmp_path, "--settings", DOWNLOAD__WORKERS=3, DOWNLOAD__RESOURCES="{'NET': 1}", PATIENCE="2 hours"
    )
    assert status == 0
    rows = [line for line in said.splitlines() if line.startswith("│")]
    assert len([row for row in rows if "download" in row]) == 1
    (row,) = [row for row in rows if "download" in row]
    assert "NET: 1" in row
    assert "2 h 00 min" in row
    assert "extract, catalog" in said
    assert "scheduler" not in said


def test_a_dashboard_that_is_asked_for_has_a_link(tmp_path: Path) -> None:
    status, said, _ = run(tmp_path, WORKERS=1, DASHBOARD="127.0.0.1:0")
    assert status == 0
    assert "dashboard: http://127.0.0.1:" in said


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (["scoer"], {}, "cluster: 'scoer' is no stage. Remedy: use crawl, extract, "),
        (
            [],
            {"KIND": "slurm"},
            "laion-dask.cluster.kind = 'slurm' is not known. Remedy: use auto",
        ),
        (
            ["score"],
            {"SCORE__WORKERS": 0},
            "laion-dask.cluster.score.workers = 0 is refused. Remedy: a",
        ),
        (
            [],
            {"KIND": "tcp://127.0.0.1:1", "WORKER": 3},
            "cluster.worker = 3 is not a setting. Remedy: did you mean",
        ),
        (
            [],
            {"KIND": "no/scheduler.json"},
            "laion-dask.cluster.kind = 'no/scheduler.json': there is",
        ),
    ],
)
def test_what_is_wrong_ends_it_with_the_remedy(
    tmp_path: Path, words: list[str], settings: dict[str, object], said: str
) -> None:
    status, _, told = run(tmp_path, *words, **settings)
    assert status == 1
    assert said in told
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_is_refused_is_named_with_the_remedy_beside_those_that_may_work(tmp_path: Path) -> None:
    code = copy_of_code(tmp_path / "code")
    (code / "laion_dask" / "added.py").write_text("")
    (tmp_path / "here").mkdir()
    with (
        scheduler(tmp_path / "scheduler") as address,
        worker(address, tmp_path / "good"),
        worker(address, tmp_path / "bad", code) as bad,
    ):
        status, said, told = run(tmp_path / "here", "extract", KIND=address)
    assert status == 1
    assert "1 workers may work" in said
    assert told.count(f"process {bad.pid} is refused: its code is not the driver's: laion_dask's files ") == 1
    assert "Remedy: install the same commit" in told
    assert told.endswith("cluster: 1 workers are refused, for the reasons above\n")
