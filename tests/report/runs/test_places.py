"""Addresses of artifacts: relative to the database, in a project that was moved or copied too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from laion_dask.report.runs import places


def make(file: Path, location: str, *addresses: str) -> None:
    """Make the tables that are read, as MLflow has them, with one experiment and its runs."""
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("create table experiments (experiment_id integer, name text, artifact_location text)")
        connection.execute("create table runs (run_uuid text, experiment_id integer, artifact_uri text)")
        connection.execute("insert into experiments values (1, 'test', ?)", [location])
        connection.executemany(
            "insert into runs values (?, 1, ?)", [(f"r{place}", address) for place, address in enumerate(addresses)]
        )


def recorded(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        runs = connection.execute("select artifact_uri from runs order by run_uuid").fetchall()
        return [row[0] for row in connection.execute("select artifact_location from experiments").fetchall() + runs]


@pytest.mark.parametrize(
    ("location", "address", "after"),
    [
        pytest.param("{here}/mlruns", "{here}/mlruns/r0/artifacts", "mlruns mlruns/r0/artifacts", id="paths"),
        pytest.param(
            "file://{here}/mlruns", "file://{here}/mlruns/r0/artifacts", "mlruns mlruns/r0/artifacts", id="addresses"
        ),
        pytest.param(
            "file:///old/mlruns", "file:///old/mlruns/r0/artifacts", "mlruns mlruns/r0/artifacts", id="moved with it"
        ),
        pytest.param("mlruns", "mlruns/r0/artifacts", "mlruns mlruns/r0/artifacts", id="relative already"),
        pytest.param("/disk/mlruns", "/disk/mlruns/r9/artifacts", "/disk/mlruns /disk/mlruns/r9/artifacts", id="other"),
        pytest.param("s3://b/mlruns", "s3://b/mlruns/r0", "s3://b/mlruns s3://b/mlruns/r0", id="a store"),
        pytest.param("file:///old/mlruns", "", "mlruns", id="an experiment without runs"),
    ],
)
def test_addresses_become_relative_where_the_files_are_beside_the_database(
    tmp_path: Path, location: str, address: str, after: str
) -> None:
    here = tmp_path / "a project"
    folder = {"here": here.as_uri().removeprefix("file://") if ":" in location else here.as_posix()}
    make(here / "mlflow.db", *(word.format(**folder) for word in (location, address) if word))
    (here / "mlruns" / "r0" / "artifacts").mkdir(parents=True)
    places.make_relative(here / "mlflow.db")
    assert " ".join(recorded(here / "mlflow.db")) == after
    assert places.make_relative(here / "mlflow.db") == 0


@pytest.mark.parametrize(
    ("address", "path"),
    [("mlruns/1", "/p/mlruns/1"), ("/d/1", "/d/1"), ("file:///d/a%20b", "/d/a b"), ("s3://b/1", None)],
)
def test_an_address_is_read_from_the_folder_of_the_database(address: str, path: str | None) -> None:
    assert places.local(address, Path("/p")) == (Path(path) if path else None)


@pytest.mark.parametrize(("uri", "file"), [("sqlite:////p/mlflow.db", "/p/mlflow.db"), ("http://127.0.0.1:5000", None)])
def test_only_sqlite_has_a_file(uri: str, file: str | None) -> None:
    assert places.database(uri) == (Path(file) if file else None)
