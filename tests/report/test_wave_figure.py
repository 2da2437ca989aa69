"""What each crawl brought, on the page, as a figure and in MLflow: only where a version has more than one crawl."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from made.versions import logged, sample_version
from made.versions.logged import log

from laion_dask.params import Params
from laion_dask.report import part, run_metrics
from laion_dask.report.runs import store
from laion_dask.statistics import waves

FIRST, SECOND = "CC-MAIN-2024-22", "CC-MAIN-2024-26"


@pytest.fixture(scope="module")
def report_of(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Callable[..., Path]:
    """Return a function that writes the report of a version with a shard for each named crawl."""

    def write(*crawls: str) -> Path:
        root = tmp_path_factory.mktemp("version")
        data, metrics = sample_version.write(root, links=90, shards=len(crawls))
        sample_version.name_crawls(data, metrics, *crawls)
        part.write(data / "report", data, metrics, defaults, {})
        return root

    return write


@pytest.fixture(scope="module")
def grown(report_of: Callable[..., Path]) -> Path:
    return report_of(FIRST, SECOND)


@pytest.mark.slow
def test_the_page_has_a_table_and_a_figure_by_crawl_in_the_order_of_the_crawls(grown: Path) -> None:
    report = grown / "data" / "report"
    page = (report / "report.html").read_text(encoding="utf-8")
    section = page[page.index('<h2 id="waves">') : page.index('<h2 id="scores">')]
    assert '<figure id="figure-waves">' in section
    assert '<a href="#waves">' in page
    rows = re.findall(r"<tr><td class=\"nb\"><bdi>(.*?)</bdi></td>(.*?)</tr>", section)
    assert [crawl for crawl, _ in rows] == [FIRST, SECOND]
    for (_, cells), wave in zip(rows, waves.read(report / waves.NAME), strict=True):
        shown = [int(cell.replace(",", "")) for cell in re.findall(r'<td class="n">([\d,]+)', cells)]
        numbers = (wave.pairs, wave.new, wave.repeated, wave.asked, wave.alive, *wave.dead.values(), wave.kept)
        assert shown == [*numbers]
        assert wave.asked == wave.new > 0
    assert {path.name for path in (report / "figures").glob("waves.*")} == {"waves.png", "waves.svg"}


@pytest.mark.slow
def test_the_crawls_add_up_to_the_version(grown: Path) -> None:
    counts = sample_version.load_metrics(grown / "metrics")
    found = waves.read(grown / "data" / "report" / waves.NAME)
    assert sum(wave.asked for wave in found) == counts["download"]["images"]["seen"]
    assert sum(wave.alive for wave in found) == counts["download"]["images"]["kept"]
    assert sum(wave.kept for wave in found) == counts["filter"]["pairs"]["kept"]


@pytest.mark.slow
def test_one_crawl_changes_nothing_on_the_page(report_of: Callable[..., Path]) -> None:
    report = report_of("demo") / "data" / "report"
    assert 'id="waves"' not in (report / "report.html").read_text(encoding="utf-8")
    assert list(report.rglob("waves.*")) == []


@pytest.mark.slow
def test_a_name_of_a_crawl_is_escaped_and_is_a_name_that_mlflow_takes(report_of: Callable[..., Path]) -> None:
    odd = '<b onclick="x">crawl*?</b>'
    root = report_of(FIRST, odd)
    assert "<b onclick" not in (root / "data" / "report" / "report.html").read_text(encoding="utf-8")
    names = run_metrics.of_version(root / "data" / "report", root / "metrics")
    (found,) = [name for name in names if name.startswith("waves/") and "onclick" in name and name.endswith(" kept")]
    assert re.fullmatch(r"[\w\-. :/]+", found)


@pytest.mark.slow
def test_a_run_has_the_latest_crawls_as_metrics_and_all_crawls_in_its_table(
    report_of: Callable[..., Path], defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    crawls = [f"CC-MAIN-2024-{week}" for week in range(10, 18)]
    root = report_of(*crawls)
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    logged.database(root / "mlflow.db")
    run_id = log(root, defaults)
    with store.quiet():
        found = MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}").get_run(run_id).data.metrics
    counted = {wave.crawl: wave for wave in waves.read(root / "data" / "report" / waves.NAME)}
    latest = {name: value for name, value in found.items() if name.startswith("waves/")}
    assert latest == {
        f"waves/{crawl} {name}": getattr(counted[crawl], name) for crawl in crawls[-6:] for name in waves.METRICS
    }
    assert len(found) <= run_metrics.MOST
    with (root / "mlruns" / run_id / "artifacts" / "tables" / run_metrics.NUMBERS).open(newline="") as stream:
        numbers = dict(csv.reader(stream))
    for crawl, wave in counted.items():
        for name in waves.METRICS:
            assert float(numbers[f"waves.{crawl}.{name}"]) == getattr(wave, name)
