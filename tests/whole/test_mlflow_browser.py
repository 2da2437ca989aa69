"""Two versions side by side in MLflow's own page: of the parameters what differs, and the seven numbers first."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from made.processes import browser, programs
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.report import part, tracking

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")

# Busy machines need half a minute for what takes seconds on idle ones.
PATIENCE_S = 120
SWITCH = "document.querySelector('button[aria-label=\"Parameters - Show diff only\"]')"
READY = f"{SWITCH} !== null && document.querySelector('[role=rowgroup] a') !== null"
# Rows of both lists as texts of their cells, where a cell is at its place on the screen and nothing lies over it.
# Parameters are the table after their switch; metrics are two grids side by side, names and values, that scroll.
SHOWN = f"""(() => {{
  const seen = cell => {{
    const box = cell.getBoundingClientRect();
    return cell.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
  }};
  const texts = cells => cells.filter(seen).map(cell => cell.innerText.trim());
  const show = e => (e.scrollIntoView({{block: 'center'}}), e);
  const after = e => {SWITCH}.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING;
  const table = [...document.querySelectorAll('table')].find(after);
  const parameters = [...table.rows].map(row => texts([...show(row).cells]));
  show(document.querySelector('[role=grid]'));
  const rows = Map.groupBy(document.querySelectorAll('[role=rowgroup] > *'), cell => cell.style.top);
  return {{parameters, metrics: [...rows.values()].map(texts)}};
}})()"""


@dataclass(frozen=True)
class Server:
    """MLflow's server as docs/mlflow.md starts it, with the database in `root`."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    def wait(self) -> None:
        """Return when it answers; fails with its log where it does not."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


@contextmanager
def started(root: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Its workers for jobs of language models are not what is looked at here.
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    log = root / "server.log"
    # Its own group is killed at the end, with the process that answers.
    with (
        log.open("wb") as out,
        programs.running(command, cwd=root, env=os.environ | settings, stdout=out, stderr=out) as process,
    ):
        yield Server(process, port, log)


def file(root: Path, settings: Params, threshold: float) -> str:
    """File the version in `root` as one that was filtered with this threshold, and return the run."""
    similarity = settings.filter.similarity.model_copy(update={"en": threshold})
    changed = settings.model_copy(update={"filter": settings.filter.model_copy(update={"similarity": similarity})})
    return tracking.log_version(
        report=root / "data" / "report",
        metrics=root / "metrics",
        values=changed.model_dump(mode="json"),
        lock=root / "dvc.lock",
        experiment="test",
        uri=None,
    )


def experiment_of(run: str, root: Path) -> str:
    with tracking.quiet():
        from mlflow import MlflowClient

        return str(MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}").get_run(run).info.experiment_id)


async def compare(address: str, profile: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the page shows before and after the switch for parameters."""
    async with browser.tab(profile, profile) as tab:
        await tab.screen(1280, 960)
        await tab.open(address)
        await tab.until(READY, PATIENCE_S)
        before = await tab.value(SHOWN)
        await tab.value(f"{SWITCH}.click()")
        await tab.until(f"{SWITCH}.ariaChecked === 'true'")
        return before, await tab.value(SHOWN)


def test_the_comparison_shows_the_threshold_that_differs_and_the_numbers_at_a_glance(
    tmp_path: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    # The server makes its database while the report is written.
    with started(tmp_path) as server:
        data, metrics = sample_version.write(tmp_path, links=60, shards=1)
        part.write(data / "report", data, metrics, defaults, {})
        server.wait()
        runs = [file(tmp_path, defaults, threshold) for threshold in (0.25, 0.35)]
        experiments = [experiment_of(runs[0], tmp_path)]
        query = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps(experiments))}"
        page = f"http://127.0.0.1:{server.port}/#/compare-runs?{query}"
        before, after = asyncio.run(compare(page, tmp_path / "profile"))
    assert ["filter.max_punsafe", "0.5", "0.5"] in before["parameters"]
    assert after["parameters"] == [["filter.similarity.en", "0.25", "0.35"]]
    counts = sample_version.load_metrics(metrics)
    kept, seen = str(counts["release"]["pairs"]["kept"]), str(counts["extract"]["links"]["seen"])
    shown = after["metrics"][:7]
    assert [row[0].partition("/")[0] for row in shown] == ["at a glance"] * 7
    assert shown[0] == ["at a glance/1 links seen", seen, seen]
    assert shown[2] == ["at a glance/3 pairs kept", kept, kept]
