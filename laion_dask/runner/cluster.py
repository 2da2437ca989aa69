"""Open a Dask client: of local processes, of one process for each GPU, or of a running scheduler.

Machine settings are Dask configuration, never parameters. Defaults:

    laion-dask:
      cluster:
        kind: auto          # auto, local, cuda, or an address such as tls://scheduler:8786
        workers: null       # processes of a local cluster; null: one for each core this process may use
        dashboard: null     # address of the dashboard, e.g. :8787; null: none

or, in the environment, DASK_LAION_DASK__CLUSTER__WORKERS=4.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dask

from laion_dask.runner import fork_server, interrupts

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

_MOST_WORKERS = 4096
_MOST_PORTS = 65_535
_KINDS = "auto, local, cuda, or a scheduler's address such as tls://host:8786"
# One compute thread per process, so that a forward pass gives the same result with any number of workers.
_WORKER_ENV = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # A closing worker restores its log level before it closes its last connections.
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
_DASK = {
    # Dask's profiler samples all threads every 10 ms. Before Python 3.11.9, a garbage collection during a sample can
    # deadlock the process (python/cpython issue 106883): seen in a download after a minute.
    "distributed.worker.profile.enabled": False,
    # tasks.py counts the workers that a part has killed. The scheduler's own count blames every task that a dead worker
    # had, also those that only waited there.
    "distributed.scheduler.allowed-failures": 1_000,
    # A worker that does not restart within this time is never restarted. Dask's 15 s are too short for Python to start
    # on a busy machine; the run would then wait for ever.
    "distributed.deploy.lost-worker-timeout": "10 minutes",
}
# Scheduler and workers always serve HTTP; without routes they disclose nothing.
_NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}


class ClusterError(Exception):
    """The configured cluster cannot be started or reached; the message has the remedy."""


def setting(name: str, default: object = None) -> Any:  # noqa: ANN401 - Dask configuration is untyped
    """Return a machine setting of the section `laion-dask.cluster`."""
    return dask.config.get(f"laion-dask.cluster.{name}", default)


def workers() -> int:
    """Return how many processes a local cluster has: the setting, or one for each core. Raises `ClusterError`."""
    found = setting("workers")
    if found is None:
        return cores()
    # Dask turns environment variables that look like numbers into numbers, and leaves the others as text.
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= _MOST_WORKERS:
        message = (
            f"laion-dask.cluster.workers = {found!r} is refused. Remedy: a whole number from 1 to {_MOST_WORKERS:,}, "
            f"or null for one process per core ({cores()} here)"
        )
        raise ClusterError(message)
    return found


@contextmanager
def at_most(asked: int | None, parts: int) -> Iterator[None]:
    """Limit a local cluster to `asked` processes (None: the setting), and to the number of parts."""
    with dask.config.set({"laion-dask.cluster.workers": min(asked or workers(), max(1, parts))}):
        yield


def addresses(client: Client) -> list[str]:
    """Return the addresses of all workers."""
    return list(client.scheduler_info(n_workers=-1)["workers"])


def driver_host(client: Client) -> str:
    """Return the address at which workers reach this machine: the loopback if all of them run here."""
    worker_urls = [urlsplit(address) for address in addresses(client)]
    if all(url.scheme == "inproc" or url.hostname == "127.0.0.1" for url in worker_urls):
        return "127.0.0.1"
    from distributed.utils import get_ip  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    return str(get_ip(urlsplit(client.scheduler_info(n_workers=0)["address"]).hostname))


def visible_gpus() -> int:
    """Count the GPUs that this process may use; 0 without NVIDIA's driver."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1", "NoDevFiles"}:
        return 0
    try:
        import pynvml  # noqa: PLC0415 - only where the machine has it

        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except (ImportError, OSError):
        return 0
    except pynvml.NVMLError:
        return 0


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_client(*, gpu: bool = False) -> Iterator[Client]:
    """Yield a client of the configured cluster and close both afterwards; `gpu` uses GPUs where there are any."""
    # Importing distributed adds its defaults to Dask's configuration. Imported inside the `set` below, they would be
    # removed again at its end, and this process could not start a second cluster.
    import distributed  # noqa: F401, PLC0415 - so that `laion-dask --help` answers at once

    settings = _DASK if setting("dashboard") else {**_DASK, **_NO_PAGES}
    with _safe_path(), _private_scratch(), dask.config.set(settings):
        yield from _opened(gpu=gpu)


@contextmanager
def _safe_path() -> Iterator[None]:
    """Keep the working directory out of the module path of the Python processes that a run starts.

    They are started with `-c` or `-m`, which put it first: a numpy.py in a folder of downloads would be run.
    """
    previous = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if previous is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = previous


@contextmanager
def _private_scratch() -> Iterator[None]:
    """Give Dask a fresh private temporary folder, and remove it at the end.

    Scheduler, nannies and workers put their folder first on Python's module path and reuse an existing
    `dask-scratch-space`: another user who made that folder could run code as ours.
    """
    with (
        tempfile.TemporaryDirectory(
            prefix="laion-dask-", dir=dask.config.get("temporary-directory", None), ignore_cleanup_errors=True
        ) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        yield


def _opened(*, gpu: bool) -> Iterator[Client]:
    from distributed import Client, LocalCluster  # noqa: PLC0415 - so that `laion-dask --help` answers at once

    kind = str(setting("kind", "auto"))
    if kind == "auto":
        kind = "cuda" if gpu and visible_gpus() else "local"
    if kind == "local":
        start = fork_server.configuration(networks=gpu)
        with dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENV}), dask.config.set(start):
            # The driver reports a task's error once, with the traceback in a file.
            options = {"n_workers": workers(), "threads_per_worker": 1, "silence_logs": "CRITICAL", **_access()}
            with _started(LocalCluster, options) as client:
                yield client
    elif kind == "cuda":
        if not visible_gpus():
            message = "cluster.kind is cuda, but no GPU is visible: set laion-dask.cluster.kind to local or auto"
            raise ClusterError(message)
        from dask_cuda import LocalCUDACluster  # noqa: PLC0415 - needs a GPU

        # Daemonic workers may not start processes; ours do, to decode images.
        with dask.config.set({"distributed.worker.daemon": False}):
            # Three parts at once on each GPU: one computes while another is written and a third starts.
            options = {"rmm_pool_size": None, "threads_per_worker": 3, "silence_logs": "CRITICAL", **_access()}
            with _started(LocalCUDACluster, options) as client:
                yield client
                client.run(_end_children)
    elif "://" in kind:
        try:
            client = Client(kind, timeout="30s")
        except ValueError as error:
            message = f"laion-dask.cluster.kind = {kind!r} cannot be reached: {error}. Remedy: use {_KINDS}"
            raise ClusterError(message) from error
        with client:
            yield client
    else:
        message = f"laion-dask.cluster.kind = {kind!r} is not known. Remedy: use {_KINDS}"
        raise ClusterError(message)


@contextmanager
def _started(make: type[LocalCluster], options: Mapping[str, Any]) -> Iterator[Client]:
    """Start a cluster and a client, and close both; signals are deferred while either starts or closes.

    Interrupted while it starts or ends its processes, Dask would leave some of them behind.
    """
    from distributed import Client  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    with _silence(), ExitStack() as opened:
        with interrupts.defer_signals("The run ends as soon as its processes have started."):
            with _signals_blocked_for_workers():
                cluster = _made(make, options)
            opened.callback(_close, cluster)
            client = opened.enter_context(Client(cluster))
        yield client


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Dask's log from the terminal until the cluster's event loop has ended.

    Dask's own `silence_logs` ends while a cluster closes. Connections that break after that, e.g. because a signal has
    ended the workers too, would be logged with a traceback.
    """
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _made(make: type[LocalCluster], options: Mapping[str, Any]) -> LocalCluster:
    """Make a cluster; raises `ClusterError` if Dask cannot start it."""
    try:
        return make(**options)
    except RuntimeError as error:
        remedy = "check that this user may start processes and open ports on 127.0.0.1"
        raise ClusterError(f"{error}. Remedy: {remedy}") from error


def _close(cluster: LocalCluster) -> None:
    """Close the cluster; kill workers that are still restarting when Dask's wait times out."""
    with interrupts.defer_signals():
        try:
            cluster.close()
        except TimeoutError:
            for child in multiprocessing.active_children():
                if child.name.startswith("Dask Worker process"):
                    child.kill()
                    child.join()


def _end_children() -> None:
    """End a worker's child processes: the worker would wait for them longer than its nanny waits for it."""
    for child in multiprocessing.active_children():
        child.terminate()


@contextmanager
def _signals_blocked_for_workers() -> Iterator[None]:
    """Block Ctrl-C and SIGHUP while workers start: they inherit the mask, so only the driver gets these signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # Starting the first process also starts the resource tracker, which unblocks SIGINT: so start that first.
    # The tracker ignores SIGINT but dies of SIGHUP; its replacement would print a traceback for each resource that was
    # registered with the first one.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})


def _dashboard() -> str | None:
    """Return the dashboard's address, or None; raises `ClusterError` if this machine does not have that address."""
    address = setting("dashboard")
    if not address:
        return None
    host, _, port = str(address).rpartition(":")
    with suppress(OSError, UnicodeError):
        if port.isascii() and port.isdecimal() and int(port) <= _MOST_PORTS:
            socket.getaddrinfo(host.strip("[]") or None, int(port))
            return str(address)
    message = (
        f"laion-dask.cluster.dashboard = {address!r} is not an address of this machine. Remedy: a port, e.g. :8787, or "
        "an address of this machine with a port, e.g. 127.0.0.1:8787"
    )
    raise ClusterError(message)


def _access() -> dict[str, Any]:
    """Return the arguments of a local cluster that restrict who may connect to it.

    Whoever connects to a scheduler, a worker or a nanny can run code as its user, and every user of the machine can
    reach ports on the loopback. So both ends of each connection must show the certificate of this run, whose key is
    only in the memory of its processes.
    """
    from distributed.security import Security  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    access = {"security": Security.temporary(), "protocol": "tls://"}
    address = _dashboard()
    if address:
        return {**access, "dashboard_address": address}
    # With None, Dask would still serve HTTP on port 8787 of every interface; this takes a free port of the loopback.
    return {**access, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
