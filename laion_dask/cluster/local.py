"""Start and end a cluster of this machine: one process for each core, or for each GPU.

One compute thread per process, so that a forward pass gives the same result with any number of workers.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Final

import dask

from laion_dask.cluster import fork_server, interrupts
from laion_dask.cluster.settings import ClusterError, Settings, cores

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster

_MOST_PORTS: Final = 65_535
_CLOSE_S: Final = 60.0
THREADS: Final = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment of each worker: libraries that multiply matrices use one thread."""
_WORKER_ENV: Final = {
    **THREADS,
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # A closing worker restores its log level before it closes its last connections.
    "DASK_LOGGING__DISTRIBUTED": "critical",
}


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


@contextmanager
def safe_path() -> Iterator[None]:
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
def private_scratch() -> Iterator[None]:
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


@contextmanager
def processes(settings: Settings, *, gpu: bool) -> Iterator[Client]:
    """Start one process with one thread for each core, or as many as the settings say; `gpu`: they will load torch."""
    from distributed import LocalCluster  # noqa: PLC0415 - so that `laion-dask --help` answers at once

    start = fork_server.configuration(networks=gpu)
    with dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENV}), dask.config.set(start):
        options = {"n_workers": settings.workers or cores(), "threads_per_worker": 1, **_common(settings)}
        with started(lambda: LocalCluster(**options)) as client:
            yield client


@contextmanager
def gpus(settings: Settings) -> Iterator[Client]:
    """Start one process for each visible GPU; raises `ClusterError` where there is none."""
    if not visible_gpus():
        key = settings.where.get("kind", "laion-dask.cluster.kind")
        raise ClusterError(f"{key} is cuda, but no GPU is visible: set laion-dask.cluster.kind to local or auto")
    from dask_cuda import LocalCUDACluster  # noqa: PLC0415 - needs a GPU

    # Daemonic workers may not start processes; ours do, to decode images.
    with dask.config.set({"distributed.worker.daemon": False}):
        # Three parts at once on each GPU: one computes while another is written and a third starts.
        options = {"rmm_pool_size": None, "threads_per_worker": 3, **_common(settings)}
        if settings.workers:
            options["n_workers"] = settings.workers
        with started(lambda: LocalCUDACluster(**options)) as client:
            yield client


def _common(settings: Settings) -> dict[str, Any]:
    # The driver reports a task's error once, with the traceback in a file.
    resources = {"resources": dict(settings.resources)} if settings.resources else {}
    return {"silence_logs": "CRITICAL", **resources, **_access(settings)}


@contextmanager
def started(make: Callable[[], Cluster]) -> Iterator[Client]:
    """Start a cluster and a client, and close both; signals are deferred while either starts or closes.

    Interrupted while it starts or ends its processes, Dask would leave some of them behind.
    """
    from distributed import Client  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    with silence(), ExitStack() as opened:
        with interrupts.defer_signals("The run ends as soon as its processes have started."):
            with _signals_blocked_for_workers():
                cluster = _made(make)
            opened.callback(_close, cluster)
            client = opened.enter_context(Client(cluster))
        yield client


@contextmanager
def silence() -> Iterator[None]:
    """Keep Dask's log from the terminal until the cluster's event loop has ended.

    Dask's own `silence_logs` ends while a cluster closes. Connections that break after that, e.g. because a signal has
    ended the workers too, would be logged with a traceback. So would a scheduler that is lost.
    """
    # All of them: Dask's configuration gives some, such as distributed.client, a level of their own.
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    levels = {logger: logger.level for logger in map(logging.getLogger, ["distributed", *names])}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _made(make: Callable[[], Cluster]) -> Cluster:
    """Make a cluster; raises `ClusterError` if Dask cannot start it."""
    try:
        return make()
    except RuntimeError as error:
        remedy = "check that this user may start processes and open ports on 127.0.0.1"
        raise ClusterError(f"{error}. Remedy: {remedy}") from error


def _close(cluster: Any) -> None:  # noqa: ANN401 - a cluster of any class
    """Close the cluster; where Dask's wait for its workers does not end, kill those that are processes of this one."""
    with interrupts.defer_signals():
        try:
            cluster.close(timeout=_CLOSE_S)
        except TimeoutError:
            # Workers elsewhere end themselves once their scheduler is gone.
            scheduler: Any = getattr(cluster, "scheduler", None)
            if scheduler is not None and hasattr(scheduler, "close"):
                with suppress(Exception):
                    cluster.sync(scheduler.close, callback_timeout=_CLOSE_S)
            for child in multiprocessing.active_children():
                if child.name.startswith("Dask Worker process"):
                    child.kill()
                    child.join()


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


def _dashboard(address: str | None) -> str | None:
    """Return the dashboard's address, or None; raises `ClusterError` if this machine does not have that address."""
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


def _access(settings: Settings) -> dict[str, Any]:
    """Return the arguments of a local cluster that restrict who may connect to it.

    Whoever connects to a scheduler, a worker or a nanny can run code as its user, and every user of the machine can
    reach ports on the loopback. So both ends of each connection must show the certificate of this run, whose key is
    only in the memory of its processes.
    """
    from distributed.security import Security  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    access = {"security": Security.temporary(), "protocol": "tls://"}
    address = _dashboard(settings.dashboard)
    if address:
        return {**access, "dashboard_address": address}
    # With None, Dask would still serve HTTP on port 8787 of every interface; this takes a free port of the loopback.
    return {**access, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
