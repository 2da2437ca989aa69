"""PostgreSQL servers that cannot be used: a clear error with the remedy, and never a password in it."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from laion_dask import catalog
from laion_dask.catalog import CatalogError


def test_a_server_that_does_not_answer_is_an_error_with_the_remedy() -> None:
    with pytest.raises(
        CatalogError, match=r"(?s)PostgreSQL does not answer: .* Remedy: check LAION_DASK_DSN and the server"
    ):
        catalog.prepare("postgresql://nobody:hunter2@127.0.0.1:1/none", 1, [])


def test_a_dsn_that_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(CatalogError, match=r"LAION_DASK_DSN cannot be read\. Remedy: postgresql://") as refused:
        catalog.prepare("postgresql//user:hunter2@host/database", 1, [])
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_role_without_rights_is_told_what_it_needs(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema if exists laion_dask cascade")
        connection.execute("create role reader login")
    try:
        with pytest.raises(
            CatalogError, match=r"PostgreSQL refuses: .* Remedy: grant CONNECT on the database and CREATE"
        ):
            catalog.prepare(dsn.replace("postgres:@", "reader:@"), 1, [])
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute("drop role reader")


def test_a_given_dsn_is_used_as_it_is_and_starts_nothing(tmp_path: Path) -> None:
    with catalog.server("postgresql://somewhere", tmp_path / "pg") as dsn:
        assert dsn == "postgresql://somewhere"
    assert not (tmp_path / "pg").exists()


def test_a_folder_of_another_postgresql_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(
            CatalogError, match=r"does not start: .* it is safe to delete the folder, the stage fills it again"
        ),
        catalog.server(None, tmp_path),
    ):
        pass
