"""Submit parts to the cluster as tasks, run them on the workers, and return each part's counts or failure.

A task takes as many parts as fill a second, estimated from earlier tasks: Dask's overhead of some 20 ms of processor
time per task would otherwise cost as much as a small part. When a worker dies, the finished parts of its task stay
finished.
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

__all__ = ["ATTEMPTS", "COUNTS_FILE", "Counts", "Failure", "PartFunction", "as_finished", "find_damage", "finish_part"]

ATTEMPTS: Final = "attempts"
"""Folder beside the parts with a note for each part that is running; separate, since it is listed for each part."""

PartFunction = Callable[..., Counts]

_TASK_SECONDS = 1.0
# A worker may die for many reasons; a part whose workers died this often is taken to be the cause.
_MAX_DEATHS: Final = 3
# Enough to keep every worker busy between the driver's polls; more would only use memory in the scheduler.
_WINDOW_PER_WORKER: Final = 4
# Parts that one task checks for damage: enough for small parts, few enough to spread large ones over the workers.
_CHECKED_PER_TASK: Final = 16
_POLL_SECONDS = 5
# A nanny restarts a worker within some ten seconds; after this time none will come back.
_GONE_SECONDS = 120
_STARTUP_SECONDS: Final = 2
# Any part that a worker's threads ran when it died may be the cause, so these parts run one at a time.
_SUSPECTS: Final = threading.Lock()


class WorkersGoneError(Exception):
    """Every worker has ended and none has come back."""


class PartUnseenError(Exception):
    """The driver does not find a part that a worker has finished; the message has host, folder and remedy."""


class PartKilledError(Exception):
    """A part has killed its worker `_MAX_DEATHS` times."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a part raised, as text: a pickled exception would lose its traceback."""

    line: str
    """Type and first line of the message."""
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return the failure for an exception."""
        first = str(error).splitlines()[0] if str(error) else ""
        return cls(f"{type(error).__name__}: {first}", "".join(traceback.format_exception(error)))

    @classmethod
    def of_task(cls, error: BaseException) -> Failure:
        """Return the failure of a task that raised before its part began, most often due to other code there."""
        failure = cls.of(error)
        remedy = (
            "the task could not begin. Remedy: check that scheduler and workers have this project's code and libraries"
        )
        return cls(f"{failure.line}; {remedy}", failure.traceback)


class Call(NamedTuple):
    """One part of a task: its folder, its function's arguments, and the status of its inputs on the driver."""

    folder: Path
    args: Mapping[str, Any]
    redo: bool
    inputs: Mapping[Path, Status]


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a task: for each of its parts None or a failure; its duration and host.

    Without counts: the driver reads them from the part's folder, which shows that it sees the folder.
    """

    outcomes: list[Failure | None]
    seconds: float
    host: str = ""


_checked: weakref.WeakSet[Client] = weakref.WeakSet()


def check_workers(client: Client) -> None:
    """Raise `WorkerRefusedError` if a current worker has other code; checks once per client."""
    if client not in _checked:
        worker_checks.compare(client.run(worker_checks.code_reader(), on_error="return"))
        _checked.add(client)


def as_finished(
    function: PartFunction,
    todo: Sequence[Part],
    work: Path,
    client: Client,
    shared: Mapping[str, Any],
    progress: Progress,
    ticket: Ticket,
) -> Iterator[tuple[Part, Counts | Failure]]:
    """Keep a window of tasks running; yield each part of `todo`, in any order, with its counts or its failure.

    Counts are read from the part's folder. Raises `WorkersGoneError` when no worker is left, `WorkerRefusedError` when
    a worker's code or files differ, `PartUnseenError` when a finished part is not in its folder.
    """
    from distributed import KilledWorker  # noqa: PLC0415 - with the client, distributed is loaded anyway

    waiting = list(reversed(todo))
    running: dict[str, list[Part]] = {}
    futures: set[Future[Any]] = set()
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    threads = max(1, sum(int(worker["nthreads"]) for worker in workers))
    window = _WINDOW_PER_WORKER * max(1, len(workers))
    size, submitted = 1, count()

    def submit(batch: Sequence[Part]) -> None:
        # The key has a nonce: a part that is submitted again after a failure must not get the old answer.
        key = f"{batch[0].name}-{batch[0].key}-{uuid4().hex}"
        running[key] = list(batch)
        for part in batch:
            progress.begin(part.name)
        calls = [_call(work / part.key, {**part.args, **shared}, redo=part.redo) for part in batch]
        # Submission order is priority order: the driver has sorted the parts already.
        options = {"key": key, "pure": False, "priority": -next(submitted)}
        futures.add(client.submit(finish_parts, function, calls, ticket=ticket, **options))

    def next_parts() -> list[Part]:
        # The last tasks are small again, so that all workers end at about the same time.
        limit = min(size, -(-len(waiting) // (2 * threads)))
        batch = [waiting.pop()]
        # A part with `redo` runs again even if it finished; alone in its task, it is not repeated for another's death.
        while len(batch) < limit and not batch[0].redo and not waiting[-1].redo:
            batch.append(waiting.pop())
        return batch

    while waiting or futures:
        while waiting and len(futures) < window:
            submit(next_parts())
        future = _one_finished(futures, client)
        batch = running.pop(str(future.key))
        answer, error = _answer(future)
        if isinstance(error, KilledWorker) or (error is not None and len(batch) > 1):
            # The scheduler blames every task that a dead worker had, also those that only waited there; and an error
            # of a whole task does not tell which part raised it. So each part runs alone.
            for part in batch:
                submit([part])
            continue
        if not any(answer.outcomes):
            # At most twice as many as in the measured task: the next parts may take longer.
            fits = int(_TASK_SECONDS * len(batch) / max(answer.seconds, 1e-6))
            size = max(1, min(fits, 2 * len(batch)))
        yield from _results(batch, answer, work)


def _call(folder: Path, args: Mapping[str, Any], *, redo: bool) -> Call:
    fixed = absolute(args)
    return Call(folder.absolute(), fixed, redo, worker_checks.statuses(fixed))


def _answer(future: Future[Any]) -> tuple[Answer, BaseException | None]:
    """Return the answer and the error of a finished task, and release it; raises `WorkerRefusedError`."""
    error = future.exception()
    if isinstance(error, worker_checks.WorkerRefusedError):
        raise error
    answer = future.result() if error is None else Answer([Failure.of_task(error)], 0.0)
    future.release()
    return answer, error


def _results(batch: Sequence[Part], answer: Answer, work: Path) -> Iterator[tuple[Part, Counts | Failure]]:
    for part, failure in zip(batch, answer.outcomes, strict=True):
        yield part, failure or _counts(part, work, answer.host)


def _counts(part: Part, work: Path, host: str) -> Counts:
    """Read the counts of a part that a worker has finished; raises `PartUnseenError` if it is missing or incomplete."""
    try:
        return part_files.read_soon(work / part.key).counts
    except part_files.DamagedPartError as error:
        message = (
            f"part {part.name}: a worker on {host} has finished it, but on the driver {work / part.key} is incomplete: "
            f"{error}. Remedy: mount the folder that LAION_DASK_HOME names under the same path on workers and driver"
        )
        raise PartUnseenError(message) from error


def find_damage(folders: Sequence[Path], client: Client, ticket: Ticket) -> Iterator[tuple[Path, str]]:
    """Yield each part's folder with its damage ("" for none); the workers read all bytes.

    Raises `WorkersGoneError` and `WorkerRefusedError`.
    """
    waiting = [folders[at : at + _CHECKED_PER_TASK] for at in range(0, len(folders), _CHECKED_PER_TASK)][::-1]
    window = _WINDOW_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    running: dict[str, Sequence[Path]] = {}
    futures: set[Future[Any]] = set()
    while waiting or futures:
        while waiting and len(futures) < window:
            key = f"find-damage-{uuid4().hex}"
            running[key] = waiting.pop()
            futures.add(client.submit(damages, [*running[key]], ticket, key=key, pure=False))
        future = _one_finished(futures, client)
        yield from zip(running.pop(str(future.key)), future.result(), strict=True)
        future.release()


def damages(folders: Sequence[Path], ticket: Ticket) -> list[str]:
    """Run on a worker: return the damage of each part's folder, "" for none."""
    worker_checks.check(ticket)
    return [part_files.damage(folder) for folder in folders]


def _one_finished(futures: set[Future[Any]], client: Client) -> Future[Any]:
    """Wait for a future and remove it from the set; raises `WorkersGoneError` when no worker is left."""
    from distributed import wait  # noqa: PLC0415

    gone_since = None
    while True:
        finished = [future for future in futures if future.status != "pending"]
        if finished:
            futures.remove(finished[0])
            return finished[0]
        with suppress(TimeoutError):
            wait(list(futures), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
            continue
        if client.scheduler_info(n_workers=-1)["workers"]:
            gone_since = None
        elif gone_since is None:
            gone_since = time.monotonic()
        elif time.monotonic() - gone_since > _GONE_SECONDS:
            message = (
                f"there has been no worker for {_GONE_SECONDS} s, and {len(futures)} tasks wait for one.\n"
                "Remedy: see in the log above why the workers ended (most often lack of memory), then run again; "
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
    for note in _deaths(final):
        note.unlink(missing_ok=True)
    return counts


def finish_parts(function: PartFunction, calls: Sequence[Call], ticket: Ticket) -> Answer:
    """Run on a worker: finish the parts in turn; a part that raises does not stop the next ones.

    Raises `WorkerRefusedError`, before anything is written, if this worker's code or files differ from the driver's.
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
        except BaseException as error:  # noqa: BLE001 - anything a part raises is its failure, also Rust's panics
            outcomes.append(Failure.of(error))
    return Answer(outcomes, time.monotonic() - began, socket.gethostname())


@contextmanager
def _attempt(final: Path) -> Iterator[None]:
    """Keep a note while this process works on the part; a worker that dies leaves it behind."""
    with _SUSPECTS if _deaths(final) else nullcontext():
        deaths = _deaths(final)
        if len(deaths) >= _MAX_DEATHS:
            records = "\n".join(note.read_text(errors="replace").rstrip() for note in deaths)
            raise PartKilledError(f"killed its worker {len(deaths)} times\n{records}")
        if deaths:
            # distributed's nanny does not restart a worker that dies before it has reported that it is up.
            time.sleep(_STARTUP_SECONDS)
        with _noted(final):
            yield


@contextmanager
def _noted(final: Path) -> Iterator[None]:
    note = final.parent / ATTEMPTS / f"{final.name}.{uuid4().hex}"
    note.parent.mkdir(parents=True, exist_ok=True)
    with note.open("w") as stream:
        stream.write(f"process {os.getpid()} on {socket.gethostname()} died in this part; its last traceback:\n")
        stream.flush()
        # A crash in native code writes the traceback of every thread; a kill from outside writes none.
        if multiprocessing.parent_process() is not None:
            faulthandler.enable(stream, all_threads=True)
        try:
            yield
        finally:
            if multiprocessing.parent_process() is not None:
                faulthandler.disable()
            note.unlink(missing_ok=True)


def _deaths(final: Path) -> list[Path]:
    """List the notes of a part, sorted; while no attempt is running, each is of a worker that died in it."""
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
            # The existing folder is not a finished part.
            part_files.remove(final)
            temporary.rename(final)
        part_files.sync_names(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _finished(folder: Path) -> Counts | None:
    """Return the counts of a part that is finished and undamaged; None otherwise."""
    if part_files.damage(folder):
        return None
    found = part_files.read(folder)
    return found.counts if found else None
