"""Each worker process of a host takes a GPU of its own; tried with names of GPUs, and without the cards."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs

from laion_dask.workers import gpus

UUIDS = ["GPU-aaaa", "GPU-abbb", "GPU-cccc"]
TAKES = """
import os, sys
from pathlib import Path
from laion_dask.workers import gpus

print(gpus.take(sys.argv[2:], Path(sys.argv[1])) or os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
print(gpus.take(sys.argv[2:], Path(sys.argv[1])) or os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


def test_processes_take_one_each_keep_it_and_give_it_back_when_they_end(tmp_path: Path) -> None:
    import subprocess

    command = [sys.executable, "-c", TAKES, str(tmp_path / "locks"), *UUIDS[:2]]
    options = {"stdin": subprocess.PIPE, "cwd": ROOT}
    with ExitStack() as running:
        first = running.enter_context(programs.running(command, **options))
        assert [programs.line_of(first).strip() for _ in range(2)] == ["GPU-aaaa"] * 2
        second = running.enter_context(programs.running(command, **options))
        assert [programs.line_of(second).strip() for _ in range(2)] == ["GPU-abbb"] * 2
        with programs.running(command, **options) as third:
            said = programs.line_of(third)
        assert said.strip() == "other workers of this host have taken all GPUs that it sees (2)"
        programs.kill(first)
        first.wait()
        with programs.running(command, **options) as fourth:
            assert programs.line_of(fourth).strip() == "GPU-aaaa"
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    os.chown(tmp_path, 65_534, -1)
    assert "belongs to another user" in gpus.take(UUIDS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_process_without_gpus_takes_none(tmp_path: Path) -> None:
    assert gpus.take([], tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("0,1,2", UUIDS),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        (" 1 ", ["GPU-abbb"]),
        ("GPU-c", ["GPU-cccc"]),
        ("GPU-a,0", ["GPU-aaaa", "GPU-aaaa"]),
        ("0,7,1", ["GPU-aaaa"]),
        ("GPU-x,1", []),
        ("0,,1", ["GPU-aaaa"]),
    ],
)
def test_the_environment_names_gpus_as_cuda_reads_it(allowed: str, expected: list[str]) -> None:
    assert gpus.chosen(UUIDS, allowed) == expected


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_are_not_seen(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpus.visible() == []
