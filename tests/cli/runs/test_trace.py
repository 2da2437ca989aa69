"""`laion-dask trace`: traces in, a table of stages that fits 80 columns out, or one line where there is none."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.versions import traces
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.report.stage_times import STAGES
from laion_dask.runner.part import Part
from laion_dask.runner.trace import Measured
from laion_dask.runner.trace_file import Trace


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages have a trace each."""
    monkeypatch.chdir(tmp_path)
    data, metrics = Path("data"), Path("metrics")
    metrics.mkdir()
    for stage in STAGES:
        (data / stage).mkdir(parents=True)
        (metrics / f"{stage}.json").write_text("{}")
        traces.write(data, metrics, stage, 3, seconds=len(stage))
    return tmp_path


def run(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["trace", *args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.mark.usefixtures("here")
def test_every_stage_has_a_line_with_time_processor_time_parts_memory_and_bytes() -> None:
    status, said = run()
    assert status == 0
    lines = {words[0]: words for line in said.splitlines() if len(words := line.split()) > 5}
    assert list(lines) == ["stage", *STAGES, "all"]
    assert lines["download"][3:] == ["24", "s", "3", "8.0", "s", "2.00", "GB", "1.50", "kB"]
    assert " 33 " in " ".join(lines["all"])
    assert "another version" not in said


@pytest.mark.usefixtures("here")
def test_the_slowest_parts_are_listed_where_they_are_asked_for() -> None:
    said = run("--parts", "4")[1]
    rows = [line.split() for line in said.partition("The slowest parts")[2].splitlines() if "node1" in line]
    assert [row[0] for row in rows] == ["translate", "translate", "translate", "download"]
    assert rows[0][1:] == ["00000", "9.0", "s", "9.0", "s", "1", "2.00", "GB", "500", "B", "node1", "1"]


@pytest.mark.usefixtures("here")
def test_what_failed_and_what_is_of_another_version_is_told() -> None:
    trace = Trace("score", Path("data/trace/score.parquet"))
    for number in range(8):
        measured = Measured("tcp://127.0.0.1:1", "node1", 1, 1 + (number == 2), 100.0, 101.0)
        trace.finish(Part(f"{number:05}", f"{number}"), measured, failed=number != 2)
    trace.save()
    Path("data/filter/more.txt").write_text("more")
    Path("data/trace/crawl.parquet").unlink()
    status, said = run("--parts", "3")
    assert status == 0
    assert "\n score *  " in said
    assert "* score: its last run has not finished; `make repro` resumes it" in said
    assert "score: 7 failed: 00000, 00001, 00003, 00004, 00005 and 2 more" in said
    assert "score: 1 finished or failed after a worker had died in them" in said
    assert "filter: its trace is of another version" in said
    assert "crawl: it has no trace: " in said


def test_without_any_trace_one_message_says_why_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = run()
    assert status == 1
    assert said.startswith("trace: no stage has a trace of this version (crawl, extract, ")
    assert "it has not run). Remedy: `make repro` writes one" in said


@pytest.mark.usefixtures("here")
def test_the_timeline_is_drawn_into_a_file_and_a_path_that_cannot_be_written_is_a_message() -> None:
    assert run("--timeline", "timeline.svg")[0] == 0
    assert "33 parts of 11 stages on " in Path("timeline.svg").read_text()
    status, said = run("--timeline", "nowhere/timeline.svg")
    assert status == 1
    assert said.startswith("trace: ")


@pytest.mark.slow
def test_tables_fit_a_terminal_of_eighty_columns_also_with_long_times(here: Path) -> None:
    trace = Trace("download", Path("data/trace/download.parquet"))
    for number in range(12_345):
        began = trace.began - 1_000_000 + number
        measured = Measured(
            "tcp://10.0.0.1:1", "node-0017", 1_234_567, 1, began, began + 432_000, 40_000, 10**11, 10**9
        )
        trace.finish(Part(f"{number:05}", f"{number}"), measured, failed=False)
    trace.save()
    main, side = pty.openpty()
    code = "import fcntl, struct, sys, termios; fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0));"
    code += "sys.argv = ['laion-dask', 'trace', '--parts', '3']; from laion_dask.cli.main import app; app()"
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
    environment |= {"PYTHONPATH": str(ROOT), "TERM": "dumb"}
    with subprocess.Popen([sys.executable, "-c", code], cwd=here, env=environment, stdout=side, stdin=side) as process:
        os.close(side)
        said = b""
        try:
            while block := os.read(main, 65_536):
                said += block
        except OSError:
            pass  # the program has closed its end
        assert process.wait(programs.PATIENCE_S) == 0
    os.close(main)
    lines = said.decode().splitlines()
    assert max(map(len, lines)) <= 80, json.dumps(lines, indent=1)
    assert any("137,167 h" in line and "120 h 00 min" in line and "12,345" in line for line in lines)
    assert not any("\N{HORIZONTAL ELLIPSIS}" in line for line in lines)
