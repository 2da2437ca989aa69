"""The handshake of a worker: a Dask plugin that compares its code, folders and settings with the driver's.

The driver sends it to every worker when a run starts; Dask sends it to workers that join later, and to those that
restart. A worker that passes declares the Dask resource of the run, which every task asks for, so a worker that has not
answered or has been refused never gets a task. The plugin is pickled by value and imports the package only to compare
it: the package there may be an older one, or missing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from distributed import WorkerPlugin

if TYPE_CHECKING:
    from distributed import Worker

TOPIC: Final = "laion-dask-handshake"
"""Prefix of the topic of Dask's events under which workers answer; the resource of the run has the same name."""
# Any number: tasks ask for one thousandth of one, so that the resource never limits how many run at once.
SHARE: Final = 1e-3
_ENOUGH: Final = 1e6
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker compares itself with, in plain values: they are unpickled by any version of this package."""

    run: str
    """Name of the topic and of the resource of this run."""
    sign: str
    """Path of a file that the driver has written below its folder of work."""
    content_sha256: str
    """Of the content of that file; the worker answers with the content."""
    files: str
    """See `code_digest.Code`."""
    python: str
    libraries: dict[str, str] = field(default_factory=dict)
    threads: dict[str, str] = field(default_factory=dict)
    """Environment variables that decide how many threads libraries use."""
    gpus: bool = False
    """The stage uses GPUs: each process takes one of its own."""
    wait_s: float = 10.0
    """How long to wait for the file: network file systems show files of other machines late."""


class Handshake(WorkerPlugin):
    """Compares a worker with the driver when it joins; its name is that of the run."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.name = wanted.run
        self._answering: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def setup(self, worker: Worker) -> None:
        """Start to compare; the worker may serve other clients meanwhile."""
        self._answering = asyncio.create_task(self._answer(worker))

    async def teardown(self, worker: Worker) -> None:
        """Forget the run; its parts that are interrupted because this worker ends in order have not killed it."""
        import contextlib  # noqa: PLC0415 - this class is pickled by value
        import multiprocessing  # noqa: PLC0415
        import sys  # noqa: PLC0415

        if self._answering is not None:
            self._answering.cancel()
        ends = worker.status.name not in {"running", "paused"}
        if ends and not worker.address.startswith("inproc:"):
            attempts = sys.modules.get("laion_dask.runner.attempts")
            if attempts is not None:
                attempts.withdraw_all()
            # It would wait for them longer than its nanny waits for it.
            for child in multiprocessing.active_children():
                child.terminate()
        elif not ends and self.wanted.run in worker.state.total_resources:
            with contextlib.suppress(Exception):  # the scheduler may be gone
                await worker.set_resources(**{self.wanted.run: 0})

    async def _answer(self, worker: Worker) -> None:
        import asyncio  # noqa: PLC0415 - this class is pickled by value

        try:
            content = await asyncio.to_thread(content_of, self.wanted)
            for _ in range(round(self.wanted.wait_s / _POLL_S)):
                if content:
                    break
                await asyncio.sleep(_POLL_S)
                content = await asyncio.to_thread(content_of, self.wanted)
            answer = await asyncio.to_thread(compare, self.wanted, content)
        except Exception as error:  # noqa: BLE001 - whatever is wrong there is told to the driver
            answer = {"lacks": [f"the comparison failed there: {type(error).__name__}: {error}"], "remedy": ""}
        answer["address"] = worker.address
        # A worker on a thread of the driver has the driver's process, which is as it should be.
        answer["set"] = [] if worker.address.startswith("inproc:") else settle(worker, self.wanted)
        if answer["lacks"] and answer.get("stale") and worker.nanny:
            answer["restarts"] = True
            worker.log_event(self.wanted.run, answer)
            # A task of its own: closing ends this one, in `teardown`.
            self._closing = asyncio.create_task(_restart(worker))
            return
        if not answer["lacks"]:
            await worker.set_resources(**{self.wanted.run: _ENOUGH})
            resume(worker)
        # Last: the driver submits tasks once it has read this.
        worker.log_event(self.wanted.run, answer)


async def _restart(worker: Worker) -> None:
    import asyncio  # noqa: PLC0415 - pickled by value

    await asyncio.sleep(0.1)  # so that the event is sent
    await worker.close_gracefully(restart=True, reason="laion_dask has changed on disk")


def resume(worker: Worker) -> None:
    """Let the scheduler look again for tasks that waited for a worker with this resource.

    It looks when a worker joins or changes its status, not when a resource is declared.
    """
    from distributed.core import Status  # noqa: PLC0415 - pickled by value

    if worker.status == Status.running:
        worker.status = Status.paused
        worker.status = Status.running


def settle(worker: Worker, wanted: Wanted) -> list[str]:
    """Set what a worker may have been started without, and name what was changed."""
    import multiprocessing  # noqa: PLC0415 - pickled by value
    import os  # noqa: PLC0415
    import sys  # noqa: PLC0415

    threads = dict(wanted.threads.items() - os.environ.items())
    os.environ.update(threads)
    changed = [f"{name}={value}" for name, value in sorted(threads.items())]
    if changed and "numpy" in sys.modules:
        # Loaded libraries do not read the environment again.
        try:
            import threadpoolctl  # noqa: PLC0415

            threadpoolctl.threadpool_limits(1)
        except ImportError:
            pass
    for name in ("profile", "profile-cycle"):
        callback = worker.periodic_callbacks.pop(name, None)
        if callback is not None:
            callback.stop()
            changed.append(f"no {name}")
    withdraw_on_sigterm()
    process = multiprocessing.current_process()
    if process.daemon:
        # Parts start processes that decode images; `teardown` ends them.
        # The public attribute is fixed once a process runs.
        vars(process)["_config"]["daemon"] = False
        changed.append("may start processes")
    return changed


def withdraw_on_sigterm() -> None:
    """Let SIGTERM withdraw the notes of this process's parts before it ends the process.

    A batch system sends it to every process of a job. `dask worker` then ends its worker in order, but a worker process
    that the signal reaches first would die in its part. Does nothing where the signal has a handler already.
    """
    import os  # noqa: PLC0415 - pickled by value
    import signal  # noqa: PLC0415
    import sys  # noqa: PLC0415
    import threading  # noqa: PLC0415

    def withdraw(number: int, _: object) -> None:
        attempts = sys.modules.get("laion_dask.runner.attempts")
        if attempts is not None:
            attempts.withdraw_all()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, withdraw)


def compare(wanted: Wanted, content: str) -> dict[str, Any]:
    """Return who this worker is and what it lacks, each as a sentence without the remedy."""
    import os  # noqa: PLC0415 - pickled by value
    import socket  # noqa: PLC0415

    lacks, remedy = [], ""
    differences, stale = code_differences(wanted)
    if differences:
        lacks.append(f"its code is not the driver's: {'; '.join(differences)}")
        remedy = "install the same commit of this project and the same requirements.lock there, then restart the worker"
    if not content:
        lacks.append(f"it does not see the driver's folder {wanted.sign.rpartition('/')[0]}")
        remedy = remedy or (
            "workers need the same files under the same paths: mount the project's folder there, and what "
            "LAION_DASK_HOME names"
        )
    if wanted.gpus and not lacks:
        from laion_dask.workers import gpus  # noqa: PLC0415 - its code is the driver's

        if reason := gpus.take():
            lacks.append(reason)
            remedy = (
                "start one worker for each GPU: `dask cuda worker`, or jobs with processes: 1 and one GPU each; or let "
                "the stage ask for a resource that only such workers have, with laion-dask.cluster.score.resources"
            )
    about = {"host": socket.gethostname(), "pid": os.getpid(), "machine": machine()}
    about |= {"cores": os.cpu_count() or 1, "processor": processor()}
    return {**about, "lacks": lacks, "remedy": remedy, "stale": stale, "content": content}


def code_differences(wanted: Wanted) -> tuple[list[str], bool]:
    """Return how code and libraries differ from the driver's, and whether a restart would mend it."""
    import platform  # noqa: PLC0415 - pickled by value

    stale = False
    python = ".".join(platform.python_version_tuple()[:2])
    differences = [] if python == wanted.python else [f"Python {python}, not {wanted.python}"]
    memory, disk = files_here()
    if memory is None:
        differences.append(f"it has no laion_dask that can compare itself ({disk})")
    elif memory != wanted.files:
        stale = disk == wanted.files
        since = " in this process, which has started before the code changed" if stale else ""
        differences.append(f"laion_dask's files {memory[:12]}…{since}, not {wanted.files[:12]}…")
    elif disk != wanted.files:
        differences.append(f"laion_dask's files on its disk have changed to {disk[:12]}…, not {wanted.files[:12]}…")
    for name, version in wanted.libraries.items():
        found, loaded = versions_of(name)
        if found != version:
            differences.append(f"{name} {found}, not {version}")
        elif loaded and loaded != found:
            stale = True
            differences.append(f"{name} {loaded} in this process, {found} on its disk")
    return differences, stale


def machine() -> str:
    """Return what tells one kernel, network and file system from another: equal here and there means one machine."""
    import contextlib  # noqa: PLC0415 - pickled by value
    import uuid  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    found = [str(uuid.getnode())]
    with contextlib.suppress(OSError):
        found = [Path("/proc/sys/kernel/random/boot_id").read_text().strip()]
        found += [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "mnt")]
    return " ".join(found)


def processor() -> str:
    """Return the kind of processor, and what overrides the choice of kernels for it."""
    import contextlib  # noqa: PLC0415 - pickled by value
    import os  # noqa: PLC0415
    import platform  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    found = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), found)
    chosen = {name: os.environ[name] for name in ("OPENBLAS_CORETYPE", "ONEDNN_MAX_CPU_ISA") if name in os.environ}
    return "; ".join([found, *(f"{name}={value}" for name, value in chosen.items())])


def files_here() -> tuple[str | None, str]:
    """Return the digest of laion_dask as this process has loaded it and as it is on disk; None and why without one."""
    try:
        from laion_dask.workers import code_digest  # noqa: PLC0415 - on the worker

        return code_digest.of_process().files, code_digest.files_on_disk()
    except (ImportError, AttributeError) as error:
        return None, str(error)


def versions_of(package: str) -> tuple[str, str | None]:
    """Return the version of a package on disk, and the one that this process has loaded, None if none."""
    import importlib.metadata  # noqa: PLC0415 - pickled by value
    import sys  # noqa: PLC0415

    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = "absent"
    names = {"pillow": "PIL", "scikit-learn": "sklearn", "open_clip_torch": "open_clip", "faiss-cpu": "faiss"}
    module = sys.modules.get(names.get(package, package.replace("-", "_")))
    loaded = getattr(module, "__version__", None)
    # A local part such as +cu130 may stand in one of them only.
    same = isinstance(loaded, str) and loaded.partition("+")[0] == found.partition("+")[0]
    return found, found if same or not isinstance(loaded, str) else loaded


def content_of(wanted: Wanted) -> str:
    """Return the content of the driver's file, "" if it cannot be read or is another one."""
    import contextlib  # noqa: PLC0415 - pickled by value
    import hashlib  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    sign = Path(wanted.sign)
    with contextlib.suppress(OSError, UnicodeError):
        list(sign.parent.iterdir())  # refreshes the cache of a network file system's client
        content = sign.read_text()
        if hashlib.sha256(content.encode()).hexdigest() == wanted.content_sha256:
            return content
    return ""
