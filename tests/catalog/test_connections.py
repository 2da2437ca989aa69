"""A real server with passwords on a port: each refusal is told as what it is; a lost server leaves no half bucket."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from made.servers.tcp_postgres import PASSWORD, TcpServer, tcp_server
from made.versions import tables
from made.versions.catalogs import digests, empty, of_host, run, wats

from laion_dask.catalog import connections, copy_binary, database, reach
from laion_dask.catalog.connections import CatalogError

pytestmark = pytest.mark.slow  # starts and ends PostgreSQL

HERE = socket.gethostname()


@pytest.fixture(scope="module")
def server() -> Iterator[TcpServer]:
    with tcp_server() as found:
        found.ask(
            "create role builder login password 'right' connection limit 5",
            "grant create on database postgres to builder",
            "create role reader login password 'right'",
            "create role sleeper nologin password 'right'",
            "create role full login password 'right' connection limit 0",
            "create role slow login password 'right' superuser",
            "alter role slow set statement_timeout = 1",
            "create database closed",
            "revoke connect on database closed from public",
            "create database shut allow_connections false",
        )
        yield found


# What is wrong -> how the driver comes in, what is told, the remedy.
REFUSALS: dict[str, tuple[Callable[[TcpServer], str], str, str]] = {
    "wrong password": (
        lambda server: server.dsn("builder", "hunter2"),
        'refuses the password: .*password authentication failed for user "builder"',
        "correct user and password in LAION_DASK_DSN, or in ~/.pgpass of this host and of each worker",
    ),
    "no password": (
        lambda server: server.dsn("builder").replace(":hunter2%2Fsecret", ""),
        "refuses the password: .*no password supplied",
        "correct user and password in LAION_DASK_DSN",
    ),
    "unknown role": (lambda server: server.dsn("nobody", "hunter2"), "refuses the password: .*nobody", "correct user"),
    "a role without login": (
        lambda server: server.dsn("sleeper", "right"),
        'refuses this role: .*"sleeper" is not permitted to log in',
        "check user and password in LAION_DASK_DSN",
    ),
    "no such database": (
        lambda server: server.dsn("builder", "right", "gone"),
        'has no such database: .*database "gone" does not exist',
        "create it, or name another one in LAION_DASK_DSN",
    ),
    "a closed database": (
        lambda server: server.dsn("builder", "right", "shut"),
        'has no such database: .*"shut" is not currently accepting connections',
        "create it, or name another one",
    ),
    "no right to connect": (
        lambda server: server.dsn("reader", "right", "closed"),
        'refuses: .*permission denied for database "closed"',
        "grant CONNECT on the database, and CREATE in it",
    ),
    "no right to create": (
        lambda server: server.dsn("reader", "right"),
        "refuses: permission denied for database postgres",
        "grant CONNECT on the database, and CREATE in it",
    ),
    "a role at its limit": (
        lambda server: server.dsn("full", "right"),
        'has no connection left: .*too many connections for role "full"',
        r"use fewer workers for this stage \(laion-dask\.cluster\.catalog\.workers\), or raise the server's max_con",
    ),
    "TLS that the server has not": (
        lambda server: f"{server.dsn('builder', 'right')}?sslmode=require",
        "cannot be spoken to over TLS: .*SSL",
        "check sslmode and sslrootcert in LAION_DASK_DSN",
    ),
    "a statement that takes too long": (
        lambda server: server.dsn("slow", "right"),
        "cancelled a statement: .*statement timeout",
        ".*where the message names a timeout, raise that of the role or the database",
    ),
    "nobody listens": (
        lambda _: "postgresql://builder:hunter2@127.0.0.1:1/postgres",
        "does not answer: .*Connection refused",
        "check LAION_DASK_DSN and the server, then run again",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_told_as_what_it_is_with_the_remedy_and_without_the_password(server: TcpServer, case: str) -> None:
    dsn, told, remedy = REFUSALS[case]
    with pytest.raises(CatalogError, match=rf"^PostgreSQL {told}.*\. Remedy: {remedy}") as refused:
        database.prepare(dsn(server), 1, [], wats(tables.pairs({})))
    said = str(refused.value)
    assert not [secret for secret in ("hunter2", PASSWORD, ":right@") if secret in said]
    assert "\n" not in said, "only the first line of a part's error is shown"
    assert refused.value.__suppress_context__
    if case not in {"no right to create", "a statement that takes too long"}:
        assert f"(asked from {HERE})" in said


def test_a_server_without_a_connection_left_says_so_and_serves_again(server: TcpServer) -> None:
    empty(server.dsn())
    with contextlib.ExitStack() as open_ones:
        for _ in range(17):  # the last three are the administrator's
            open_ones.enter_context(psycopg.connect(server.dsn("reader", "right")))
        with pytest.raises(CatalogError, match=r"has no connection left: .*reserved .*Remedy: use fewer workers"):
            database.prepare(server.dsn("builder", "right"), 1, [], wats(tables.pairs({})))
        for _ in range(3):
            open_ones.enter_context(psycopg.connect(server.dsn()))
        with (
            pytest.raises(CatalogError, match=r"has no connection left: .*too many clients already .*Remedy: use few"),
            database.opened(server.dsn(), 0),
        ):
            pass
    database.prepare(server.dsn("builder", "right"), 1, [], wats(tables.pairs({})))


def test_a_server_that_speaks_another_language_is_told_from_one_that_does_not_answer() -> None:
    class Refused(psycopg.OperationalError):
        pgconn = SimpleNamespace(used_password=True)

    error = Refused("Verbindung fehlgeschlagen: Passwort-Authentifizierung fehlgeschlagen")
    said = str(connections._unconnected(error, "postgresql://me@host/pairs"))  # noqa: SLF001 - needs such a server
    assert said.startswith("PostgreSQL refuses the connection: Verbindung fehlgeschlagen")


def test_a_server_that_takes_a_connection_and_says_nothing_has_an_end() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        dsn = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/pairs?connect_timeout=2"
        with pytest.raises(CatalogError, match=r"does not answer: connection timeout expired .*Remedy: check"):
            database.prepare(dsn, 1, [], wats(tables.pairs({})))
        assert time.monotonic() - began < 60


# Rights that are missing in the middle

RIGHTS = {
    "schema": ("revoke usage on schema laion_dask from builder", "permission denied for (schema laion_dask|table)"),
    "table": ("alter table laion_dask.pairs_0000 owner to postgres", "permission denied for table pairs_0000"),
    "loads": ("revoke insert on laion_dask.loads from builder", "permission denied for table loads"),
}


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_that_is_taken_away_is_told_by_the_bucket_that_needs_it(
    server: TcpServer, tmp_path: Path, right: str
) -> None:
    statement, told = RIGHTS[right]
    empty(server.dsn())
    dsn = server.dsn("builder", "right")
    database.prepare(dsn, 1, [], wats(tables.pairs({})))
    server.ask("alter schema laion_dask owner to postgres", "grant usage on schema laion_dask to builder", statement)
    with pytest.raises(CatalogError, match=rf"^PostgreSQL refuses: {told}.* Remedy: grant CONNECT on the database"):
        run(dsn, tmp_path / "out", [], "abc")
    empty(server.dsn())


# A server that is gone in the middle of a load


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("SIGQUIT", r"ended the connection: .*(closed the connection|terminating connection)"),
        ("SIGINT", r"ended the connection: .*(terminating connection due to administrator command|closed the)"),
    ],
)
def test_a_server_that_goes_in_the_middle_of_a_load_leaves_no_half_bucket(
    server: TcpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    rows = tables.pairs(*of_host("a.example", 3_000))
    files = [tables.write(tmp_path / "0.parquet", rows)]
    dsn = server.dsn("builder", "right")
    empty(server.dsn())
    database.prepare(dsn, 1, [], wats(rows))
    run(dsn, tmp_path / "expected", files, "expected")
    real = copy_binary.blocks

    def blocks(table: object) -> Iterator[bytes | memoryview]:
        for place, block in enumerate(real(table)):
            if place == 1:
                server.stop(signal.Signals[how])
            yield block

    monkeypatch.setattr(copy_binary, "blocks", blocks)
    with pytest.raises(CatalogError, match=rf"^PostgreSQL {told}.*Remedy: check that the server runs, then run again"):
        run(dsn, tmp_path / "broken", files, "abc")
    monkeypatch.undo()
    with pytest.raises(CatalogError, match="does not answer"):
        run(dsn, tmp_path / "down", files, "abc")
    server.start()
    assert database.prepare(dsn, 1, [], wats(rows)) == {(0, 0): "expected"}
    run(dsn, tmp_path / "again", files, "abc")
    assert digests(tmp_path / "again") == digests(tmp_path / "expected") != {}


# Connections for all tasks


@pytest.mark.parametrize(
    ("role", "tasks", "told"),
    [
        ("reader", 17, None),
        ("reader", 18, r"18 tasks at once need one each, but there is max_connections = 20, 17 of them free\. Remedy"),
        ("builder", 5, None),
        ("builder", 6, r"6 tasks .*, but there is the connection limit of this role, 5\. Remedy: use fewer workers"),
    ],
)
def test_connections_are_counted_before_tasks_start(server: TcpServer, role: str, tasks: int, told: str | None) -> None:
    dsn = server.dsn(role, "right")
    if told is None:
        reach.check_connections(dsn, tasks)
        return
    with pytest.raises(CatalogError, match=told):
        reach.check_connections(dsn, tasks)


def test_connections_that_others_have_are_not_free(server: TcpServer) -> None:
    with psycopg.connect(server.dsn()), psycopg.connect(server.dsn()):
        reach.check_connections(server.dsn("reader", "right"), 15)
        with pytest.raises(CatalogError, match="max_connections = 20, 15 of them free"):
            reach.check_connections(server.dsn("reader", "right"), 16)
    server.ask("alter database postgres connection limit 9")
    with pytest.raises(CatalogError, match="the connection limit of this database, 9"):
        reach.check_connections(server.dsn("reader", "right"), 10)
    server.ask("alter database postgres connection limit -1")
