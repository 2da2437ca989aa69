"""The numbers that DVC compares: those of the version, few, and narrow enough for a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT
from made.processes import programs
from made.projects.dvc_projects import call, dvc

from laion_dask.report.origin import headline

COUNTS: dict[str, Any] = {
    "extract": {"links": {"seen": 9837, "kept": 5291, "dropped": {}}},
    "download": {"images": {"seen": 3941, "kept": 3485, "dropped": {}}},
    "report": {
        "kept": {"en": 1076, "multi": 1117, "nolang": 225, "all": 2418},
        "safety": {
            "unsafe_of_kept": {"all": {"count": 3, "total": 2418, "rate": 0.001241}, "en": {"rate": 0.1}},
            "watermark_of_kept": {"all": {"count": 30, "total": 2418, "rate": 0.012407}},
        },
        "truth": {"keep": {"precision": 0.993796, "recall": 0.987654}},
    },
}
CHOSEN = {
    "links": 9837,
    "images": 3485,
    "kept": 2418,
    "en": 1076,
    "multi": 1117,
    "nolang": 225,
    "unsafe": 0.001241,
    "marked": 0.012407,
    "precision": 0.993796,
    "recall": 0.987654,
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, CHOSEN),
        (  # a crawl without labels
            {"report": {**COUNTS["report"], "truth": {}}},
            {name: value for name, value in CHOSEN.items() if name not in {"precision", "recall"}},
        ),
        (  # nothing was kept, so that there is no rate of it
            {"report": {"kept": {"en": 0, "multi": 0, "nolang": 0, "all": 0}, "safety": {}, "truth": {}}},
            {"links": 9837, "images": 3485, "kept": 0, "en": 0, "multi": 0, "nolang": 0},
        ),
        ({"report": {}}, {"links": 9837, "images": 3485}),  # a version of which there is no report
    ],
)
def test_the_numbers_are_those_of_the_stages_and_what_is_missing_is_left_out(
    changed: dict[str, Any], expected: dict[str, float]
) -> None:
    assert headline.choose(COUNTS | changed) == expected


@pytest.mark.parametrize(
    ("what", "counts"),
    [
        ("the demo", CHOSEN),
        ("hundreds of millions", {name: 123_456_789 for name in CHOSEN if name not in {"precision", "recall"}}),
    ],
)
def test_the_table_of_dvc_fits_120_columns(tmp_path: Path, what: str, counts: dict[str, float]) -> None:
    del what
    shares = {"unsafe": 0.001241, "marked": 0.012407}
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "summary.json").write_text(json.dumps({**counts, **shares}))
    (tmp_path / "dvc.yaml").write_text("metrics: [metrics/summary.json]\n")
    call(tmp_path, "git", "init", "-q")
    dvc(tmp_path, "init", "-q")
    lines = dvc(tmp_path, "metrics", "show").splitlines()
    assert len(lines) == 2
    assert all(name in lines[0].split() for name in counts)
    assert max(map(len, lines)) <= 120


def test_the_file_in_git_is_the_one_that_the_counts_beside_it_give(tmp_path: Path) -> None:
    tracked = programs.finished(["git", "ls-files", "metrics"], cwd=ROOT, check=True).stdout.split()
    counts = {Path(name).stem: json.loads((ROOT / name).read_text()) for name in tracked}
    kept = counts.pop(headline.NAME)
    assert json.loads(headline.write(tmp_path, counts).read_text()) == kept
    assert list(kept) == list(CHOSEN)


@pytest.mark.parametrize("page", ["README.md", "docs/dvc.md"])
def test_what_a_page_prints_of_an_experiment_is_of_this_demo_and_has_moved(page: str) -> None:
    demo = json.loads((ROOT / "metrics" / "summary.json").read_text())
    rows = re.findall(
        r"^metrics/summary\.json +(\w+) +([\d.]+) +([\d.]+) +(-?[\d.]+)$", (ROOT / page).read_text(), re.MULTILINE
    )
    assert {"kept", "en", "recall"} <= {row[0] for row in rows}
    for name, head, workspace, change in rows:
        assert float(head) == pytest.approx(demo[name], abs=1e-5)
        assert float(workspace) - float(head) == pytest.approx(float(change), abs=2e-5)
        assert float(change) != 0
