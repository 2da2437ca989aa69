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

from laion_dask.runner import interrupts

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

_MOST_WORKERS = 4096
_MOST_PORTS = 65_535
_KINDS = "auto, local, cuda, or a scheduler's address such as tls://host:8786"
# One compute thread for each process: results of a forward pass do not depend on how many workers there are.
_WORKER_ENV = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    # A worker that closes ends the silence that the cluster asked of it before it closes its last connections.
    "DASK_LOGGING__DISTRIBUTED": "critical",
}
_DASK = {
    # Dask's profiler looks at all threads every 10 ms. In Python before 3.11.9 a garbage collection that falls into
    # such a look stops the process for ever (python/cpython issue 106883): seen in a download after a minute.
    "distributed.worker.profile.enabled": False,
    # A part that kills its worker is stopped by the notes that parts.py keeps of it. The scheduler's own count blames
    # every task that a dead worker had, also those that only waited there.
    "distributed.scheduler.allowed-failures": 1_000,
    # A worker that is not back within this time is given up for good. Dask's 15 s pass while a busy machine starts
    # Python anew, and then a run waits for workers that nobody starts.
    "distributed.deploy.lost-worker-timeout": "10 minutes",
}
# Scheduler and workers listen for HTTP whatever is asked for; without routes they have nothing to tell.
_NO_PAGES: dict[str, list[str]] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}


class ClusterError(Exception):
    """The cluster that the configuration asks for cannot be had; the message has the remedy."""


def setting(name: str, default: object = None) -> Any:  # noqa: ANN401 - Dask configuration is untyped
    """Return a machine setting of the section `laion-dask.cluster`."""
    return dask.config.get(f"laion-dask.cluster.{name}", default)


def workers() -> int:
    """Return how many processes a local cluster has: the setting, or one for each core. Raises `ClusterError`."""
    found = setting("workers")
    if found is None:
        return cores()
    # From the environment Dask makes a number of what looks like one, and leaves the rest a text.
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= _MOST_WORKERS:
        message = (
            f"laion-dask.cluster.workers = {found!r} is refused. Remedy: a whole number from 1 to {_MOST_WORKERS:,}, "
            f"or null for one process for each core, which are {cores()} here"
        )
        raise ClusterError(message)
    return found


@contextmanager
def at_most(asked: int | None, parts: int) -> Iterator[None]:
    """Give a local cluster so many processes (None: the setting), but no more than there are parts."""
    with dask.config.set({"laion-dask.cluster.workers": min(asked or workers(), max(1, parts))}):
        yield


def addresses(client: Client) -> list[str]:
    """Return the addresses of all workers."""
    return list(client.scheduler_info(n_workers=-1)["workers"])


def driver_host(client: Client) -> str:
    """Return the address of this machine at which the workers reach it: the loopback where all of them run here."""
    places = [urlsplit(address) for address in addresses(client)]
    if all(place.scheme == "inproc" or place.hostname == "127.0.0.1" for place in places):
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
    """Yield a client of the configured cluster and close both afterwards; `gpu` asks for GPUs where there are any."""
    # Dask reads distributed's defaults when that is imported. Were it imported inside of the setting below, the end of
    # the setting would take the defaults away with it, and a second cluster of this process could not start.
    import distributed  # noqa: F401, PLC0415 - so that `laion-dask --help` answers at once

    with _own_scratch(), dask.config.set(_DASK if setting("dashboard") else {**_DASK, **_NO_PAGES}):
        yield from _opened(gpu=gpu)


@contextmanager
def _own_scratch() -> Iterator[None]:
    """Give Dask a temporary folder that no other user of the machine can have made before us, and remove it at the end.

    Scheduler, nannies and workers put their folder first in the places where Python looks for modules, and take the
    folder `dask-scratch-space` as they find it: whoever made that could run code as our user.
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
        with dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENV}):
            # What a task raises is reported once, by the driver, with the traceback in a file.
            options = {"n_workers": workers(), "threads_per_worker": 1, "silence_logs": "CRITICAL", **_doors()}
            with _started(LocalCluster, options) as client:
                yield client
    elif kind == "cuda":
        if not visible_gpus():
            message = "cluster.kind is cuda, but no GPU is visible: set laion-dask.cluster.kind to local or auto"
            raise ClusterError(message)
        from dask_cuda import LocalCUDACluster  # noqa: PLC0415 - needs a GPU

        # Dask's workers may have no processes of their own unless this says so: theirs decode (ahead.py).
        with dask.config.set({"distributed.worker.daemon": False}):
            # Three parts at once on each GPU: it computes one while another is written and a third one started.
            options = {"rmm_pool_size": None, "threads_per_worker": 3, "silence_logs": "CRITICAL", **_doors()}
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
    """Start a cluster and a client of it, and end both; a signal that comes in between waits for the end of either.

    Dask can be interrupted neither while it starts its processes nor while it ends them: some would be left.
    """
    from distributed import Client  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    with _silence(), ExitStack() as opened:
        with interrupts.held("The run ends as soon as its processes have started."):
            with _unheard_by_workers():
                cluster = _made(make, options)
            opened.callback(_close, cluster)
            client = opened.enter_context(Client(cluster))
        yield client


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Dask's log from the terminal until the cluster's event loop has ended.

    Dask's own `silence_logs` ends while a cluster closes. Connections that break after that, as when a signal has ended
    the workers too, would be logged with a traceback.
    """
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _made(make: type[LocalCluster], options: Mapping[str, Any]) -> LocalCluster:
    """Make a cluster; `ClusterError` where Dask cannot start it."""
    try:
        return make(**options)
    except RuntimeError as error:
        remedy = "see that this user may start processes and open ports on 127.0.0.1"
        raise ClusterError(f"{error}. Remedy: {remedy}") from error


def _close(cluster: LocalCluster) -> None:
    """Close the cluster; a worker that is just being started anew, which Dask waits for too shortly, is killed."""
    with interrupts.held():
        try:
            cluster.close()
        except TimeoutError:
            for child in multiprocessing.active_children():
                if child.name.startswith("Dask Worker process"):
                    child.kill()
                    child.join()


def _end_children() -> None:
    """End the processes of a worker: it waits for them when it ends, and its nanny does not wait that long."""
    for child in multiprocessing.active_children():
        child.terminate()


@contextmanager
def _unheard_by_workers() -> Iterator[None]:
    """Block Ctrl-C and SIGHUP: workers that start inherit that, so that a terminal reaches the driver alone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    # Starting the first process starts this tracker too, which unblocks SIGINT; so it is started before that.
    # The tracker ignores SIGINT by itself but dies of SIGHUP; its replacement would then print a traceback for each
    # resource that was registered with the first one.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGHUP})


def _dashboard() -> str | None:
    """Return the address of the dashboard; `ClusterError` where it can have none, which Dask tells by a traceback."""
    asked = setting("dashboard")
    if not asked:
        return None
    host, _, port = str(asked).rpartition(":")
    with suppress(OSError, UnicodeError):
        if port.isascii() and port.isdecimal() and int(port) <= _MOST_PORTS:
            socket.getaddrinfo(host.strip("[]") or None, int(port))
            return str(asked)
    message = (
        f"laion-dask.cluster.dashboard = {asked!r} is no address of this machine. Remedy: a port, as :8787, or an "
        "address of this machine with a port, as 127.0.0.1:8787"
    )
    raise ClusterError(message)


def _doors() -> dict[str, Any]:
    """Return the arguments of a local cluster that decide who may talk to it.

    Whoever talks to a scheduler, a worker or a nanny can run code as its user, and ports on the loopback are open to
    every user of the machine. So both ends of each connection have to show the certificate of this run, whose key is
    in the memory of its processes only.
    """
    from distributed.security import Security  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    doors = {"security": Security.temporary(), "protocol": "tls://"}
    address = _dashboard()
    if address:
        return {**doors, "dashboard_address": address}
    # With None, Dask still serves HTTP on port 8787 of every interface: a free one of the loopback meets nobody.
    return {**doors, "dashboard_address": "127.0.0.1:0", "scheduler_kwargs": {"dashboard": False}}
