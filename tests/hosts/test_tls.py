"""A scheduler with the certificates of docs/cluster.md: who has them can run stages, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from made.hosts import dask_hosts, lab
from made.hosts.dask_hosts import HEAD
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, dict[str, str]]]:
    """Start scheduler and workers with certificates, and yield the environment that a driver needs for them."""
    with lab.opened(tmp_path_factory) as opened:
        script = f"tls={opened.folder}/tls\n{dask_hosts.page_file('tls.sh')}\nenv -0"
        said = opened.hosts[HEAD].run("sh", "-ec", script)
        variables = dict(line.partition("=")[::2] for line in said.split("\0") if line.startswith("DASK_"))
        dask_hosts.scheduler(opened.network, "--protocol", "tls", **variables)
        for name in ("n1", "n2"):
            dask_hosts.supervised_worker(opened.hosts[name], dask_hosts.TLS_SCHEDULER, **variables)
        yield opened, {**variables, "DASK_LAION_DASK__CLUSTER__KIND": dask_hosts.TLS_SCHEDULER}


def test_stages_run_with_certificates_and_their_outs_are_those_of_a_local_run(
    hosts: tuple[Lab, dict[str, str]], small: Project
) -> None:
    network, folder = hosts[0].network, hosts[0].folder
    assert dask_hosts.pool(network, 2, **hosts[1]) == ["n1", "n2"]
    assert {path.stat().st_mode & 0o077 for path in (folder / "tls", folder / "tls" / "server.key")} == {0}
    project = hosts[0].project(small, "download")
    dask_hosts.run(network, project.folder, ["download"], **hosts[1])
    assert project.digests("download") == small.digests("download")


def test_a_driver_without_the_certificate_ends_with_a_message(
    hosts: tuple[Lab, dict[str, str]], small: Project
) -> None:
    project = hosts[0].project(small, "extract")
    run = hosts[0].start(project, "extract", DASK_LAION_DASK__CLUSTER__KIND=dask_hosts.TLS_SCHEDULER)
    said = programs.ended(run)
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert "laion-dask.cluster.kind" in said
    assert "Remedy: " in said
    assert not (project.folder / "data" / "extract").exists()
