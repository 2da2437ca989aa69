"""PostgreSQL servers that cannot be used: a clear error with the remedy, and never a password in it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from made.versions import tables
from made.versions.catalogs import digests, empty, of_host, run, wats

from laion_dask.catalog import database
from laion_dask.catalog.database import CatalogError

WATS = wats(tables.pairs({}))
# More than 255 bytes: no resolver sends such a name to anybody.
UNKNOWN = ".".join(["x" * 60] * 5)


def refusal(dsn: str) -> str:
    """Return all that a user can get to see of the refusal, its traceback included."""
    with pytest.raises(CatalogError) as refused:
        database.prepare(dsn, 1, [], WATS)
    return "".join(traceback.format_exception(refused.value, chain=True)).replace("\n", " ")


@contextmanager
def role(dsn: str, *rights: str) -> Iterator[str]:
    """Make a role with these rights and yield the DSN that it comes in by."""
    empty(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("create role narrow login")
        for right in rights:
            connection.execute(right)
    try:
        yield dsn.replace("postgres:@", "narrow:@")
    finally:
        empty(dsn)
        with psycopg.connect(dsn) as connection:
            connection.execute("drop owned by narrow")
            connection.execute("drop role narrow")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://nobody:hunter2@127.0.0.1:1/none",
        f"postgresql://nobody:hunter2@{UNKNOWN}/none",
        "host=127.0.0.1 port=1 user=nobody password=hunter2",
        "postgresql://nobody:hunter2@/none?host=/nowhere",
    ],
    ids=["nobody listens", "unknown host", "keywords", "no socket"],
)
def test_a_server_that_does_not_answer_is_an_error_with_the_remedy(dsn: str) -> None:
    said = refusal(dsn)
    assert "PostgreSQL does not answer: " in said
    assert "Remedy: check LAION_DASK_DSN and the server, then run again" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "bad",
    [
        "postgresql//user:hunter2@host/database",
        "postgresql://u:hunter2@h/d?sslmood=on",
        f"postgresql://u:hunter2@{'x' * 64}/d",
        "x",
    ],
)
def test_a_dsn_that_cannot_be_read_is_refused_without_its_password(bad: str) -> None:
    said = refusal(bad)
    assert "LAION_DASK_DSN cannot be read. Remedy: postgresql://" in said
    assert "hunter2" not in said


def test_an_unknown_database_is_named(dsn: str) -> None:
    said = refusal(dsn.replace("/postgres?", "/no_such_one?"))
    assert "PostgreSQL has no such database: " in said
    assert 'database "no_such_one" does not exist' in said
    assert "Remedy: create it, or name another one in LAION_DASK_DSN" in said


def test_a_password_that_the_server_repeats_is_left_out(dsn: str) -> None:
    said = refusal(dsn.replace("postgres:@/postgres?", "postgres:no%2Fsuch@/no%2Fsuch?"))
    assert 'database "***" does not exist' in said
    assert "no/such" not in said
    assert "no%2Fsuch" not in said


def test_a_standby_is_told_from_a_primary(dsn: str) -> None:
    empty(dsn)
    said = refusal(f"{dsn}&options=-c%20default_transaction_read_only%3Don")
    assert "PostgreSQL is read-only: " in said
    assert "Remedy: name the primary in LAION_DASK_DSN, not a standby" in said


def test_a_role_without_rights_is_told_what_it_needs(dsn: str) -> None:
    with role(dsn) as narrow:
        said = refusal(narrow)
    assert "PostgreSQL refuses: permission denied for database postgres. Remedy: grant CONNECT on the database" in said
    assert "`create schema laion_dask authorization <role>`" in said


@pytest.mark.parametrize(
    "right", ["grant create on database postgres to narrow", "create schema laion_dask authorization narrow"]
)
def test_the_rights_that_are_named_are_enough(dsn: str, tmp_path: Path, right: str) -> None:
    files = [tables.write(tmp_path / "0.parquet", tables.pairs(*of_host("a.example", 50)))]
    with role(dsn, right) as narrow:
        assert database.prepare(narrow, 1, [], WATS) == {}
        run(narrow, tmp_path / "narrow", files, "abc")
        assert database.prepare(narrow, 1, [], WATS) == {(0, 0): "abc"}
    database.prepare(dsn, 1, [], WATS)
    run(dsn, tmp_path / "super", files, "abc")
    assert digests(tmp_path / "narrow") == digests(tmp_path / "super") != {}


def test_tables_of_another_role_are_refused_with_the_rights_that_are_missing(dsn: str, tmp_path: Path) -> None:
    files = [tables.write(tmp_path / "0.parquet", tables.pairs(*of_host("a.example", 50)))]
    with role(dsn, "create schema laion_dask", "grant usage on schema laion_dask to narrow") as narrow:
        database.prepare(dsn, 1, [], WATS)
        assert "PostgreSQL refuses: permission denied for table layout. Remedy: grant CONNECT" in refusal(narrow)
        with pytest.raises(CatalogError, match=r"PostgreSQL refuses: .*permission denied for table loads.* its tables"):
            run(narrow, tmp_path / "out", files, "abc")


def test_a_bucket_without_its_table_says_that_another_run_has_taken_it(dsn: str, tmp_path: Path) -> None:
    empty(dsn)
    with pytest.raises(CatalogError, match=r"PostgreSQL lost its tables: .* let no other run use this database"):
        run(dsn, tmp_path / "out", [], "abc")


def test_a_given_dsn_is_used_as_it_is_and_starts_nothing(tmp_path: Path) -> None:
    with database.server("postgresql://somewhere", tmp_path / "pg") as dsn:
        assert dsn == "postgresql://somewhere"
    assert not (tmp_path / "pg").exists()


@pytest.mark.slow
def test_the_embedded_server_has_the_settings_of_a_mirror_at_every_start(tmp_path: Path) -> None:
    wanted = {"wal_level": "minimal", "fsync": "off", "autovacuum": "off", "shared_buffers": "256MB"}
    for start in range(2):
        with database.server(None, tmp_path / "pg") as dsn, psycopg.connect(dsn) as connection:
            for name, value in wanted.items():
                assert connection.execute(f"show {name}").fetchone() == (value,), start
    assert (tmp_path / "pg" / "postgresql.conf").read_text().count("fsync = off") == 1


def test_a_folder_of_another_postgresql_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n")
    with (
        pytest.raises(
            CatalogError, match=r"does not start: .* it is safe to delete the folder, the stage loads it again"
        ),
        database.server(None, tmp_path),
    ):
        pass
