"""Hosts, a folder that all of them share, and small projects in it: what the tests of whole runs start from."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from made.hosts import dask_hosts, mid_part, network, postgres_host
from made.hosts.dask_hosts import HEAD
from made.hosts.network import Host, Network
from made.processes import programs
from made.projects import built
from made.projects.project import SMALL, Project

ALONE: Final = ("extract", "download", "score", "filter")
"""The stages whose parts take longest in a real run."""
_ORDER: Final = ("inputs", "crawl", "extract", "catalog", "download", "score", "group", "filter")
_REPRO_S: Final = 800.0
_TRIES: Final = 6
_LOG_LINES: Final = 60


@dataclass(frozen=True)
class Lab:
    network: Network
    folder: Path
    """Seen by all hosts under the same path."""
    numbers: Iterator[int]

    @property
    def hosts(self) -> dict[str, Host]:
        return self.network.hosts

    def join(self, name: str) -> Host:
        """Start a host, or start it again after it has lost its power."""
        return self.network.host(name, {self.folder: self.folder})

    def database(self) -> str:
        """Start PostgreSQL on a host of its own, and return the DSN."""
        return postgres_host.serve(self.join("db"), f"{network.PREFIX}0/24")

    def project(self, of: Project, stage: str) -> Project:
        """Make a project that has the outs of all stages before `stage`, as `of` has them."""
        fresh = Project.create(self.folder / f"{stage}-{next(self.numbers)}", SMALL)
        fresh.adopt(of, *_ORDER[: _ORDER.index(stage)])
        return fresh

    def clone(self) -> Path:
        """Make a Git repository with this code and the small demo's parameters, in which nothing has run yet."""
        number = next(self.numbers)
        folder = self.folder / f"clone-{number}"
        built.clone(folder, self.folder / f"params-{number}")
        return folder

    def repro(self, clone: Path, **environment: str) -> str:
        """Run `dvc repro` on the head, and return what it says; its status is 0."""
        run = dask_hosts.start(self.network, clone, "dvc", "repro", **environment)
        said = programs.ended(run, _REPRO_S)
        assert run.returncode == 0, said
        return said

    def start(self, project: Project, stage: str, **environment: str) -> subprocess.Popen[str]:
        return dask_hosts.start(self.network, project.folder, "python", "-m", f"workflow.{stage}", **environment)

    def in_a_part(
        self, of: Project, stage: str, *hosts: Host, **environment: str
    ) -> tuple[Project, subprocess.Popen[str]]:
        """Start a stage, and stop hosts while the first of them makes a part of it; return the project and the run."""
        for _ in range(_TRIES):
            project = self.project(of, stage)
            run = self.start(project, stage, **environment)
            if mid_part.stopped_in_a_part(hosts[0], parts(project, stage), run):
                for host in hosts[1:]:
                    host.stop()
                return project, run
            said = programs.ended(run)
            assert run.returncode == 0, said
        pytest.fail(f"in {_TRIES} runs, no part of {stage} took long enough on {hosts[0].name}")


def parts(project: Project, stage: str) -> Path:
    return project.folder / ".laion_dask" / "parts" / stage


@contextmanager
def opened(factory: pytest.TempPathFactory, names: Sequence[str] = (HEAD, "n1", "n2")) -> Iterator[Lab]:
    """Start hosts that share a folder; skip the test where the machine cannot have hosts."""
    if reason := _why_not():
        pytest.skip(reason)
    base = factory.mktemp("hosts")
    folder = base / "shared"
    folder.mkdir()
    try:
        with network.opened(base / "logs") as joined:
            lab = Lab(joined, folder, count())
            for name in names:
                lab.join(name)
            yield lab
    finally:
        # Pytest shows what is written here where a test has failed.
        for log in sorted((base / "logs").glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            sys.stdout.writelines(f"{line}\n" for line in (f"--- {log.name}", *lines))


_why_not = functools.cache(network.why_not)
