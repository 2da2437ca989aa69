"""`dvc repro` on several hosts with a database on one more: the lock file of a local run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.hosts import dask_hosts, lab
from made.hosts.lab import Lab
from made.projects.project import Project


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab.opened(tmp_path_factory) as opened:
        yield opened


def test_dvc_repro_on_two_hosts_with_a_database_on_a_third_gives_the_lock_file_of_a_local_run(
    hosts: Lab, built: tuple[Path, Project]
) -> None:
    dask_hosts.scheduler(hosts.network)
    for name in ("n1", "n2"):
        dask_hosts.supervised_worker(hosts.hosts[name])
    assert dask_hosts.pool(hosts.network, 2) == ["n1", "n2"]
    clone = hosts.clone()
    said = hosts.repro(clone, LAION_DASK_DSN=hosts.database())
    assert (clone / "dvc.lock").read_text() == (built[0] / "dvc.lock").read_text(), said
    traces = [pq.read_table(path) for path in (clone / "data" / "trace").glob("*.parquet")]
    assert {host for trace in traces for host in trace["host"].to_pylist()} == {"n1", "n2"}
    (timeline,) = (clone / "data" / "trace").glob("timeline-*.svg")
    assert {"n1", "n2"} <= {*re.findall(r"\bn\d\b", timeline.read_text())}
