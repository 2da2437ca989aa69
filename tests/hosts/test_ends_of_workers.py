"""Workers that end at their walltime, or that a batch system ends: no part is blamed, and the bytes are the same."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
from made.hosts import dask_hosts, lab
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab.opened(tmp_path_factory) as opened:
        dask_hosts.scheduler(opened.network)
        yield opened


def attempts(project: Project, stage: str) -> set[int | None]:
    """Return which attempts have made parts; None for one whose worker ended before it could tell."""
    return {*pq.read_table(project.folder / "data" / "trace" / f"{stage}.parquet")["attempt"].to_pylist()}


def test_workers_that_end_at_their_walltime_give_their_parts_back(hosts: Lab, small: Project) -> None:
    for name in ("n1", "n2"):
        # They end in the middle of the run, several times.
        dask_hosts.supervised_worker(hosts.hosts[name], dask_hosts.SCHEDULER, "--lifetime", "4s")
    assert dask_hosts.pool(hosts.network, 1)
    project = hosts.project(small, "score")
    dask_hosts.run(hosts.network, project.folder, ["score"])
    assert project.digests("score") == small.digests("score")
    assert "lifetime" in hosts.hosts["n1"].log("worker") + hosts.hosts["n2"].log("worker")
    assert attempts(project, "score") <= {None, 1}, "a part is blamed for the end of a worker"


def test_a_worker_that_a_batch_system_ends_in_a_part_gives_it_back(hosts: Lab, small: Project) -> None:
    for name in ("n1", "n2"):
        dask_hosts.worker(hosts.hosts[name])
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    project, run = hosts.in_a_part(small, "score", hosts.hosts["n1"])
    # As scancel does, and a preemption: to every process of the job.
    hosts.hosts["n1"].signal(signal.SIGTERM)
    hosts.hosts["n1"].resume()
    said = programs.ended(run)
    assert run.returncode == 0, said
    assert project.digests("score") == small.digests("score")
    assert attempts(project, "score") == {1}, "a part is blamed for the end of a worker"
