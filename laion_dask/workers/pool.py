"""The workers that may work: those that have passed the handshake; wait for them, watch them come and go.

A pool may be empty when a run starts (jobs wait in a queue), grow, shrink, and be empty again for a while. The driver
says what it waits for, and ends after the patience of the settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laion_dask.cluster.kinds import reached_at
from laion_dask.cluster.local import THREADS
from laion_dask.cluster.settings import Settings, settings
from laion_dask.storage.sync import sync_names
from laion_dask.workers import code_digest
from laion_dask.workers.checks import WorkerRefusedError
from laion_dask.workers.patience import Patience, Seen

if TYPE_CHECKING:
    from distributed import Client

SIGN: Final = ".handshake-"
"""Prefix of the file below the folder of work that workers read in the handshake."""
_WINDOW_PER_WORKER: Final = 4
"""Tasks for each worker: enough to keep it busy between two looks of the driver; more would only use memory."""
_LOOK_S: Final = 5.0
_ANSWER_S: Final = 10.0


class SchedulerLostError(Exception):
    """The connection to the scheduler is lost."""


@dataclass(frozen=True, slots=True)
class Member:
    """A worker that has passed the handshake."""

    address: str
    host: str
    pid: int
    machine: str
    """Equal for processes of one kernel, network and file system."""
    cores: int
    changed: tuple[str, ...]
    """What the handshake has set there."""
    processor: str = ""
    """Its kind, and variables that choose kernels for another one."""


class Pool:
    """The workers of a client that have passed the handshake of this run."""

    def __init__(
        self,
        client: Client,
        folder: Path,
        stage: str,
        say: Callable[[str], None],
        found: Settings,
        *,
        gpu: bool = False,
    ) -> None:
        self._gpu = gpu
        self.client = client
        self.settings = found
        self.stage = stage
        self._nonce = secrets.token_hex(16)
        self.run = f"laion-dask-{self._nonce[:8]}"
        self.sign = folder / f"{SIGN}{self.stage}-{self._nonce[:8]}"
        self.refused: dict[str, str] = {}
        """Why, by address, of workers that are still connected."""
        self.say = say
        self.address = found.kind
        """Of the scheduler."""
        self._members: dict[str, Member] = {}
        self._present: Mapping[str, Any] = {}
        self._restarting: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._error = ""
        self._processor = ""
        """Of this machine."""
        self._warned: set[str] = set()
        self._unsaid: list[str] = []
        """Warnings; refusals that are printed when the run goes on without these workers, else they are its error."""
        self._lock = threading.RLock()
        self._looked = -_LOOK_S
        self._patience = Patience(found)

    @contextmanager
    def opened(self) -> Iterator[Pool]:
        """Send the handshake to all workers, now and later; forget it at the end."""
        from laion_dask.workers import handshake  # noqa: PLC0415 - imports distributed

        for stale in self.sign.parent.glob(f"{SIGN}{self.stage}-*"):
            stale.unlink(missing_ok=True)
        self.sign.parent.mkdir(parents=True, exist_ok=True)
        self.sign.write_text(self._nonce)
        sync_names(self.sign.parent)
        self._processor = handshake.processor()
        code = code_digest.of_process()
        content = hashlib.sha256(self._nonce.encode()).hexdigest()
        wanted = handshake.Wanted(
            self.run,
            str(self.sign),
            content,
            code.files,
            code.python,
            dict(code.libraries),
            dict(THREADS),
            gpus=self._gpu,
        )
        try:
            self.client.subscribe_topic(self.run, lambda event: self._hear(event[1]))
            with _by_value(handshake):
                # A worker that cannot even unpickle it fails the call, but has the others answered.
                try:
                    self.client.register_plugin(handshake.Handshake(wanted), name=self.run)
                except Exception as error:  # noqa: BLE001 - whatever that worker raises
                    self._error = f"{type(error).__name__}: {error}"
            yield self
            if self._members:
                self._say_refusals()
        finally:
            self.sign.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        # A cluster of our own ends with its workers; a scheduler that was lost does not answer.
        if self.settings.form == "own" or self.client.status != "running":
            return
        with contextlib.suppress(Exception):
            self.client.unsubscribe_topic(self.run)
            self.client.unregister_worker_plugin(self.run)

    def _hear(self, answer: Mapping[str, Any]) -> None:
        """Take a worker's answer; called by the client's event loop and, for answers that it missed, by `look`."""
        address = str(answer["address"])
        with self._lock:
            known = (address, str(answer.get("pid")))
            if known in self._told:
                return
            self._told.add(known)
            self._restarting.discard(address)
            if answer.get("restarts"):
                self._restarting.add(address)
                self.say(f"{_named(answer)} restarts, because {'; '.join(answer['lacks'])}.")
            elif answer["lacks"] or answer.get("content") != self._nonce:
                self._members.pop(address, None)
                lacks = "; ".join(answer["lacks"]) or f"it has read another file than the driver's {self.sign}"
                remedy = f". Remedy: {answer['remedy']}" if answer["remedy"] else ""
                self._refuse(address, f"{_named(answer)} is refused: {lacks}{remedy}")
            else:
                self.refused.pop(address, None)
                self._take(address, answer)

    def _take(self, address: str, answer: Mapping[str, Any]) -> None:
        member = Member(
            address,
            str(answer["host"]),
            int(answer["pid"]),
            str(answer["machine"]),
            int(answer["cores"]),
            tuple(answer["set"]),
            str(answer["processor"]),
        )
        self._members[address] = member
        kinds = {one.processor for one in self._members.values()}
        if len(kinds) > 1:
            self._warn_once(
                f"workers have processors of several kinds ({', '.join(sorted(kinds))}), whose kernels round "
                "differently: last digits of scores may differ from those of another run. Remedy: use workers of one "
                "kind for a version"
            )
        elif self._processor not in kinds:
            self._warn_once(
                f"workers have another processor ({', '.join(kinds)}) than this machine ({self._processor}), whose "
                "kernels round differently: last digits of scores may differ from those of a run here. Remedy: none is "
                "needed if all versions are made on these workers"
            )

    def _warn_once(self, message: str) -> None:
        kind = message.partition("(")[0]
        if kind not in self._warned:
            self._warned.add(kind)
            self._unsaid.append(message)

    def _refuse(self, address: str, message: str) -> None:
        if address not in self.refused:
            self.refused[address] = message
            self._unsaid.append(message)

    def refuse(self, error: WorkerRefusedError) -> list[str]:
        """Take no more from a worker whose check before a task has failed; return the keys of its other tasks."""
        address = error.worker
        if address not in self.members():
            raise error
        with self._lock:
            self._members.pop(address, None)
            self._refuse(address, str(error))
        keys = self.client.processing([address]).get(address, ())
        with contextlib.suppress(Exception):  # it may have left
            self.client.run(_give_back, self.run, workers=[address])
        return [str(key) for key in keys]

    def silent(self) -> set[str]:
        """Return the addresses of workers that have not answered yet."""
        with self._lock:
            return {*self._present} - self._members.keys() - self.refused.keys()

    def look(self, *, now: bool = False) -> None:
        """Ask the scheduler which workers there are, if the last answer is old or `now`.

        Raises `SchedulerLostError`.
        """
        began = time.monotonic()
        if not now and began - self._looked < (_LOOK_S if self._members else 0.2):
            return
        try:
            # Not `Client.scheduler_info`: it returns what the client's own timer may have put in its place meanwhile,
            # an answer without workers.
            scheduler: Any = self.client.scheduler
            about = self.client.sync(scheduler.identity, n_workers=-1)
            present, self.address = about["workers"], str(about["address"])
            silent = present.keys() - self._members.keys() - self.refused.keys()
            if silent:
                for event in self.client.get_events(self.run):
                    if str(event[1]["address"]) in silent:
                        self._hear(event[1])
        except (asyncio.CancelledError, futures.CancelledError, OSError, ValueError, AttributeError) as error:
            raise self.lost() from error
        with self._lock:
            self._looked = began
            self._present = present
            for address in self._members.keys() - present.keys():
                member = self._members.pop(address)
                self._told.discard((address, str(member.pid)))  # if it comes back, its answer counts again
            for address in self.refused.keys() - present.keys():
                del self.refused[address]
        if self._members:
            self._say_refusals()

    def _say_refusals(self) -> None:
        while self._unsaid:
            self.say(self._unsaid.pop(0))

    def settle(self) -> dict[str, Member]:
        """Return the workers that may work, after those that are there have had some seconds to answer."""
        deadline = time.monotonic() + _ANSWER_S
        self.look(now=True)
        while self.silent() and time.monotonic() < deadline:
            time.sleep(0.05)
            self.look(now=True)
        return self.members()

    def members(self) -> dict[str, Member]:
        """Return the workers that may work, by address; those that have the resources which the stage asks for."""
        with self._lock:
            wanted = self.settings.resources
            return {
                address: member
                for address, member in self._members.items()
                if all(
                    self._present.get(address, {}).get("resources", {}).get(name, 0) >= wanted[name] for name in wanted
                )
            }

    def window(self) -> int:
        """Return how many tasks to keep with the scheduler; at least one, so that adaptive clusters start workers."""
        return max(1, _WINDOW_PER_WORKER * len(self.members()))

    def threads(self) -> int:
        """Return how many tasks the pool runs at once; at least one."""
        return max(1, sum(int(self._present.get(one, {}).get("nthreads", 1)) for one in self.members()))

    def resources(self) -> dict[str, float]:
        """Return the Dask resources that a task asks for: the handshake's, and those of the settings."""
        from laion_dask.workers import handshake  # noqa: PLC0415 - imports distributed

        return {self.run: handshake.SHARE, **self.settings.resources}

    def per_host(self) -> int:
        """Return how many workers the fullest host has: they share its cores."""
        hosts = Counter(member.host for member in self.members().values())
        if not hosts and self.settings.form == "own":
            return self.settings.workers or 1
        return max(hosts.values(), default=1)

    def driver_host(self) -> str:
        """Return this machine's address at which workers reach servers of the driver."""
        return reached_at(self.client, self.settings)

    @property
    def encrypted(self) -> bool:
        """Whether the cluster speaks TLS on a network, so that servers of the driver have to do so too."""
        address = str(self.client.scheduler_info(n_workers=0)["address"])
        return self.settings.form != "own" and address.startswith(("tls://", "wss://"))

    def lost(self) -> SchedulerLostError:
        """Return the error that says that the scheduler is gone."""
        return SchedulerLostError(
            f"the connection to the scheduler ({self.settings.kind}) is lost. Remedy: see its log for why it ended, "
            "start it and its workers again, and run the same command; finished parts are kept"
        )

    def check(self, waiting: int) -> None:
        """Look at the pool while `waiting` tasks wait; raises what `look` and `Patience.check` raise."""
        self.look()
        with self._lock:
            seen = Seen(
                usable=len(self.members()),
                members=len(self._members),
                silent=min(self.silent(), default=""),
                refused=next(iter(self.refused.values()), ""),
                restarting=bool(self._restarting),
                error=self._error,
            )
        if message := self._patience.check(seen, waiting, self.address):
            self._say_refusals()
            self.say(message)


def _named(answer: Mapping[str, Any]) -> str:
    host = f" on {answer['host']}, process {answer['pid']}" if "host" in answer else ""
    return f"the worker {answer['address']}{host}"


def _give_back(run: str, dask_worker: Any = None) -> object:  # noqa: ANN401 - a worker; the name is Dask's
    """Take the resource of a run from a worker; a coroutine, which Dask awaits there."""
    return dask_worker.set_resources(**{run: 0})


@contextmanager
def _by_value(module: Any) -> Iterator[None]:  # noqa: ANN401 - a module
    """Pickle what a module defines by value: workers may have another version of it, or none."""
    import cloudpickle  # noqa: PLC0415 - comes with distributed

    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


_pools: weakref.WeakKeyDictionary[Client, Pool] = weakref.WeakKeyDictionary()


@contextmanager
def open_pool(
    client: Client, folder: Path, stage: str, say: Callable[[str], None], *, gpu: bool = False
) -> Iterator[Pool]:
    """Yield the pool of a client: the one that is open, or a new one that is closed afterwards.

    Its workers have to see `folder`; `say` prints its messages to the user; with `gpu` each takes a GPU of its own.
    """
    found = _pools.get(client)
    if found is not None:
        yield found
        return
    with Pool(client, folder, stage, say, settings(stage), gpu=gpu).opened() as pool:
        _pools[client] = pool
        try:
            yield pool
        finally:
            del _pools[client]
