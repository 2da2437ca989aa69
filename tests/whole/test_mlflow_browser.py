"""MLflow's own page: the runs table with thresholds and counts, and two versions side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from made.processes import browser
from made.versions import logged, sample_version

from laion_dask.params import Params
from laion_dask.report import run_metrics
from laion_dask.report.runs import page, server, view
from laion_dask.report.runs.server import Server

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")

# Busy machines need half a minute for what takes seconds on idle ones.
PATIENCE_S = 120
TRIES = 3
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


# Columns of the runs table from left to right, as far as they are on the screen, and the first row's texts in them.
TABLE = """(() => {
  const at = cell => cell.getBoundingClientRect().x;
  const seen = cell => at(cell) > 0 && cell.getBoundingClientRect().right <= innerWidth;
  const cells = selector => [...document.querySelectorAll(selector)].filter(seen).sort((a, b) => at(a) - at(b));
  const text = cell => [cell.getAttribute('col-id'), cell.innerText.trim()];
  const rows = [...document.querySelectorAll('.ag-row[row-index="0"] [col-id]')].filter(seen);
  return {columns: cells('.ag-header-cell').map(text), first: Object.fromEntries(rows.map(text))};
})()"""
COLUMNS = 9
"""Name, date, and seven of the view, in a window of 1,280 pixels."""
CHARTS = (
    "[...document.querySelectorAll('[data-testid=\"experiment-view-compare-runs-card\"] h4')].map(e => e.innerText)"
)
FILLED = "document.querySelectorAll('.ag-row[row-index] [col-id^=\"metrics.\"]').length > 0"


@dataclass(frozen=True)
class Filed:
    """A server with two runs of versions with two thresholds."""

    server: Server
    runs: tuple[str, str]
    experiment: str
    counts: dict[str, Any]


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Iterator[Filed]:
    root = tmp_path_factory.mktemp("project")
    logged.write(root, defaults)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        low, high = (logged.log(root, logged.with_threshold(defaults, threshold)) for threshold in (0.25, 0.35))
        found = page.find(root, "test")
        with server.started(found.folder, found.uri, 0, root / "server.log") as running:
            running.wait(print)
            yield Filed(running, (low, high), found.experiment_id, sample_version.load_metrics(root / "metrics"))


async def ready(tab: browser.Tab) -> None:
    """Wait for MLflow's lists; seldom its page stays without them on a busy machine, until a reader loads it again."""
    for _ in range(TRIES - 1):
        with suppress(TimeoutError):
            await tab.until(READY, PATIENCE_S / TRIES)
            return
        await tab.ask("Page.reload")
    await tab.until(READY, PATIENCE_S)


async def compared(address: str, profile: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the page shows before and after the switch for parameters."""
    async with browser.tab(profile, profile) as tab:
        await tab.screen(1280, 960)
        await tab.open(address)
        await ready(tab)
        before = await tab.value(SHOWN)
        await tab.value(f"{SWITCH}.click()")
        await tab.until(f"{SWITCH}.ariaChecked === 'true'")
        return before, await tab.value(SHOWN)


async def listed(address: str, profile: Path) -> dict[str, Any]:
    """Return what the runs table shows."""
    async with browser.tab(profile, profile) as tab:
        await tab.screen(1280, 800)
        await tab.open(address)
        await tab.until(FILLED, PATIENCE_S)
        # A panel at the right, which MLflow opens once for each browser.
        await tab.value("document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')?.click()")
        await tab.until(f"{TABLE}.columns.length >= {COLUMNS}", PATIENCE_S)
        table = await tab.value(TABLE)
        await tab.open(f"{address}&compareRunsMode=CHART")
        await tab.until(f"{CHARTS}.length >= 6", PATIENCE_S)
        return {**table, "charts": await tab.value(CHARTS)}


def test_the_comparison_shows_the_threshold_that_differs_and_the_numbers_at_a_glance(
    filed: Filed, tmp_path: Path
) -> None:
    query = f"runs={quote(json.dumps(filed.runs))}&experiments={quote(json.dumps([filed.experiment]))}"
    address = f"{filed.server.address}/#/compare-runs?{query}"
    before, after = asyncio.run(compared(address, tmp_path / "profile"))
    assert ["filter.max_punsafe", "0.5", "0.5"] in before["parameters"]
    assert after["parameters"] == [["filter.similarity.en", "0.25", "0.35"]]
    kept, seen = str(filed.counts["release"]["pairs"]["kept"]), str(filed.counts["extract"]["links"]["seen"])
    shown = after["metrics"][:7]
    assert [row[0] for row in shown] == [*run_metrics.HEADLINE][:7]
    assert shown[0] == ["1 links", seen, seen]
    assert shown[2] == ["3 kept", kept, kept]


def test_the_address_of_the_view_shows_thresholds_and_counts_of_each_run(filed: Filed, tmp_path: Path) -> None:
    shown = asyncio.run(listed(view.address(filed.server.address, filed.experiment), tmp_path / "profile"))
    columns = [name for name, _ in shown["columns"]]
    state = json.loads(json.loads(view.value())["state"])
    wanted = state["selectedColumns"]
    assert [name for name in columns if name in wanted] == [name for name in wanted if name in columns]
    assert len(set(columns) & set(wanted)) >= COLUMNS - 2
    assert shown["first"]["metrics.`3 kept`"] == str(filed.counts["release"]["pairs"]["kept"])
    assert shown["first"]["params.`filter.similarity.en`"] == "0.35"
    assert shown["charts"][:6] == [*run_metrics.HEADLINE][:6]
