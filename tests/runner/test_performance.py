"""Dask's own report of a stage: written where it is asked for or the stage was long, and never in its way."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from made.places import ROOT
from made.processes import programs

from laion_dask.runner import performance
from laion_dask.runner.performance import reported

# In a process of its own: this one may have imported bokeh already.
PROGRAM = """
import sys
from pathlib import Path
from made.processes.dask_clients import threads_of_this_process
from laion_dask.runner import performance

with threads_of_this_process(1) as client:
    with performance.reported(client, Path(sys.argv[1]) / "short.html", None):
        client.submit(sum, [1, 2]).result()
    print("bokeh" in sys.modules)
    with performance.reported(client, Path(sys.argv[1]) / "score.html", wanted=True):
        client.submit(sum, [1, 2, 3]).result()
    print("bokeh" in sys.modules)
"""


@pytest.mark.slow
def test_bokeh_is_imported_only_where_the_page_is_written(tmp_path: Path) -> None:
    done = programs.finished([sys.executable, "-c", PROGRAM, str(tmp_path)], check=True, cwd=ROOT / "tests")
    assert done.stdout.split() == ["False", "True"]
    assert [path.name for path in tmp_path.iterdir()] == ["score.html"]
    page = (tmp_path / "score.html").read_text()
    assert "Dask Performance Report" in page
    assert "number of tasks: " in page
    assert "stage score" in page
    # All scripts are in it, and a browser fetches nothing.
    assert re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']?https?:[^>]*>", page) == []


@pytest.mark.parametrize(
    ("wanted", "long", "written"), [(None, True, True), (None, False, False), (False, True, False)]
)
def test_the_setting_says_when_it_is_written(
    tmp_path: Path,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    wanted: bool | None,  # noqa: FBT001
    long: bool,  # noqa: FBT001 - a case of the table
    written: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(performance, "_LONG_S", 0.0 if long else 60.0)
    with reported(client, tmp_path / "performance" / "score.html", wanted):
        client.submit(time.sleep, 0).result()
    assert (tmp_path / "performance" / "score.html").exists() is written


def test_a_stage_that_fails_has_a_page_and_one_that_a_signal_ends_has_none(tmp_path: Path, client: Client) -> None:
    with pytest.raises(RuntimeError), reported(client, tmp_path / "failed.html", wanted=True):
        raise RuntimeError
    with pytest.raises(KeyboardInterrupt), reported(client, tmp_path / "ended.html", wanted=True):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["failed.html"]


def test_a_page_that_cannot_be_written_or_asked_for_is_a_message(
    tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with reported(client, tmp_path / "file" / "score.html", wanted=True):
        pass
    assert "score: no performance report was written: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_scheduler_that_is_lost_ends_in_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"processes": False, "n_workers": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"}
    with (
        LocalCluster(**options) as cluster,
        Client(cluster) as client,
        reported(client, tmp_path / "score.html", wanted=True),
    ):
        cluster.close()
    assert "score: no performance report was written: " in capsys.readouterr().err
