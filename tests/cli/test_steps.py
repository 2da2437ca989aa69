"""The steps of a project: what a user hears of them beside their counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from laion_dask.cli import steps


def test_a_report_says_what_it_wrote_and_where_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a project").mkdir()
    monkeypatch.chdir(tmp_path / "a project")
    out = Path("data") / "report"
    for name in ("report.html", "figures/funnel.png", "figures/funnel.svg", "figures/sizes.png", "tables/hosts.csv"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"x" * 1_500)
    wrote, opened, versions = steps.written(out)
    assert wrote == "wrote     data/report/report.html (1.50 kB), 2 figures and 1 tables beside it"
    assert opened == f"open      file://{tmp_path}/a%20project/data/report/report.html"
    assert versions == "versions  laion-dask mlflow ui"
