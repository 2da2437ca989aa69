"""What ends a command from outside is one line and a status: a full disk, a reader that has gone, a damaged file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from typer.testing import CliRunner

from laion_dask.cli.main import app

COMMAND = [sys.executable, "-m", "laion_dask.cli.main"]


def test_a_reader_that_has_seen_enough_ends_it_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    run = programs.finished([*COMMAND, "columns"], cwd=ROOT, stdout=write)
    os.close(write)
    assert run.returncode == 1
    assert run.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to write to")
@pytest.mark.parametrize("command", ["columns", "params"])
def test_a_full_disk_is_one_line(command: str) -> None:
    with Path("/dev/full").open("w") as full:
        run = programs.finished([*COMMAND, command], cwd=ROOT, stdout=full)
    assert run.returncode == 1
    assert "No space left on device" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def test_a_damaged_table_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    for name in ("before", "now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "00000.parquet").write_bytes(b"junk")
    found = CliRunner().invoke(
        app, ["linkrot", str(tmp_path / "before"), str(tmp_path / "now"), "--out", str(tmp_path / "rot")]
    )
    assert found.exit_code == 1
    assert found.exception is None or isinstance(found.exception, SystemExit)
    assert "linkrot: " in found.output
    assert "Remedy: " in found.output
