"""`dvc repro` under Slurm with two nodes, in both ways of docs/cluster.md: the lock file of a local run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from made.hosts import dask_hosts, lab, slurm_hosts
from made.hosts.dask_hosts import HEAD
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project

NODES = ("n1", "n2")


@dataclass(frozen=True)
class Slurm:
    lab: Lab
    environment: dict[str, str]
    dsn: str

    def says(self, *command: str) -> str:
        return self.lab.hosts[HEAD].run(*command, **self.environment)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := slurm_hosts.why_not():
        pytest.skip(reason)
    with lab.opened(tmp_path_factory) as opened:
        environment = slurm_hosts.serve(opened.network, HEAD, NODES, opened.folder / "slurm")
        yield Slurm(opened, environment, opened.database())


def configured(clone: Path) -> dict[str, str]:
    """Configure Dask as docs/cluster.md does, and return the environment of a run."""
    folder = clone / "dask"
    folder.mkdir()
    (folder / "laion-dask.yaml").write_text(dask_hosts.page_file("laion-dask.yaml"))
    return {"DASK_CONFIG": str(folder)}


def test_the_cluster_is_shown_tried_and_ended(slurm: Slurm) -> None:
    clone = slurm.lab.clone()
    about = {**slurm.environment, **configured(clone)}
    said = slurm.lab.hosts[HEAD].run("laion-dask", "cluster", "extract", cwd=clone, **about)
    assert "dask_jobqueue.SLURMCluster" in said
    assert any(name in said for name in NODES), said
    assert slurm.says("squeue", "--noheader") == ""


def test_dvc_repro_with_jobs_as_workers_gives_the_lock_file_of_a_local_run(
    slurm: Slurm, built: tuple[Path, Project]
) -> None:
    clone = slurm.lab.clone()
    said = slurm.lab.repro(clone, LAION_DASK_DSN=slurm.dsn, **slurm.environment, **configured(clone))
    assert (clone / "dvc.lock").read_text() == (built[0] / "dvc.lock").read_text(), said
    assert slurm.says("squeue", "--noheader") == ""


def test_the_script_that_runs_scheduler_workers_and_dvc_in_one_job_gives_the_lock_file_of_a_local_run(
    slurm: Slurm, built: tuple[Path, Project]
) -> None:
    clone = slurm.lab.clone()
    for name in ("worker.sh", "tls.sh", "run.sbatch"):
        (clone / name).write_text(dask_hosts.page_file(name))
    (clone / ".venv").symlink_to(sys.prefix)
    head = slurm.lab.hosts[HEAD]
    about = {**slurm.environment, "LAION_DASK_DSN": slurm.dsn, "MLFLOW_TRACKING_URI": f"sqlite:///{clone}/mlflow.db"}
    job = programs.finished(head.command("sbatch", "--wait", "run.sbatch", cwd=clone, **about), within_s=800)
    said = next(clone.glob("slurm-*.out")).read_text()
    assert job.returncode == 0, said
    assert (clone / "dvc.lock").read_text() == (built[0] / "dvc.lock").read_text(), said
