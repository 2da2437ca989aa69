"""A cluster that speaks TLS: its workers reach the servers of the driver by TLS, and write the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
import trustme
from made.processes import programs
from made.processes.elsewhere import scheduler, worker
from made.projects.project import SMALL, Project

from laion_dask import params
from laion_dask.cluster import kinds
from laion_dask.web.fetch.leases import LimitServerAddress, LimitServerGoneError, open_limits
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.workers.pool import open_pool

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Certificates of a site, as its administrator names them to every program of Dask by the environment."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    one = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    one.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    one.private_key_pem.write_to_path(folder / "key.pem")
    settings = {"require-encryption": True, "tls.ca-file": str(folder / "ca.pem")}
    for role in ("scheduler", "worker", "client"):
        settings |= {f"tls.{role}.cert": str(folder / "cert.pem"), f"tls.{role}.key": str(folder / "key.pem")}
    names = {f"distributed.comm.{key}": value for key, value in settings.items()}
    with pytest.MonkeyPatch.context() as patch, dask.config.set(names):
        for name, value in names.items():
            patch.setenv(f"DASK_{name.replace('.', '__').replace('-', '_').upper()}", str(value))
        yield folder


@pytest.fixture(scope="module")
def address(tls: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    assert (tls / "key.pem").is_file()
    folder = tmp_path_factory.mktemp("cluster")
    with scheduler(folder) as found, worker(found, folder / "w"):
        yield found


def test_a_worker_of_a_tls_scheduler_downloads_what_local_ones_do(small: Project, tmp_path: Path, address: str) -> None:
    project = Project.create(tmp_path / "p", SMALL)
    project.adopt(small, "crawl", "extract", "catalog")
    assert address.startswith("tls://")
    project.run("download", DASK_LAION_DASK__CLUSTER__KIND=address)
    assert project.digests("download") == small.digests("download")
    assert project.metrics("download") == small.metrics("download")


def take(settings: params.Download, address: LimitServerAddress) -> str:
    """Take a slot, on a worker, and say how it went."""

    async def run() -> None:
        async with (
            asyncio.timeout(programs.PATIENCE_S),
            open_limits(settings, address) as limiter,
            limiter.slot("a.example"),
        ):
            pass

    try:
        asyncio.run(run())
    except LimitServerGoneError as error:
        return str(error)
    return "granted"


def test_a_worker_of_a_tls_scheduler_takes_its_slots_from_a_limit_server_by_tls(
    tmp_path: Path, address: str, defaults: params.Params
) -> None:
    rules = defaults.download
    with (
        dask.config.set({"laion-dask.cluster.kind": address}),
        kinds.open_client() as client,
        open_pool(client, tmp_path, "download", print) as pool,
    ):
        assert pool.encrypted
        with LimitServer(rules, pool.driver_host(), encrypted=pool.encrypted) as server:
            assert client.submit(take, rules, server.address, pure=False).result(programs.PATIENCE_S) == "granted"
            own = LimitServerAddress(server.address.host, server.address.port, server.address.token)
            assert "is gone" in client.submit(take, rules, own, pure=False).result(programs.PATIENCE_S)


def test_servers_for_local_workers_stay_on_loopback_without_tls(tmp_path: Path) -> None:
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 1}),
        kinds.open_client() as client,
        open_pool(client, tmp_path, "download", print) as pool,
    ):
        assert not pool.encrypted
        assert pool.driver_host() == "127.0.0.1"
