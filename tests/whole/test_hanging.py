"""A test that hangs ends with its name and stacks, and the others go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from places import ROOT

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
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-c",
            ROOT / "pyproject.toml",
            "--rootdir",
            tmp_path,
            "-n",
            "1",
            *limits,
            tmp_path,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "crashed while running 'test_hang.py::test_that_hangs'" in run.stdout, run.stdout + run.stderr
    assert "1 failed, 2 passed" in run.stdout
    assert "in forever" in run.stderr
