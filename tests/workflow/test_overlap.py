"""Score runs while download does: it finds its parts finished, and the bytes are those of one stage after the other."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from made.processes import programs
from made.projects.project import SMALL, Project, left_behind

pytestmark = pytest.mark.slow

BEFORE = ("crawl", "extract", "catalog")
OVERLAP = {"DASK_LAION_DASK__CLUSTER__OVERLAP": "true"}


def project(folder: Path, base: Project) -> Project:
    made = Project.create(folder, SMALL)
    made.adopt(base, *BEFORE)
    return made


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose stages run one after the other."""
    made = Project.create(tmp_path_factory.mktemp("base") / "p", SMALL)
    made.run_in_one_process(*BEFORE, "download", "score")
    return made


def scored(of: Project) -> set[str]:
    return {path.parent.name for path in (of.folder / ".laion_dask" / "parts" / "score").glob("*/counts.json")}


def test_score_finds_finished_what_ran_during_download_with_the_same_bytes(base: Project, tmp_path: Path) -> None:
    of = project(tmp_path / "p", base)
    said = of.run("download", workers=1, **OVERLAP)
    assert "nothing more runs ahead" not in said
    ahead = scored(of)
    assert ahead
    of.run("score", workers=1)
    shards = len([*(of.folder / "data" / "score").glob("*.parquet")])
    assert ahead <= scored(of)
    assert len(scored(of)) == shards
    assert of.digests("download", "score") == base.digests("download", "score")


def test_a_run_that_is_killed_in_the_overlap_goes_on_with_the_same_bytes(base: Project, tmp_path: Path) -> None:
    of = project(tmp_path / "p", base)
    process = of.start("download", workers=1, **OVERLAP)
    programs.until(lambda: any((of.folder / ".laion_dask" / "parts" / "score").glob("*")), "score has begun", process)
    process.send_signal(signal.SIGKILL)
    programs.ended(process)
    assert not left_behind(of.folder)
    of.run("download", "score", workers=1, **OVERLAP)
    assert of.digests("download", "score") == base.digests("download", "score")
