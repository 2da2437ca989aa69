"""Submit parts to the cluster as tasks, run them on the workers, and return each part's counts or failure.

A task takes as many parts as fill a second, estimated from earlier tasks: Dask's overhead of some 20 ms of processor
time per task would otherwise cost as much as a small part. When a worker dies, the finished parts of its task stay
finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from laion_dask.runner import part_files, trace
from laion_dask.runner.attempts import PartFunction, deaths, finish_part
from laion_dask.runner.part_files import Counts
from laion_dask.workers import checks as worker_checks
from laion_dask.workers.absolute import absolute
from laion_dask.workers.checks import Status, Ticket, WorkerRefusedError

if TYPE_CHECKING:
    from distributed import Future

    from laion_dask.runner.part import Part
    from laion_dask.runner.progress import Progress
    from laion_dask.runner.trace_file import Trace
    from laion_dask.workers.pool import Pool

_TASK_SECONDS = 1.0
# Parts that one task checks for damage: enough for small parts, few enough to spread large ones over the workers.
_CHECKED_PER_TASK: Final = 16
_POLL_SECONDS = 1.0


class PartUnseenError(Exception):
    """The driver does not find a part that a worker has finished; the message has host, folder and remedy."""


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
    """One part of a task: its name and folder, its function's arguments, and the status of its inputs on the driver."""

    name: str
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
    measures: Sequence[trace.Measured] = ()
    """One for each part, unless the task could not begin."""


class _Running:
    """The tasks that the scheduler has, by key, with what each was made of."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.futures: set[Future[Any]] = set()
        self._made_of: dict[str, Any] = {}
        self._ended: list[Future[Any]] = []
        """Tasks that have ended and are not handed out yet."""
        self._values: dict[str, Any] = {}
        """Of those, by key, what they have returned."""

    def __len__(self) -> int:
        return len(self.futures) + len(self._ended)

    def submit(self, key: str, made_of: Any, function: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Submit a task that only workers of the pool may run."""
        client, resources = self.pool.client, self.pool.resources()
        self._made_of[key] = made_of
        self.futures.add(client.submit(function, *args, key=key, pure=False, resources=resources, **options))

    def one_finished(self) -> tuple[Future[Any], Any] | None:
        """Wait for a task, and return it with what it was made of; None after a second, as the pool may have changed.

        Raises what `Pool.check` raises.
        """
        if not self._ended:
            self._collect()
        if not self._ended:
            self.pool.check(len(self.futures))
            return None
        future = self._ended.pop(0)
        if future.status in {"cancelled", "lost"}:
            raise self.pool.lost()
        self.pool.look()
        return future, self._made_of.pop(str(future.key))

    def _collect(self) -> None:
        """Wait for a task, and fetch what all tasks have returned that have ended by then.

        One by one, each takes two round trips through the scheduler: with 32 workers and tasks of a second, the driver
        could not keep up.
        """
        from distributed import wait  # noqa: PLC0415

        client = self.pool.client
        try:
            # Another client of this process may be the current one.
            with client.as_current():
                wait(list(self.futures), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            return
        except (asyncio.CancelledError, futures.CancelledError, OSError) as error:
            raise self.pool.lost() from error
        self._ended = [future for future in self.futures if future.status != "pending"]
        self.futures.difference_update(self._ended)
        returned = [future for future in self._ended if future.status == "finished"]
        # Where a worker has left with a result meanwhile, each is fetched on its own, or made again.
        with contextlib.suppress(Exception):
            self._values = dict(zip([str(one.key) for one in returned], client.gather(returned), strict=True))

    def value_of(self, future: Future[Any]) -> Any:  # noqa: ANN401 - of any task
        """Return what a finished task has returned; raises `SchedulerLostError`."""
        value = self._values.pop(str(future.key), None)
        return self._asked(future.result) if value is None else value

    def error_of(self, future: Future[Any]) -> BaseException | None:
        """Return what a finished task has raised; raises `SchedulerLostError`."""
        if str(future.key) in self._values:
            return None
        error: BaseException | None = self._asked(future.exception)
        return error

    def _asked(self, ask: Callable[[], Any]) -> Any:  # noqa: ANN401 - of any task
        try:
            return ask()
        except (asyncio.CancelledError, futures.CancelledError, OSError) as error:
            raise self.pool.lost() from error

    def take_back(self, error: WorkerRefusedError) -> list[Any]:
        """Cancel what a worker still has that is refused, and return what those tasks were made of."""
        keys = {*self.pool.refuse(error)}
        taken = [future for future in self.futures if str(future.key) in keys]
        self.futures.difference_update(taken)
        self.pool.client.cancel(taken)
        # Other tasks that have failed the same check there.
        also = [future for future in self._ended if _refuser(self.error_of(future)) == error.worker]
        self._ended = [future for future in self._ended if future not in also]
        taken += also
        return [self._made_of.pop(str(future.key)) for future in taken]


def _refuser(error: BaseException | None) -> str | None:
    return error.worker if isinstance(error, WorkerRefusedError) else None


@dataclass(slots=True)
class _Stage:
    """The parts of one run: handed out in batches, largest first, and handed out again where a task failed."""

    function: PartFunction
    work: Path
    shared: Mapping[str, Any]
    progress: Progress
    ticket: Ticket
    record: Trace
    running: _Running
    waiting: list[Part]
    size: int = 1
    """Parts that fill a task, by what the last ones took."""
    submitted: Iterator[int] = field(default_factory=count)

    def fill(self) -> None:
        """Submit tasks until the window of the pool is full."""
        pool = self.running.pool
        while self.waiting and len(self.running.futures) < pool.window():
            # The last tasks are small again, so that all workers end at about the same time.
            limit = min(self.size, -(-len(self.waiting) // (2 * pool.threads())))
            batch = [self.waiting.pop()]
            # A part with `redo` runs again even if it finished; alone in its task, it is not repeated for another's
            # death.
            while len(batch) < limit and not batch[0].redo and not self.waiting[-1].redo:
                batch.append(self.waiting.pop())
            self.submit(batch)

    def submit(self, batch: Sequence[Part]) -> None:
        """Submit one task."""
        # The key has a nonce: a part that is submitted again after a failure must not get the old answer. It begins
        # with the stage, by which Dask learns how long its tasks take, and how many workers it is worth to ask for.
        key = f"{self.progress.stage}-{batch[0].name}-{batch[0].key[:12]}-{uuid4().hex}"
        for part in batch:
            self.progress.begin(part.name)
            self.record.submit(part)
        calls = [_call(part, self.work, self.shared) for part in batch]
        # Submission order is priority order: the driver has sorted the parts already.
        options = {"ticket": self.ticket, "priority": -next(self.submitted)}
        self.running.submit(key, list(batch), finish_parts, self.function, calls, **options)

    def results(self, future: Future[Any], batch: Sequence[Part]) -> Iterator[tuple[Part, Counts | Failure]]:
        """Yield the parts of a finished task; none where its parts have to run again."""
        from distributed import KilledWorker  # noqa: PLC0415 - with the client, distributed is loaded anyway

        error = self.running.error_of(future)
        if isinstance(error, WorkerRefusedError):
            for refused in [batch, *self.running.take_back(error)]:
                self.submit(refused)
            return
        answer = self.running.value_of(future) if error is None else Answer([Failure.of_task(error)], 0.0)
        future.release()
        if isinstance(error, KilledWorker) or (error is not None and len(batch) > 1):
            # The scheduler blames every task that a dead worker had, also those that only waited there; and an error
            # of a whole task does not tell which part raised it. So each part runs alone.
            for part in batch:
                self.submit([part])
            return
        if not any(answer.outcomes):
            # At most twice as many as in the measured task: the next parts may take longer.
            fits = int(_TASK_SECONDS * len(batch) / max(answer.seconds, 1e-6))
            self.size = max(1, min(fits, 2 * len(batch)))
        yield from _results(batch, answer, self.work, self.record)


def as_finished(
    function: PartFunction,
    todo: Sequence[Part],
    work: Path,
    pool: Pool,
    shared: Mapping[str, Any],
    progress: Progress,
    ticket: Ticket,
    record: Trace,
) -> Iterator[tuple[Part, Counts | Failure]]:
    """Keep a window of tasks running; yield each part of `todo`, in any order, with its counts or its failure.

    The window grows and shrinks with the pool. Counts are read from the part's folder. Raises what `Pool.check` raises,
    `WorkerRefusedError` when no worker is left whose code and files are the driver's, and `PartUnseenError` when a
    finished part is not in its folder.
    """
    running = _Running(pool)
    stage = _Stage(function, work, shared, progress, ticket, record, running, list(reversed(todo)))
    if todo:
        pool.look()
    while stage.waiting or len(running):
        stage.fill()
        finished = running.one_finished()
        if finished is not None:
            yield from stage.results(*finished)


def _call(part: Part, work: Path, shared: Mapping[str, Any]) -> Call:
    fixed = absolute({**part.args, **shared})
    return Call(part.name, (work / part.key).absolute(), fixed, part.redo, worker_checks.statuses(fixed))


def _results(
    batch: Sequence[Part], answer: Answer, work: Path, record: Trace
) -> Iterator[tuple[Part, Counts | Failure]]:
    measures: Sequence[trace.Measured | None] = answer.measures or [None] * len(batch)
    for part, failure, measure in zip(batch, answer.outcomes, measures, strict=True):
        record.finish(part, measure, failed=failure is not None)
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


def find_damage(folders: Sequence[Path], pool: Pool, ticket: Ticket) -> Iterator[tuple[Path, str]]:
    """Yield each part's folder with its damage ("" for none); the workers read all bytes.

    Raises what `Pool.check` raises, and `WorkerRefusedError`.
    """
    waiting = [folders[at : at + _CHECKED_PER_TASK] for at in range(0, len(folders), _CHECKED_PER_TASK)][::-1]
    running = _Running(pool)
    if folders:
        pool.look()
    while waiting or len(running):
        while waiting and len(running.futures) < pool.window():
            some = waiting.pop()
            running.submit(f"find-damage-{uuid4().hex}", some, damages, [*some], ticket)
        finished = running.one_finished()
        if finished is None:
            continue
        future, some = finished
        error = running.error_of(future)
        if isinstance(error, WorkerRefusedError):
            waiting += [some, *running.take_back(error)]
            continue
        yield from zip(some, running.value_of(future), strict=True)
        future.release()


def damages(folders: Sequence[Path], ticket: Ticket) -> list[str]:
    """Run on a worker: return the damage of each part's folder, "" for none."""
    worker_checks.check(ticket)
    return [part_files.damage(folder) for folder in folders]


def finish_parts(function: PartFunction, calls: Sequence[Call], ticket: Ticket) -> Answer:
    """Run on a worker: finish the parts in turn; a part that raises does not stop the next ones.

    Raises `WorkerRefusedError`, before anything is written, if this worker's code or files differ from the driver's.
    """
    began = time.monotonic()
    worker_checks.check(ticket)
    outcomes: list[Failure | None] = []
    measures: list[trace.Measured] = []
    for call in calls:
        trace.announce(call.name, ticket.nonce)
        worker_checks.check_paths(call.args)
        worker_checks.check_inputs(call.inputs)
        with trace.measured(call.folder, attempt=1 + len(deaths(call.folder))) as measure:
            measures.append(measure)
            try:
                finish_part(function, call.folder, call.args, redo=call.redo)
                outcomes.append(None)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - anything a part raises is its failure, also Rust's panics
                outcomes.append(Failure.of(error))
    return Answer(outcomes, time.monotonic() - began, socket.gethostname(), measures)
