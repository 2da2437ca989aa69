"""The ports of a local cluster: who may talk to it, and what it tells to those who may not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import dask
import pytest
from distributed import Client
from distributed.core import connect
from distributed.protocol.pickle import dumps
from distributed.security import Security
from made.processes import programs, users

from laion_dask.cluster.kinds import open_client

ENOUGH_S = 120.0
# How the end of each attempt is told: without encryption, and with a certificate of one's own. A timeout is no refusal.
REFUSALS = ("CommClosedError", "FatalCommClosedError")
# What a user without the key may try with Dask's own client.
INTRUDER = """
import sys
from pathlib import Path
from distributed import Client
from distributed.core import connect
from distributed.protocol.pickle import dumps
from distributed.security import Security

def write():
    Path(sys.argv[2]).touch()

for scheme, security in (("tcp", None), ("tls", Security.temporary())):
    try:
        with Client(f"{scheme}://{sys.argv[1]}", timeout=120, security=security) as client:
            client.run_on_scheduler(write)
            client.submit(write).result(timeout=120)
            print("answered")
    except Exception as error:
        print("refused", type(error).__name__)
"""


async def ask(url: str, options: Mapping[str, object], mark: Path) -> object:
    """Ask a scheduler, a worker or a nanny by Dask's own protocol to call a function."""
    comm = await connect(url, timeout=ENOUGH_S, **options)
    calls = {"function": dumps(mark.touch), "args": dumps(()), "kwargs": dumps({})}
    # `run` is of workers and nannies, `run_function` of the scheduler.
    await comm.write(
        {"op": "run_function" if mark.name == "scheduler" else "run", **calls, "wait": True, "reply": True}
    )
    return await asyncio.wait_for(comm.read(), ENOUGH_S)


def intrude(address: str, mark: Path) -> str:
    """Say how each attempt ended, without encryption and with a certificate of one's own."""
    ends = []
    for scheme, options in (("tcp", {}), ("tls", Security.temporary().get_connection_args("client"))):
        try:
            ends.append(f"answered {asyncio.run(ask(f'{scheme}://{address}', options, mark))}")
        except Exception as error:  # noqa: BLE001 - however it is refused
            ends.append(f"refused {type(error).__name__}")
    return "; ".join(ends)


@dataclass(frozen=True)
class Opened:
    client: Client
    addresses: dict[str, str]
    """Of scheduler, worker and nanny: host and port."""
    ports: dict[int, int]
    """Every port that processes of this one listen at, with the process."""


def listening() -> dict[int, int]:
    """Return the ports that this process and those below it listen at, with the process of each."""
    owners: dict[str, int] = {}
    for process in _family():
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                owners[str(link.readlink())] = process
            except OSError:
                continue
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            owner = owners.get(f"socket:[{words[9]}]")
            if words[3] == "0A" and owner is not None:
                assert words[1].startswith("0100007F:"), f"a port that is not of the loopback: {words[1]}"
                found[int(words[1].partition(":")[2], 16)] = owner
    return found


def _family() -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = [os.getpid()]
    for process in family:
        family += [child for child, parent in parents.items() if parent == process]
    return family


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    before = listening()
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 1}),
        open_client() as client,
    ):
        info = client.scheduler_info(n_workers=-1)
        ((worker, about),) = info["workers"].items()
        urls = {"scheduler": info["address"], "worker": worker, "nanny": about["nanny"]}
        ports = {port: owner for port, owner in listening().items() if port not in before}
        yield Opened(client, {name: urlsplit(url).netloc for name, url in urls.items()}, ports)


@pytest.mark.parametrize("name", ["scheduler", "worker", "nanny"])
@pytest.mark.parametrize("user", [users.NOBODY, None], ids=["another user", "the same user without the key"])
def test_nobody_without_the_key_of_the_run_can_run_code(name: str, user: int | None, opened: Opened) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        mark = Path(folder) / name
        address = opened.addresses[name]
        said = intrude(address, mark) if user is None else users.as_user(user, lambda: intrude(address, mark))
        assert said == "; ".join(f"refused {kind}" for kind in REFUSALS), said
        assert not mark.exists()
    # Those who belong to the run are served on as before.
    assert opened.client.submit(sum, [1, 2]).result() == 3


def test_a_client_of_dask_without_the_key_is_refused(opened: Opened, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTRUDER, opened.addresses["scheduler"], str(tmp_path / "mark")]
    run = programs.finished(command)
    assert run.stdout.splitlines() == [f"refused {kind}" for kind in REFUSALS], run.stderr
    assert not (tmp_path / "mark").exists()


def test_a_run_listens_at_the_ports_that_are_known_and_at_no_other(opened: Opened) -> None:
    known = {int(address.rpartition(":")[2]) for address in opened.addresses.values()}
    pages = set(opened.ports) - known
    assert known <= set(opened.ports)
    # Scheduler and worker have a port for HTTP each, at which there is no page.
    assert len(pages) == 2
    for port in pages:
        for path in (
            "/",
            "/status",
            "/info/main/workers.html",
            "/json/counts.json",
            "/metrics",
            "/health",
        ):
            with pytest.raises(HTTPError) as refused:
                urlopen(f"http://127.0.0.1:{port}{path}", timeout=ENOUGH_S)
            assert refused.value.code == 404
            refused.value.close()


def test_the_key_stands_in_no_command_line_environment_or_temporary_file(opened: Opened) -> None:
    key = opened.client.security.tls_client_key
    assert "PRIVATE KEY" in key
    line = key.splitlines()[1].encode()
    for process in _family():
        for name in ("cmdline", "environ"):
            assert line not in Path(f"/proc/{process}/{name}").read_bytes()


def test_a_plain_connection_gets_nothing_but_its_end(opened: Opened) -> None:
    for address in opened.addresses.values():
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=ENOUGH_S) as connection:
            connection.sendall(json.dumps({"op": "identity", "reply": True}).encode() + b"\r\n\r\n")
            try:
                assert b"worker" not in connection.recv(4096)
            except ConnectionError:
                continue


@pytest.mark.slow
@pytest.mark.parametrize("by_setting", ["", "yes"], ids=["in TMPDIR", "in Dask's own setting"])
def test_a_folder_that_another_user_has_made_for_dask_brings_no_code(
    by_setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "dask-scratch-space"
    trap.mkdir()
    trap.chmod(0o777)
    (trap / "laion_dask_trap.py").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    base = str(tmp_path)

    def seen() -> tuple[bool, list[str]]:
        import importlib.util

        importlib.invalidate_caches()
        # By name: a worker's process has found its own temporary folder before this test.
        places = [one for one in sys.path if one.startswith(base)]
        return importlib.util.find_spec("laion_dask_trap") is not None, places

    local = {"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 1}
    with (
        dask.config.set({**local, "temporary-directory": str(tmp_path) if by_setting else None}),
        open_client() as client,
    ):
        for finds, places in [seen(), *client.run(seen).values()]:
            assert not finds
            assert places
            for place in places:
                private = next(one for one in Path(place).parents if one.parent == tmp_path)
                assert private.stat().st_mode & 0o777 == 0o700
    # multiprocessing's own folder, for the socket of the process that forks workers, stays until that process ends.
    sockets = [path for path in tmp_path.iterdir() if path.name.startswith("pymp-")]
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in sockets)
    assert [path.name for path in tmp_path.iterdir() if path not in sockets] == ["dask-scratch-space"]
