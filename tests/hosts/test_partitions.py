"""Hosts that are cut off for some seconds: their workers end themselves, and come back under a supervisor."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from made.hosts import dask_hosts, lab
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project

CUT_S = 15.0
"""Longer than Dask waits for a silent host here."""


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab.opened(tmp_path_factory) as opened:
        dask_hosts.scheduler(opened.network)
        yield opened


def test_a_run_waits_for_workers_that_are_cut_off_and_come_back_under_their_supervisor(
    hosts: Lab, small: Project
) -> None:
    workers = [hosts.hosts[name] for name in ("n1", "n2")]
    for host in workers:
        dask_hosts.supervised_worker(host)
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    project, run = hosts.in_a_part(small, "score", *workers)
    for host in workers:
        host.cut()
        host.resume()
    time.sleep(CUT_S)
    for host in workers:
        host.mend()
    said = programs.ended(run)
    assert run.returncode == 0, said
    assert project.digests("score") == small.digests("score")
    assert set(dask_hosts.pool(hosts.network, 2)) == {"n1", "n2"}


def test_a_worker_without_a_supervisor_that_was_cut_off_ends_itself(hosts: Lab) -> None:
    alone = dask_hosts.worker(hosts.hosts["n1"])
    assert dask_hosts.pool(hosts.network, 1) == ["n1"]
    hosts.hosts["n1"].cut()
    programs.until(lambda: alone.poll() is not None, "the worker ends")
    hosts.hosts["n1"].mend()
    # What the scheduler still knows of it is forgotten when its connection times out.
    programs.until(lambda: dask_hosts.pool(hosts.network, 0) == [], "the scheduler forgets the worker")
