"""Open a Dask client: of local processes, GPUs, a running scheduler, or any class that starts a cluster."""

from __future__ import annotations

import difflib
import importlib
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import dask

from laion_dask.cluster import local
from laion_dask.cluster.settings import ClusterError, Settings, settings
from laion_dask.storage.work_folder import work_folder

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster

_DASK: Final = {
    # Dask's profiler samples all threads every 10 ms. Before Python 3.11.9, a garbage collection during a sample can
    # deadlock the process (python/cpython issue 106883): seen in a download after a minute.
    "distributed.worker.profile.enabled": False,
    # tasks.py counts the workers that a part has killed. The scheduler's own count blames every task that a dead worker
    # had, also those that only waited there.
    "distributed.scheduler.allowed-failures": 1_000,
    # A worker that does not restart within this time is never restarted. Dask's 15 s are too short for Python to start
    # on a busy machine; the run would then wait for ever.
    "distributed.deploy.lost-worker-timeout": "10 minutes",
    # Each process measures the lag of its event loop, by default every 20 ms, for a page that runs do not have. An idle
    # worker and its nanny took 18 ms of processor time a second, and take 8 ms with this.
    "distributed.admin.tick.interval": "500 ms",
}
# Scheduler and workers always serve HTTP; without routes they disclose nothing.
_NO_PAGES: Final[Mapping[str, list[str]]] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}
_ANSWERS_S: Final = 30
# Packages of cluster classes, and how to install them.
_INSTALLED_BY: Final = {
    "dask_jobqueue": "pip install 'laion-dask[cluster]'",
    "dask_kubernetes": "pip install 'laion-dask[cluster]'",
    "dask_cloudprovider": "pip install dask-cloudprovider",
    "coiled": "pip install coiled",
}


@contextmanager
def open_client(stage: str | None = None, *, gpu: bool = False) -> Iterator[Client]:
    """Yield a client of the cluster that a stage's settings name, and close both; `gpu` uses GPUs where there are any.

    Raises `ClusterError` with key, value and remedy.
    """
    # Importing distributed adds its defaults to Dask's configuration. Imported inside the `set` below, they would be
    # removed again at its end, and this process could not start a second cluster.
    import distributed  # noqa: F401, PLC0415 - so that `laion-dask --help` answers at once

    found = settings(stage)
    pages = {} if found.dashboard else _NO_PAGES
    configured = dask.config.set({**_DASK, **pages})
    with local.safe_path(), local.private_scratch(), configured, _opened(found, gpu=gpu) as client:
        yield client


def _opened(found: Settings, *, gpu: bool) -> AbstractContextManager[Client]:
    if found.form == "address":
        return _connected(found, {"address": found.kind})
    if found.form == "file":
        return _connected(found, {"scheduler_file": str(_scheduler_file(found))})
    if found.form == "class":
        return _scaled(found)
    kind = found.kind
    if kind == "auto":
        kind = "cuda" if gpu and local.visible_gpus() else "local"
    return local.gpus(found) if kind == "cuda" else local.processes(found, gpu=gpu)


def _scheduler_file(found: Settings) -> Path:
    path = Path(found.kind)
    if not path.is_file():
        raise ClusterError(
            f"{found.where['kind']} = {found.kind!r}: there is no such file. Remedy: start the scheduler with "
            f"`dask scheduler --scheduler-file {found.kind}` on a folder that this machine sees"
        )
    return path


@contextmanager
def _connected(found: Settings, where: Mapping[str, str]) -> Iterator[Client]:
    from distributed import Client  # noqa: PLC0415

    with local.silence():
        yield from _client(found, lambda: Client(**where, timeout=f"{_ANSWERS_S}s"))


def _client(found: Settings, connect: Callable[[], Client]) -> Iterator[Client]:
    try:
        client = connect()
    except ValueError as error:
        message = (
            f"{found.where['kind']} = {found.kind!r} cannot be reached: {error}. Remedy: use auto, local, cuda or a "
            "scheduler's address such as tls://host:8786"
        )
        raise ClusterError(message) from error
    except TypeError as error:
        # Dask's error where an address asks for TLS and the configuration names no certificate.
        if "ssl_context" not in str(error):
            raise
        message = (
            f"{found.where['kind']} = {found.kind!r} asks for a certificate, and this machine's Dask configuration "
            "names none. Remedy: set distributed.comm.tls.ca-file, distributed.comm.tls.client.cert and "
            "distributed.comm.tls.client.key, as for the scheduler and its workers"
        )
        raise ClusterError(message) from error
    except OSError as error:
        message = (
            f"{found.where['kind']} = {found.kind!r} does not answer within {_ANSWERS_S} s ({error}). Remedy: check "
            "that the scheduler runs and that this machine may connect to it; a tls:// scheduler needs "
            "distributed.comm.tls in the Dask configuration here too"
        )
        raise ClusterError(message) from error
    with client:
        yield client


@contextmanager
def _scaled(found: Settings) -> Iterator[Client]:
    """Start a cluster by its class, ask for its workers, and end it afterwards with all of its workers."""
    kind = _class(found)
    folder = work_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # Private, and removed at the end: it may hold the key of the cluster.
    with tempfile.TemporaryDirectory(prefix="jobs-", dir=folder, ignore_cleanup_errors=True) as private:
        yield from _of_class(found, kind, {**_defaults(found, private), **found.options})


def _of_class(found: Settings, kind: type[Cluster], options: Mapping[str, Any]) -> Iterator[Client]:

    def make() -> Cluster:
        try:
            return kind(**options)
        except ClusterError:
            raise
        except Exception as error:  # whatever a foreign class raises for its options
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ClusterError(
                f"{found.where['kind']} = {found.kind!r} cannot be started with {found.where['options']} = "
                f"{dict(found.options)!r}: {type(error).__name__}: {first}. Remedy: see the documentation of that "
                "class for its options; `laion-dask cluster` tries them"
            ) from error

    with local.started(make) as client:
        cluster: Any = client.cluster
        if found.adapt is not None:
            cluster.adapt(**found.adapt)
        else:
            cluster.scale(found.workers)
        yield client


def _class(found: Settings) -> type[Cluster]:
    from distributed.deploy.cluster import Cluster  # noqa: PLC0415

    place, _, name = found.kind.rpartition(".")
    key = found.where["kind"]
    try:
        module = importlib.import_module(place)
    except ImportError as error:
        package = place.partition(".")[0]
        remedy = _INSTALLED_BY.get(package, f"install the package of {package}, or correct the path")
        raise ClusterError(f"{key} = {found.kind!r} cannot be imported ({error}). Remedy: {remedy}") from error
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Cluster)):
        classes = [one for one, value in vars(module).items() if isinstance(value, type) and issubclass(value, Cluster)]
        near = difflib.get_close_matches(name, classes, 1)
        remedy = f"did you mean {place}.{near[0]}?" if near else f"{place} has {', '.join(sorted(classes)) or 'none'}"
        raise ClusterError(f"{key} = {found.kind!r} is not a class of Dask clusters. Remedy: {remedy}")
    return kind


def _defaults(found: Settings, private: str) -> dict[str, Any]:
    """Return options that protect a cluster, where the user has not set them.

    The scheduler of a batch job listens on the network of a site, where any user could run code as this one. With
    `security: true`, dask-jobqueue makes a certificate for this cluster, and jobs read it in a private folder.
    """
    if found.kind.startswith("dask_jobqueue."):
        # Else its dashboard would be open to the network, on a port that another user may have.
        scheduler = {"dashboard_address": found.dashboard or "127.0.0.1:0"}
        return {
            "security": True,
            "protocol": "tls://",
            "shared_temp_directory": private,
            "scheduler_options": scheduler,
        }
    return {}


def reached_at(client: Client, found: Settings) -> str:
    """Return this machine's address at which workers reach servers of the driver; raises `ClusterError`.

    The loopback for local processes. Elsewhere workers may come at any time and from any host, so it is the address
    from which this machine reaches the scheduler, unless `laion-dask.cluster.host` names another one.
    """
    if found.host:
        try:
            return str(socket.getaddrinfo(found.host, None, type=socket.SOCK_STREAM)[0][4][0])
        except (OSError, UnicodeError) as error:
            raise ClusterError(
                f"{found.where['host']} = {found.host!r} is not an address of this machine ({error}). Remedy: an "
                "address at which workers reach this machine, or null"
            ) from error
    scheduler = urlsplit(client.scheduler_info(n_workers=0)["address"]).hostname
    if found.form == "own" or not scheduler:
        return "127.0.0.1"
    from distributed.utils import get_ip  # noqa: PLC0415 - with a cluster, distributed is loaded anyway

    return str(get_ip(scheduler))
