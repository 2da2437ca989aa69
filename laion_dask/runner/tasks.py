"""Parts and a function in, each part's counts or failure out: how parts are handed to the cluster, and what runs there.

A task takes as many parts as fill a second, by what the last ones took: Dask's own work for a task, some 20 ms of
processor time in scheduler, client and worker together, would else cost as much as a small part. Of a task whose worker
dies, what was finished is found finished.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import shutil
import socket
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from laion_dask.runner import part_files, worker_checks
from laion_dask.runner.absolute import absolute
from laion_dask.runner.part_files import COUNTS_FILE, Counts
from laion_dask.runner.worker_checks import Status, Ticket

if TYPE_CHECKING:
    from distributed import Client, Future

    from laion_dask.runner.part import Part
    from laion_dask.runner.progress import Progress

__all__ = ["ATTEMPTS", "COUNTS_FILE", "Counts", "Failure", "PartFunction", "as_finished", "finish_part", "look"]

ATTEMPTS: Final = "attempts"
"""Folder beside the parts with a note of each that is under way: of its own, since each look lists all of it."""

PartFunction = Callable[..., Counts]

_TASK_SECONDS = 1.0
# A worker may die for many reasons; a part whose workers died this often is the reason.
_MAX_DEATHS: Final = 3
# Enough to keep every worker busy while the driver looks away; more would only hold memory in the scheduler.
_WINDOW_PER_WORKER: Final = 4
# Parts whose files one task reads: enough for small ones, and of large ones still some for each worker.
_LOOKED_AT: Final = 16
_LOOK_EVERY_SECONDS = 5
# A nanny starts a worker anew within some ten seconds; longer than this, nobody will come.
_GONE_SECONDS = 120
_NEWBORN_SECONDS: Final = 2
# Of the parts that a worker's threads had when it died, each may have been the reason: they run one at a time.
_SUSPECTS: Final = threading.Lock()


class WorkersGoneError(Exception):
    """Every worker has ended and none has come back."""


class PartUnseenError(Exception):
    """A worker has finished a part that the driver does not find; the message has host, folder and remedy."""


class PartKilledError(Exception):
    """A part whose workers died, again and again, while they ran it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a part raised, as text: an exception would leave its traceback on the worker."""

    line: str
    """Type and first line of the message."""
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return the failure that an exception is."""
        first = str(error).splitlines()[0] if str(error) else ""
        return cls(f"{type(error).__name__}: {first}", "".join(traceback.format_exception(error)))

    @classmethod
    def of_task(cls, error: BaseException) -> Failure:
        """Return the failure of a task that raised before its part began, most often because of other code there."""
        found = cls.of(error)
        remedy = (
            "the task could not begin. Remedy: see that scheduler and workers have this project's code and libraries"
        )
        return cls(f"{found.line}; {remedy}", found.traceback)


class Call(NamedTuple):
    """One part of a task: where it goes, what its function gets, and what the driver knows of its inputs."""

    folder: Path
    args: Mapping[str, Any]
    redo: bool
    inputs: Mapping[Path, Status]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back: for each of its parts None or its failure, how long it took, and where it ran.

    Never the counts: the driver reads them where the part has to lie.
    """

    outcomes: list[Failure | None]
    seconds: float
    host: str = ""


_asked: weakref.WeakSet[Client] = weakref.WeakSet()


def ask_all(client: Client) -> None:
    """Raise `WorkerRefusedError` where a worker that is there now has other code; asks once for each client."""
    if client not in _asked:
        worker_checks.compare(client.run(worker_checks.question(), on_error="return"))
        _asked.add(client)


def as_finished(
    function: PartFunction,
    todo: Sequence[Part],
    work: Path,
    client: Client,
    shared: Mapping[str, Any],
    progress: Progress,
    ticket: Ticket,
) -> Iterator[tuple[Part, Counts | Failure]]:
    """Keep a window of tasks under way; yield each part of `todo`, in whatever order, with its counts or its failure.

    Counts are read from the part's folder. Raises `WorkersGoneError` when no worker is left, `WorkerRefusedError`
    where one must not work for this driver, `PartUnseenError` where a finished part does not lie in its folder.
    """
    from distributed import KilledWorker  # noqa: PLC0415 - with the client, distributed is loaded anyway

    waiting = list(reversed(todo))
    under_way: dict[str, list[Part]] = {}
    futures: set[Future[Any]] = set()
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    threads = max(1, sum(int(worker["nthreads"]) for worker in workers))
    window = _WINDOW_PER_WORKER * max(1, len(workers))
    size, places = 1, count()

    def submit(some: Sequence[Part]) -> None:
        # The key carries a nonce: a part that is submitted again after a failure must not get the old answer.
        key = f"{some[0].name}-{some[0].key}-{uuid4().hex}"
        under_way[key] = list(some)
        for part in some:
            progress.begin(part.name)
        calls = [_call(work / part.key, {**part.args, **shared}, redo=part.redo) for part in some]
        # Submission order is priority order: the driver has sorted the parts already.
        how = {"key": key, "pure": False, "priority": -next(places)}
        futures.add(client.submit(finish_parts, function, calls, ticket=ticket, **how))

    def next_parts() -> list[Part]:
        # So that all workers end together, the last tasks are small again.
        most = min(size, -(-len(waiting) // (2 * threads)))
        some = [waiting.pop()]
        # What is to be done again is never found finished: alone, a death costs nothing but itself.
        while len(some) < most and not some[0].redo and not waiting[-1].redo:
            some.append(waiting.pop())
        return some

    while waiting or futures:
        while waiting and len(futures) < window:
            submit(next_parts())
        future = _one_finished(futures, client)
        some = under_way.pop(str(future.key))
        answer, error = _answer(future)
        if isinstance(error, KilledWorker) or (error is not None and len(some) > 1):
            # The scheduler blames every task that a dead worker had, also those that only waited there; and of an
            # error of a whole task each part has to be asked.
            for part in some:
                submit([part])
            continue
        if not any(answer.outcomes):
            # Not more than twice as many as have shown how long they take: the next ones may be longer.
            fits = int(_TASK_SECONDS * len(some) / max(answer.seconds, 1e-6))
            size = max(1, min(fits, 2 * len(some)))
        yield from _results(some, answer, work)


def _call(folder: Path, args: Mapping[str, Any], *, redo: bool) -> Call:
    fixed = absolute(args)
    return Call(folder.absolute(), fixed, redo, worker_checks.statuses(fixed))


def _answer(future: Future[Any]) -> tuple[Answer, BaseException | None]:
    """Return what a finished task says, with its error, and release it; a worker that is refused ends the run."""
    error = future.exception()
    if isinstance(error, worker_checks.WorkerRefusedError):
        raise error
    answer = future.result() if error is None else Answer([Failure.of_task(error)], 0.0)
    future.release()
    return answer, error


def _results(some: Sequence[Part], answer: Answer, work: Path) -> Iterator[tuple[Part, Counts | Failure]]:
    for part, failure in zip(some, answer.outcomes, strict=True):
        yield part, failure or _counts(part, work, answer.host)


def _counts(part: Part, work: Path, host: str) -> Counts:
    """Read the counts of a part that a worker has finished; `PartUnseenError` where it is not there."""
    try:
        return part_files.read_soon(work / part.key).counts
    except part_files.DamagedPartError as error:
        message = (
            f"part {part.name}: a worker on {host} has finished it, and here {work / part.key} is not whole: {error}. "
            "Remedy: workers and driver need one folder under one path: mount there what LAION_DASK_HOME names"
        )
        raise PartUnseenError(message) from error


def look(folders: Sequence[Path], client: Client, ticket: Ticket) -> Iterator[tuple[Path, str]]:
    """Yield each folder of a part with what is damaged in it, "" for nothing; the workers read all bytes.

    Raises what `as_finished` raises of workers.
    """
    waiting = [folders[at : at + _LOOKED_AT] for at in range(0, len(folders), _LOOKED_AT)][::-1]
    window = _WINDOW_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    under_way: dict[str, Sequence[Path]] = {}
    futures: set[Future[Any]] = set()
    while waiting or futures:
        while waiting and len(futures) < window:
            key = f"look-{uuid4().hex}"
            under_way[key] = waiting.pop()
            futures.add(client.submit(damages, [*under_way[key]], ticket, key=key, pure=False))
        future = _one_finished(futures, client)
        yield from zip(under_way.pop(str(future.key)), future.result(), strict=True)
        future.release()


def damages(folders: Sequence[Path], ticket: Ticket) -> list[str]:
    """Run on a worker: say of each part's folder what is damaged in it, "" for nothing."""
    worker_checks.check(ticket)
    return [part_files.damage(folder) for folder in folders]


def _one_finished(futures: set[Future[Any]], client: Client) -> Future[Any]:
    """Wait for a future and take it out of the set; raises `WorkersGoneError` instead of waiting for nobody."""
    from distributed import wait  # noqa: PLC0415

    gone_since = None
    while True:
        finished = [future for future in futures if future.status != "pending"]
        if finished:
            futures.remove(finished[0])
            return finished[0]
        with suppress(TimeoutError):
            wait(list(futures), timeout=_LOOK_EVERY_SECONDS, return_when="FIRST_COMPLETED")
            continue
        if client.scheduler_info(n_workers=-1)["workers"]:
            gone_since = None
        elif gone_since is None:
            gone_since = time.monotonic()
        elif time.monotonic() - gone_since > _GONE_SECONDS:
            message = (
                f"no worker has been there for {_GONE_SECONDS} s, and {len(futures)} tasks wait for one.\n"
                "Remedy: look in the log above for what ended the workers (most often memory), and run again; "
                "only unfinished parts run."
            )
            raise WorkersGoneError(message)


def finish_part(function: PartFunction, folder: str | Path, args: Mapping[str, Any], *, redo: bool = False) -> Counts:
    """Write one part under a temporary name, its counts last, and rename it.

    Raises `PartKilledError` instead of killing one more worker, and what the function raises.
    """
    final = Path(folder)
    found = _finished(final)
    if found is not None and not redo:
        return found
    with _attempt(final):
        counts = _write(function, final, args, redo=redo)
    for died in _deaths(final):
        died.unlink(missing_ok=True)
    return counts


def finish_parts(function: PartFunction, calls: Sequence[Call], ticket: Ticket) -> Answer:
    """Run on a worker: finish one part after another; one that raises does not stop those behind it.

    Raises `WorkerRefusedError` before anything is written where this worker is not one of the driver's.
    """
    began = time.monotonic()
    worker_checks.check(ticket)
    outcomes: list[Failure | None] = []
    for call in calls:
        worker_checks.check_paths(call.args)
        worker_checks.check_inputs(call.inputs)
        try:
            finish_part(function, call.folder, call.args, redo=call.redo)
            outcomes.append(None)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a part raises is told as its failure; Rust's panics too
            outcomes.append(Failure.of(error))
    return Answer(outcomes, time.monotonic() - began, socket.gethostname())


@contextmanager
def _attempt(final: Path) -> Iterator[None]:
    """Leave a note for as long as this process works on the part: a worker that dies leaves it behind."""
    with _SUSPECTS if _deaths(final) else nullcontext():
        died = _deaths(final)
        if len(died) >= _MAX_DEATHS:
            ends = "\n".join(note.read_text(errors="replace").rstrip() for note in died)
            raise PartKilledError(f"killed its worker {len(died)} times\n{ends}")
        if died:
            # distributed's nanny does not restart a worker that dies before it has reported that it is up.
            time.sleep(_NEWBORN_SECONDS)
        with _noted(final):
            yield


@contextmanager
def _noted(final: Path) -> Iterator[None]:
    note = final.parent / ATTEMPTS / f"{final.name}.{uuid4().hex}"
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("w") as stream:
        stream.write(f"process {os.getpid()} on {socket.gethostname()} died in this part; its last words:\n")
        stream.flush()
        # Of a crash in native code, the traceback of every thread; of a kill from outside there are no words.
        if multiprocessing.parent_process() is not None:
            faulthandler.enable(stream, all_threads=True)
        try:
            yield
        finally:
            if multiprocessing.parent_process() is not None:
                faulthandler.disable()
            note.unlink(missing_ok=True)


def _deaths(final: Path) -> list[Path]:
    """List the notes of a part, sorted: outside of its attempts, those of workers that died in it."""
    return sorted((final.parent / ATTEMPTS).glob(f"{final.name}.*"))


def _write(function: PartFunction, final: Path, args: Mapping[str, Any], *, redo: bool) -> Counts:
    temporary = final.with_name(f"{final.name}.{uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        counts = part_files.seal(temporary, function(temporary, **args))
        if redo:
            part_files.remove(final)
        try:
            temporary.rename(final)
        except OSError:
            found = _finished(final)
            if found is not None:
                return found  # another attempt of the same task was faster
            # What lies there is no finished part.
            part_files.remove(final)
            temporary.rename(final)
        part_files.sync_names(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _finished(folder: Path) -> Counts | None:
    """Return the counts of a part that is finished and undamaged; None of any other."""
    if part_files.damage(folder):
        return None
    found = part_files.read(folder)
    return found.counts if found else None
