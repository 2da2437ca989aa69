"""A test that hangs ends with its name and stacks, and the others go on."""

from __future__ import annotations

import sys
from pathlib import Path

from made.places import ROOT
from made.processes import programs

# The event loop catches what the limit of time raises in one of its callbacks, and goes on waiting.
HANGS = """
import asyncio, time

def test_that_passes():
    pass

def test_that_hangs():
    async def forever():
        while True:
            try:
                await asyncio.sleep(0.01)
                time.sleep(0.5)
            except BaseException:
                pass
    asyncio.run(forever())

def test_after_it():
    pass
"""


def test_a_test_that_its_time_limit_cannot_end_is_ended_with_its_process_and_named(tmp_path: Path) -> None:
    (tmp_path / "test_hang.py").write_text(HANGS)
    limits = ("-o", "timeout=1", "-o", "faulthandler_timeout=4")
    where = ("-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, tmp_path)
    run = programs.finished([sys.executable, "-m", "pytest", "-n", "1", *limits, *where], within_s=600, cwd=tmp_path)
    assert "crashed while running 'test_hang.py::test_that_hangs'" in run.stdout, run.stdout + run.stderr
    assert "1 failed, 2 passed" in run.stdout
    assert "in forever" in run.stderr
