"""PostgreSQL on a host of its own: what a run says that does not get on with it, and that it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from made.hosts import dask_hosts, lab
from made.hosts.lab import Lab
from made.processes import programs
from made.projects.project import Project


@dataclass(frozen=True)
class Database:
    lab: Lab
    dsn: str


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with lab.opened(tmp_path_factory) as opened:
        dask_hosts.scheduler(opened.network)
        for name in ("n1", "n2"):
            dask_hosts.worker(opened.hosts[name])
        dsn = opened.database()
        assert dask_hosts.pool(opened.network, 2) == ["n1", "n2"]
        yield Database(opened, dsn)


@pytest.mark.parametrize(
    ("changed", "into", "told"),
    [
        ("builder:", "builder:x", "refuses the password"),
        ("/pairs", "/nothing", "has no such database"),
        (":5432", ":5433", "does not answer"),
    ],
    ids=["a wrong password", "no such database", "no server at the port"],
)
def test_what_is_wrong_with_a_server_is_told_as_what_it_is(
    changed: str, into: str, told: str, database: Database, small: Project
) -> None:
    project = database.lab.project(small, "catalog")
    wrong = database.dsn.replace(changed, into)
    run = database.lab.start(project, "catalog", LAION_DASK_DSN=wrong)
    said = programs.ended(run)
    assert run.returncode == 1
    assert f"catalog: PostgreSQL {told}" in said
    assert "Remedy: " in said
    assert wrong.split(":")[2].partition("@")[0] not in said, "the password is told"


def test_workers_elsewhere_are_not_given_the_address_of_the_embedded_server(database: Database, small: Project) -> None:
    project = database.lab.project(small, "catalog")
    run = database.lab.start(project, "catalog")
    said = programs.ended(run)
    assert run.returncode == 1
    assert "LAION_DASK_DSN" in said
    assert "parts failed" not in said, "it is told before a part runs"


def test_a_run_whose_database_has_lost_its_power_ends_with_a_message_and_is_resumed(
    database: Database, small: Project
) -> None:
    hosts = database.lab.hosts
    project, run = database.lab.in_a_part(small, "catalog", hosts["n1"], LAION_DASK_DSN=database.dsn)
    hosts["db"].power_off()
    hosts["n1"].resume()
    said = programs.ended(run)
    assert run.returncode == 1, said
    assert "PostgreSQL " in said
    assert "Remedy: " in said
    assert not (project.folder / "data" / "catalog").exists()
    dask_hosts.run(database.lab.network, project.folder, ["catalog"], LAION_DASK_DSN=database.lab.database())
    assert project.digests("catalog") == small.digests("catalog")
