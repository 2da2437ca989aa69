"""A scheduler that dies in the middle of a run: a message with the remedy, and the same bytes when it is resumed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from made.hosts import dask_hosts, lab
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab.opened(tmp_path_factory) as opened:
        yield opened


def test_a_run_whose_scheduler_dies_ends_with_a_message_and_is_resumed_with_another_one(
    hosts: Lab, small: Project
) -> None:
    scheduler = dask_hosts.scheduler(hosts.network)
    for name in ("n1", "n2"):
        dask_hosts.supervised_worker(hosts.hosts[name])
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    project = hosts.project(small, "score")
    run = hosts.start(project, "score")
    work = lab.parts(project, "score")
    programs.until(lambda: any(work.glob("*/counts.json")), "a part of score is finished", run)
    programs.kill(scheduler)
    said = programs.ended(run)
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert "scheduler" in said
    assert "Remedy" in said
    assert not (project.folder / "data" / "score").exists()
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*/counts.json")}
    assert finished
    dask_hosts.scheduler(hosts.network)
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"], "the workers have not come to the new scheduler"
    dask_hosts.run(hosts.network, project.folder, ["score"])
    assert project.digests("score") == small.digests("score")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "finished parts are made again"
