"""What tests rely on where a program hangs: it is killed with all below it, and fails its own test with its words."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.processes import programs

Failed = pytest.fail.Exception
HANGS = 'echo words; (sleep 3600; true) & touch "$1"; wait'
ENDS = "echo words; exit 3"


def test_a_program_that_hangs_is_killed_with_all_below_it_and_what_it_said_is_told(tmp_path: Path) -> None:
    run = programs.start(["sh", "-c", HANGS, "sh", str(tmp_path / "begun")])
    programs.until((tmp_path / "begun").exists, "it has begun", run)
    below = programs.family(run.pid)
    assert len(below) > 1
    with pytest.raises(Failed, match=r"did not end within 0\.1 s \(status -9\); it said:\nwords"):
        programs.ended(run, 0.1)
    programs.until(lambda: not any(map(programs.is_there, below)), "all of it is gone")


def test_what_a_program_leaves_behind_is_killed_at_the_end_of_its_block(tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.touch()
    with programs.running(["sh", "-c", 'sleep 3600 & echo $! > "$1"', "sh", str(left)]) as run:
        programs.until(lambda: left.read_text().endswith("\n"), "it has left a program behind", run)
        assert programs.is_there(int(left.read_text()))
    programs.until(lambda: not programs.is_there(int(left.read_text())), "that is gone")


def test_a_program_that_ends_before_what_is_waited_for_or_says_nothing_fails_the_test(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"ended before this: a file is there \(status 3\); it said:\nwords"):
        programs.until(
            (tmp_path / "none").exists, "a file is there", programs.start(["sh", "-c", "echo words; exit 3"])
        )
    with pytest.raises(Failed, match=r"wrote no line \(status 0\)"):
        programs.line_of(programs.start(["true"]))
    with pytest.raises(Failed, match=r"ended with status 3; it said:\nwords\nand others"):
        programs.finished(["sh", "-c", f"echo and others >&2; {ENDS}"], check=True)
