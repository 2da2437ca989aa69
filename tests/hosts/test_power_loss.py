"""A host that loses its power in the middle of a part: the run goes on with the others, and its bytes are the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from made.hosts import dask_hosts, lab
from made.hosts.dask_hosts import HEAD
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab.opened(tmp_path_factory) as opened:
        dask_hosts.scheduler(opened.network)
        dask_hosts.worker(opened.hosts["n2"])
        yield opened


@pytest.mark.parametrize("stage", lab.ALONE)
def test_a_run_goes_on_with_the_other_host_when_one_loses_its_power_in_a_part(
    stage: str, hosts: Lab, small: Project
) -> None:
    if "n1" not in hosts.hosts or not hosts.hosts["n1"].is_on():
        hosts.join("n1")
    dask_hosts.worker(hosts.hosts["n1"])
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    project, run = hosts.in_a_part(small, stage, hosts.hosts["n1"])
    hosts.hosts["n1"].power_off()
    said = programs.ended(run)
    assert run.returncode == 0, said
    assert project.digests(stage) == small.digests(stage)
    assert project.metrics(stage) == small.metrics(stage)


def test_a_run_whose_driver_and_scheduler_have_lost_their_power_is_resumed(hosts: Lab, small: Project) -> None:
    project = hosts.project(small, "score")
    run = hosts.start(project, "score")
    work = lab.parts(project, "score")
    programs.until(lambda: any(work.glob("*/counts.json")), "a part of score is finished", run)
    hosts.hosts[HEAD].power_off()
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*/counts.json")}
    assert not (project.folder / "data" / "score").exists()
    hosts.join(HEAD)
    dask_hosts.scheduler(hosts.network)
    hosts.hosts["n2"].power_off()
    dask_hosts.worker(hosts.join("n2"))
    dask_hosts.run(hosts.network, project.folder, ["score"])
    assert project.digests("score") == small.digests("score")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "finished parts are made again"
