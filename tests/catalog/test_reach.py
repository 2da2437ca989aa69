"""Workers that do not reach PostgreSQL are told at the start of the stage; one that comes late tells it itself."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client
from made.parameters import with_values
from made.processes.dask_clients import threads_of_this_process
from made.processes.elsewhere import mounts, scheduler, worker
from made.servers.tcp_postgres import TcpServer, tcp_server

from laion_dask import params
from laion_dask.catalog import connections, database, reach
from laion_dask.catalog.connections import CatalogError
from laion_dask.runner.stage import home
from laion_dask.workers.pool import open_pool
from workflow import catalog

HERE = socket.gethostname()
LOCAL = r"laion-dask\.cluster\.catalog\.kind: local \(DASK_LAION_DASK__CLUSTER__CATALOG__KIND=local\)"


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the temporary folder in which the embedded server makes that of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir="/var/tmp"))
    folder.chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAION_DASK_DSN", raising=False)
    monkeypatch.setenv("LAION_DASK_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scheduler(tmp_path_factory.mktemp("scheduler")) as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[TcpServer]:
    with tcp_server() as found:
        found.ask("create role builder login password 'hunter2'")
        yield found


def opened(settings: params.Params, client: Client) -> str:
    """Open what the stage opens before its parts run, and return its DSN."""
    with open_pool(client, home(), "catalog", print) as pool, catalog.postgresql(settings, pool) as resources:
        return str(resources["dsn"])


@pytest.mark.slow
@pytest.mark.usefixtures("own_home", "sockets")
def test_workers_of_this_machine_reach_the_embedded_server(defaults: params.Params) -> None:
    with threads_of_this_process(3) as client:
        assert connections.embedded(opened(defaults, client)) is not None


@mounts
@pytest.mark.slow
@pytest.mark.usefixtures("own_home")
def test_a_worker_that_does_not_see_the_socket_of_the_embedded_server_is_told_with_the_remedy(
    defaults: params.Params, address: str, tmp_path: Path, sockets: Path
) -> None:
    hidden = ("-t", "tmpfs", "none", str(sockets))
    with worker(address, tmp_path / "w", mount=hidden), Client(address) as client:
        (at,) = client.scheduler_info(n_workers=-1)["workers"]
        with pytest.raises(CatalogError) as refused:
            opened(defaults, client)
    said = str(refused.value)
    assert said.startswith(
        f"the embedded PostgreSQL serves this machine only ({HERE}), and 1 of 1 workers do not reach"
    )
    assert f"{at} on {HERE}: it has no {sockets}/laion_dask-postgresql-" in said
    assert "Remedy: set LAION_DASK_DSN to a server that all workers reach; or let this machine run the stage" in said


def test_a_task_of_a_worker_that_came_late_says_where_it_is_and_the_same_remedy(tmp_path: Path) -> None:
    gone = tmp_path / "laion_dask-postgresql-gone"
    dsn = f"postgresql://postgres:@/postgres?host={gone}&port=5432"
    with (
        pytest.raises(
            CatalogError,
            match=rf"^the embedded PostgreSQL cannot be reached from {HERE}: it runs on the driver's machine only: "
            rf".*\. Remedy: set LAION_DASK_DSN to a server .*; or let this machine run the stage: {LOCAL}",
        ),
        database.opened(dsn, 0),
    ):
        pass


def test_another_socket_folder_of_the_same_name_is_not_the_drivers(tmp_path: Path) -> None:
    folder = tmp_path / "laion_dask-postgresql-x"
    folder.mkdir()
    about = folder.stat()
    dsn = f"postgresql://postgres:@/postgres?host={folder}&port=5432"
    assert "or another one than the driver's" in reach.probe(dsn, (about.st_dev, about.st_ino + 1)).cause
    assert "cannot be reached from" in reach.probe(dsn, (about.st_dev, about.st_ino)).cause
    assert reach.probe(dsn, None).host == HERE


@mounts
@pytest.mark.slow
def test_a_server_that_the_driver_reaches_and_a_worker_does_not_is_told_with_host_and_remedy(
    defaults: params.Params, address: str, tmp_path: Path, server: TcpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There `localhost` is another machine, on which nobody listens.
    (tmp_path / "hosts").write_text("127.0.0.9 localhost\n")
    monkeypatch.setenv("LAION_DASK_DSN", server.dsn("builder", "hunter2").replace("127.0.0.1", "localhost"))
    elsewhere = ("--bind", str(tmp_path / "hosts"), "/etc/hosts")
    with Client(address) as client:
        with worker(address, tmp_path / "same"):
            assert "localhost" in opened(defaults, client)
        with worker(address, tmp_path / "other", mount=elsewhere), pytest.raises(CatalogError) as refused:
            opened(defaults, client)
    said = str(refused.value)
    assert said.startswith(f"the driver on {HERE} reaches PostgreSQL, and 1 of 1 hosts of workers do not: tcp://")
    assert "127.0.0.9" in said
    assert "Remedy: give LAION_DASK_DSN a host name that these machines know (not localhost, nor a socket)" in said
    assert "hunter2" not in said


def test_more_threads_than_connections_are_told_before_the_first_task(
    defaults: params.Params, server: TcpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAION_DASK_DSN", server.dsn("builder", "hunter2"))
    server.ask("alter role builder connection limit 2")
    with threads_of_this_process(3) as client:
        with pytest.raises(CatalogError, match=r"3 tasks at once need one each, .* this role, 2\. Remedy"):
            opened(defaults, client)
        two = with_values(defaults, {"catalog": {"buckets": 2}})
        assert opened(two, client), "no more tasks than buckets run at once"
    server.ask("alter role builder connection limit -1")


# One question a host


@contextmanager
def asked(answers: dict[str, object]) -> Iterator[tuple[list[str], reach.Ask]]:
    addresses: list[str] = []

    def ask(of: list[str], *_: object) -> dict[str, object]:
        addresses.extend(of)
        return {address: answers[address] for address in of}

    yield addresses, ask


def test_one_worker_of_each_host_is_asked_about_another_machines_server() -> None:
    hosts = {"tcp://b:1": "b", "tcp://a:1": "a", "tcp://a:2": "a"}
    with asked(dict.fromkeys(hosts, reach.Reached("a"))) as (addresses, ask):
        reach.check_reach("postgresql://me@db/pairs", hosts, ask)
        assert addresses == ["tcp://a:1", "tcp://b:1"]
    with asked(dict.fromkeys(hosts, reach.Reached("a"))) as (addresses, ask):
        reach.check_reach(f"postgresql://me@/pairs?host={os.sep}laion_dask-postgresql-x", hosts, ask)
        assert addresses == sorted(hosts)


def test_a_long_list_of_workers_is_cut_and_one_that_has_left_is_left_out() -> None:
    hosts = {f"tcp://h{number}:1": f"h{number}" for number in range(9)}
    answers: dict[str, object] = {at: reach.Reached(host, "no route") for at, host in hosts.items()}
    answers["tcp://h8:1"] = OSError("left")
    with (
        asked(answers) as (_, ask),
        pytest.raises(CatalogError, match=r"8 of 9 hosts .*: tcp://h0:1 on h0: no route; .*tcp://h4:1.*; and 3 more\."),
    ):
        reach.check_reach("postgresql://me@db/pairs", hosts, ask)
    with asked({"tcp://h8:1": OSError("left")}) as (_, ask):
        reach.check_reach("postgresql://me@db/pairs", {"tcp://h8:1": "h8"}, ask)
