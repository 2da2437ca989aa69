"""Dask configuration in, a client out; what cannot be had is refused with the remedy."""

from __future__ import annotations

import logging
import os
import re
import resource
import signal
import sys
import tempfile
from pathlib import Path

import dask
import pytest
from made.places import ROOT
from made.processes import programs

from laion_dask.cluster import fork_server, local, settings
from laion_dask.cluster.kinds import open_client
from laion_dask.cluster.settings import ClusterError


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize("kind", ["slrum", "", "localhost:8786", "Local"])
def test_an_unknown_kind_is_refused_with_the_remedy(kind: str) -> None:
    with (
        dask.config.set({"laion-dask.cluster.kind": kind}),
        pytest.raises(ClusterError, match=rf"kind = '{kind}' is not known\. Remedy: use auto, local, cuda, a sched"),
        open_client(),
    ):
        pass


@pytest.mark.usefixtures("no_gpu")
def test_cuda_without_a_gpu_is_refused_before_dask_cuda_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_cuda", None)  # as on macOS, where it does not exist
    with (
        dask.config.set({"laion-dask.cluster.kind": "cuda"}),
        pytest.raises(ClusterError, match=r"no GPU is visible: set laion-dask\.cluster\.kind to local or auto"),
        open_client(gpu=True),
    ):
        pass


@pytest.mark.parametrize("devices", ["", "-1", "NoDevFiles"])
def test_hidden_gpus_do_not_count(monkeypatch: pytest.MonkeyPatch, devices: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    assert local.visible_gpus() == 0


def test_the_cores_are_those_that_this_process_may_use() -> None:
    assert 1 <= settings.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("workers", [0, -1, 2.5, 4097, True, "abc", "", [1]])
@pytest.mark.usefixtures("no_gpu")
def test_a_number_of_workers_that_is_none_is_refused_with_the_remedy(workers: object) -> None:
    with (
        dask.config.set({"laion-dask.cluster.kind": "auto", "laion-dask.cluster.workers": workers}),
        pytest.raises(ClusterError, match=rf"workers = {re.escape(repr(workers))} is refused\. Remedy: a whole number"),
        open_client(),
    ):
        pass


@pytest.mark.parametrize("kind", ["foo://host:1", "tcp://", "tcp://host:port"])
def test_an_address_that_is_none_is_refused_with_the_remedy(kind: str) -> None:
    with (
        dask.config.set({"laion-dask.cluster.kind": kind}),
        pytest.raises(ClusterError, match=rf"kind = '{kind}' cannot be reached: .*Remedy: use auto"),
        open_client(),
    ):
        pass


def test_an_address_with_tls_where_no_certificate_is_configured_is_refused_with_the_remedy() -> None:
    with (
        dask.config.set({"laion-dask.cluster.kind": "tls://127.0.0.1:9", "distributed.comm.tls.ca-file": None}),
        pytest.raises(ClusterError, match=r"asks for a certificate, .*names none\. Remedy: set distributed\.comm\.tls"),
        open_client(),
    ):
        pass


@pytest.mark.parametrize("name", ["distributed", "distributed.client", "distributed.worker"])
def test_no_logger_of_dask_prints_an_error_while_a_cluster_is_open_and_each_may_again_afterwards(name: str) -> None:
    logger = logging.getLogger(name)
    with local.silence():
        assert not logger.isEnabledFor(logging.ERROR)
    assert logger.isEnabledFor(logging.ERROR)


@pytest.mark.parametrize("address", [":abc", "99999", "nowhere.invalid:8787", True, "a b:1", ":-1"])
@pytest.mark.usefixtures("no_gpu")
def test_a_dashboard_without_an_address_is_refused_with_the_remedy(address: object) -> None:
    with (
        dask.config.set({"laion-dask.cluster.dashboard": address, "laion-dask.cluster.workers": 1}),
        pytest.raises(ClusterError, match=rf"dashboard = {re.escape(repr(address))} is not an address.*Remedy: a port"),
        open_client(),
    ):
        pass


def test_settings_come_from_the_dask_configuration() -> None:
    with dask.config.set({"laion-dask.cluster.workers": 3}):
        assert settings.setting("workers") == 3
    assert settings.setting("no such setting", "default") == "default"


@pytest.mark.slow
@pytest.mark.usefixtures("no_gpu")
def test_auto_without_a_gpu_opens_local_processes_and_ends_them() -> None:
    with (
        dask.config.set({"laion-dask.cluster.kind": "auto", "laion-dask.cluster.workers": 1}),
        open_client(gpu=True) as client,
    ):
        server = client.cluster.scheduler.http_server
        (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
        pid, threads = client.submit(lambda: (os.getpid(), os.environ.get("OMP_NUM_THREADS"))).result()
        assert worker["nthreads"] == 1
        assert pid != os.getpid()
        assert threads == "1"
        # No dashboard was asked for: not on its well-known port, and not for others to see.
        assert (server.address, server.port == 8787) == ("127.0.0.1", False)
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def parent_command() -> tuple[int, str]:
    """Return the process above the one that calls this, and its command line."""
    parent = os.getppid()
    return parent, Path(f"/proc/{parent}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.mark.usefixtures("no_gpu")
def test_workers_are_forked_by_one_process_that_a_sigterm_to_the_whole_run_does_not_end() -> None:
    # One that another test has started, with other modules, may end of it.
    fork_server._end()  # noqa: SLF001 - at its end a program does so
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 2}),
        open_client() as client,
    ):
        ((server, command),) = {*client.run(parent_command).values()}
        assert "multiprocessing.forkserver" in command
        assert server != os.getpid()
        os.kill(server, signal.SIGTERM)
        client.restart()
        assert {*client.run(parent_command).values()} == {(server, command)}
        # Workers themselves end of it, as Dask wants them to.
        assert {*client.run(lambda: signal.getsignal(signal.SIGTERM) is signal.SIG_IGN).values()} == {False}


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["deep" * 20, "ü" * 40], ids=["by characters", "by bytes"])
def test_workers_start_on_their_own_where_the_temporary_folder_is_too_deep_for_a_socket(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        deep = Path(folder) / name
        deep.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        assert not forked()
        monkeypatch.undo()


@pytest.mark.usefixtures("no_gpu")
def test_workers_start_on_their_own_where_a_module_path_has_a_colon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, "/opt/a:b"])
    assert not forked()


def forked() -> bool:
    """Open a cluster of one worker, and say whether another process than this one has started the worker."""
    with (
        dask.config.set({"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 1}),
        open_client() as client,
    ):
        ((parent, _),) = client.run(parent_command).values()
    return parent != os.getpid()


def test_the_processor_time_of_workers_counts_as_that_of_the_program_that_started_them(tmp_path: Path) -> None:
    code = (
        "import dask, time\n"
        "from laion_dask.cluster.kinds import open_client\n"
        "def work():\n"
        "    began = time.process_time()\n"
        "    while time.process_time() < began + 3: pass\n"
        "with dask.config.set({'laion-dask.cluster.kind': 'local', 'laion-dask.cluster.workers': 1}):\n"
        "    with open_client() as client: client.submit(work).result()\n"
    )
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    programs.finished([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    # Of user and system.
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before > 3


def test_workers_have_no_profiler_that_could_stop_them() -> None:
    local = {"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 1}
    with dask.config.set(local), open_client() as client:
        found = client.run(lambda dask_worker: sorted(dask_worker.periodic_callbacks))
    (callbacks,) = found.values()
    assert "heartbeat" in callbacks
    assert [name for name in callbacks if name.startswith("profile")] == []


# Dask's own silence is over when the base class of its clusters closes, and when the program of a worker ends.
BREAKS_LATE = """
import atexit, logging, sys
from distributed.deploy.cluster import Cluster
from laion_dask.cluster.kinds import open_client

ends = Cluster._close

def breaks():
    logging.getLogger("distributed.core").error("a connection broke")

async def breaks_and_ends(cluster):
    breaks()
    await ends(cluster)

if __name__ == "__main__":
    if sys.argv[1] == "driver":
        Cluster._close = breaks_and_ends
    with open_client() as client:
        if sys.argv[1] == "worker":
            client.run(atexit.register, breaks)
    print("closed")
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["driver", "worker"])
def test_a_connection_that_breaks_while_a_cluster_closes_is_no_news(where: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(BREAKS_LATE)
    settings = {"PYTHONPATH": str(ROOT), "DASK_LAION_DASK__CLUSTER__WORKERS": "1"}
    done = programs.finished([sys.executable, program, where], env={**os.environ, **settings})
    assert (done.stdout, done.stderr) == ("closed\n", "")
