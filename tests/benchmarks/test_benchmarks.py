"""Every benchmark runs to its last line, in its short form, so that a change elsewhere cannot break it unseen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs

MODULES = {
    (path.parent.name + path.stem.removeprefix("bench")).replace("_", "-"): f"benchmarks.{path.parent.name}.{path.stem}"
    for path in sorted((ROOT / "benchmarks").glob("*/bench*.py"))
}
OF_REAL_WATS = {"extract"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the benchmarks keep what they make: a folder without the programs that long runs compare with."""
    return tmp_path_factory.mktemp("bench")


def run(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return programs.finished(
        [sys.executable, "-m", MODULES[name], *options],
        cwd=ROOT,
        within_s=1_100,
        env={**os.environ, "LAION_DASK_BENCH": str(folder)},
    )


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", MODULES)
def test_a_short_run_ends_with_its_bars_as_one_line_of_json(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    if name in OF_REAL_WATS:
        request.getfixturevalue("shared_data")
    done = run(name, folder, "--quick")
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["bench"] == name
    assert last["quick"] is True
    assert last["bars"]
    for bar in last["bars"]:
        assert set(bar) == {"name", "value", "bar", "holds"}
        assert re.fullmatch(r"[<>]= -?[\d.e+]+", bar["bar"])
        assert isinstance(bar["value"], int | float)
        assert isinstance(bar["holds"], bool)


def test_make_has_a_target_for_each_benchmark_and_no_other() -> None:
    rule = re.compile(r"^bench-([a-z-]+):.*\n\t@python -m (benchmarks\.[a-z_.]+)$", re.MULTILINE)
    assert dict(rule.findall((ROOT / "Makefile").read_text())) == MODULES
