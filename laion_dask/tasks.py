"""Parts and a function in, each part's counts or failure out: how parts are handed to the cluster, and what runs there.

A task takes as many parts as fill a second, by what the last ones took: Dask's own work for a task, some 20 ms of
processor time in scheduler, client and worker together, would else cost as much as a small part. Of a task whose worker
dies, what was finished is found finished.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import shutil
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

if TYPE_CHECKING:
    from distributed import Client, Future

    from laion_dask.parts import Part
    from laion_dask.progress import Progress

COUNTS_FILE: Final = "counts.json"
"""Written last in a part's folder: its presence says that the part is complete."""
ATTEMPTS: Final = "attempts"
"""Folder beside the parts with a note of each that is under way: of its own, since each look lists all of it."""

Counts = dict[str, Any]
PartFunction = Callable[..., Counts]

_TASK_SECONDS = 1.0
# A worker may die for many reasons; a part whose workers died this often is the reason.
_MAX_DEATHS: Final = 3
# Enough to keep every worker busy while the driver looks away; more would only hold memory in the scheduler.
_WINDOW_PER_WORKER: Final = 4
_LOOK_EVERY_SECONDS = 5
# A nanny starts a worker anew within some ten seconds; longer than this, nobody will come.
_GONE_SECONDS = 120
_NEWBORN_SECONDS: Final = 2
# Of the parts that a worker's threads had when it died, each may have been the reason: they run one at a time.
_SUSPECTS: Final = threading.Lock()


class WorkersGoneError(Exception):
    """Every worker has ended and none has come back."""


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


@dataclass(frozen=True, slots=True)
class Answer:
    """What a task gives back: an outcome for each of its parts, and how long it took."""

    outcomes: list[Counts | Failure]
    seconds: float


def as_finished(
    function: PartFunction,
    todo: Sequence[Part],
    work: Path,
    client: Client,
    shared: Mapping[str, Any],
    progress: Progress,
) -> Iterator[tuple[Part, Counts | Failure]]:
    """Keep a window of tasks under way; yield each part of `todo`, in whatever order, with its counts or its failure.

    Raises `WorkersGoneError` when no worker is left.
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
        calls = [(str(work / part.key), {**part.args, **shared}, part.redo) for part in some]
        # Submission order is priority order: the driver has sorted the parts already.
        futures.add(client.submit(finish_parts, function, calls, key=key, pure=False, priority=-next(places)))

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
        error = future.exception()
        answer = future.result() if error is None else Answer([], 0.0)
        future.release()
        if isinstance(error, KilledWorker) or (error is not None and len(some) > 1):
            # The scheduler blames every task that a dead worker had, also those that only waited there; and of an
            # error of a whole task each part has to be asked.
            for part in some:
                submit([part])
            continue
        if not any(isinstance(outcome, Failure) for outcome in answer.outcomes):
            # Not more than twice as many as have shown how long they take: the next ones may be longer.
            fits = int(_TASK_SECONDS * len(some) / max(answer.seconds, 1e-6))
            size = max(1, min(fits, 2 * len(some)))
        yield from zip(some, answer.outcomes or [Failure.of(error)], strict=True)


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


def finish_part(function: PartFunction, folder: str, args: Mapping[str, Any], *, redo: bool = False) -> Counts:
    """Write one part under a temporary name, its counts last, and rename it.

    Raises `PartKilledError` instead of killing one more worker, and what the function raises.
    """
    final = Path(folder)
    found = counts_of(final)
    if found is not None and not redo:
        return found
    with _attempt(final):
        counts = _write(function, final, args, redo=redo)
    for died in _deaths(final):
        died.unlink(missing_ok=True)
    return counts


def finish_parts(function: PartFunction, calls: Sequence[tuple[str, Mapping[str, Any], bool]]) -> Answer:
    """Run on a worker: finish one part after another; one that raises does not stop those behind it."""
    began = time.monotonic()
    outcomes: list[Counts | Failure] = []
    for folder, args, redo in calls:
        try:
            outcomes.append(finish_part(function, folder, args, redo=redo))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a part raises is told as its failure; Rust's panics too
            outcomes.append(Failure.of(error))
    return Answer(outcomes, time.monotonic() - began)


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
        counts = function(temporary, **args)
        with (temporary / COUNTS_FILE).open("w") as stream:
            json.dump(counts, stream)
            stream.flush()
            os.fsync(stream.fileno())
        if redo and final.exists():
            shutil.rmtree(final)
        try:
            temporary.rename(final)
        except OSError:
            found = counts_of(final)
            if found is None:
                raise
            return found  # another attempt of the same task was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def counts_of(folder: Path) -> Counts | None:
    """Return the counts of a finished part; None where the folder is not one."""
    try:
        return dict(json.loads((folder / COUNTS_FILE).read_bytes()))
    except FileNotFoundError:
        return None
