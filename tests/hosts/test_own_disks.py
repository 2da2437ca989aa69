"""Hosts that do not see the project's folder: refused with the right words, and nothing is published."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made.hosts import dask_hosts, lab
from made.hosts.dask_hosts import HEAD
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import SMALL, Project

LOOKS_S = 15.0
"""Longer than a worker looks for the folder, in case a network file system shows it late."""


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab.opened(tmp_path_factory, [HEAD]) as opened:
        dask_hosts.scheduler(opened.network)
        yield opened


def files(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("stage", "disk"),
    [("extract", "an empty folder"), ("score", "a copy of the project"), ("filter", "a copy of the project")],
)
def test_workers_on_hosts_with_disks_of_their_own_are_refused_and_nothing_is_published(
    stage: str, disk: str, hosts: Lab, small: Project, tmp_path: Path
) -> None:
    project = hosts.project(small, stage)
    own = tmp_path / "own"
    if disk == "an empty folder":
        own.mkdir()
    else:
        Project.create(own, SMALL).adopt(small, "inputs", "crawl", "extract", "catalog", "download", "score")
    for name in ("n1", "n2"):
        dask_hosts.worker(hosts.network.host(name, {project.folder: own}))
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    before = files(own), files(project.folder / "data")
    run = hosts.start(project, stage)
    said = programs.ended(run)
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert f"it does not see the driver's folder {project.folder / '.laion_dask'}" in said
    assert "Remedy: " in said
    assert "mount the project's folder" in said
    assert "n1" in said or "n2" in said, "the message does not name the host"
    assert (files(own), files(project.folder / "data")) == before
    assert not (project.folder / "metrics" / f"{stage}.json").exists()


def test_a_run_goes_on_without_the_worker_that_has_a_disk_of_its_own(
    hosts: Lab, small: Project, tmp_path: Path
) -> None:
    dask_hosts.worker(hosts.network.host("n1", {hosts.folder: tmp_path}))
    dask_hosts.worker(hosts.join("n2"))
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    project, run = hosts.in_a_part(small, "score", hosts.hosts["n2"])
    time.sleep(LOOKS_S)
    hosts.hosts["n2"].resume()
    said = programs.ended(run)
    assert run.returncode == 0, said
    assert re.search(r"the worker \S+ on n1, process \d+ is refused: it does not see the driver's folder", said)
    assert project.digests("score") == small.digests("score")
    assert files(tmp_path) == set()
