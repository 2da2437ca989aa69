"""A list of parts and a function in, one folder of files and counts for each part out: skipping, resuming, publishing.

A part is written once. Its function gets a folder with a temporary name; its counts are written last; then the folder
gets its final name, which is a digest of the part's inputs, parameters and code. A finished folder is never written
again, so a task that Dask runs twice, a dead worker or a killed run cost time, not truth. A part whose worker dies runs
again elsewhere; one that has killed three is set aside with what is known of their ends.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import multiprocessing
import os
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from laion_dask.progress import Progress

if TYPE_CHECKING:
    from distributed import Client, Future

COUNTS_FILE = "counts.json"
"""Written last in a part's folder: its presence says that the part is complete."""

Counts = dict[str, Any]
PartFunction = Callable[..., Counts]

# A part that fails does not stop the others; after this many, something larger is wrong.
_MAX_FAILED_PARTS = 3
# A worker may die for many reasons; a part whose workers died this often is the reason.
_MAX_DEATHS = 3
# Enough to keep every worker busy while the driver looks away; more would only hold memory in the scheduler.
_WINDOW_PER_WORKER = 4
_LOOK_EVERY_SECONDS = 5
# A nanny starts a worker anew within some ten seconds; longer than this, nobody will come.
_GONE_SECONDS = 120
_NEWBORN_SECONDS = 2


class WorkersGoneError(Exception):
    """Every worker has ended and none has come back."""


class PartsFailedError(Exception):
    """Some parts raised: names, causes and where their tracebacks lie. Finished parts are kept."""


class PartKilledError(Exception):
    """A part whose workers died, again and again, while they ran it."""


@dataclass(frozen=True, slots=True)
class Part:
    """The unit of work of a stage: one task, one set of files."""

    name: str
    """Unique in its stage; parts are published in the order of their names."""
    key: str
    """Digest of everything that shapes the result."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the stage's function, beside `out`."""
    weight: int = 0
    """Size of the work, in any unit: the largest go first, so that no long part starts last."""
    redo: bool = False
    """Run although it is finished: a side effect outside its folder is gone."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished part: its folder and its counts."""

    part: Part
    folder: Path
    counts: Counts


def digest(*values: object) -> str:
    """Return 32 hex digits that stand for JSON-able values, pydantic models and the bytes of files (given as Path)."""
    return hashlib.sha256(json.dumps([_plain(value) for value in values], sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        with value.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def run(
    function: PartFunction,
    parts: Sequence[Part],
    work: Path,
    client: Client,
    *,
    shared: Mapping[str, Any] | None = None,
    progress: Progress,
) -> list[Done]:
    """Run every part that is not finished, largest first, and return all in the order of their names.

    `shared` are arguments for every part that do not shape the result (addresses, connections).
    Raises `PartsFailedError` when parts raised; what is finished stays finished.
    """
    work.mkdir(parents=True, exist_ok=True)
    for leftover in work.glob("*.tmp"):
        shutil.rmtree(leftover)
    for told in (*work.glob("*.error.txt"), *work.glob("*.attempt")):
        told.unlink()
    finished = {part.name: _counts(work / part.key) for part in parts if not part.redo}
    counts = {name: found for name, found in finished.items() if found is not None}
    todo = sorted((part for part in parts if part.name not in counts), key=lambda part: (-part.weight, part.name))
    progress.start(len(parts), [part.weight for part in parts if part.name in counts], [part.weight for part in todo])
    failures: dict[str, str] = {}
    try:
        for part, result in _as_finished(function, todo, work, client, dict(shared or {}), progress):
            if isinstance(result, BaseException):
                failures[part.name] = _quarantine(work, part, result)
                if len(failures) == _MAX_FAILED_PARTS:
                    break
            else:
                counts[part.name] = result
                progress.finish(part.name, part.weight, result)
    finally:
        progress.stop()  # after Ctrl-C too: the bar hides the terminal's cursor
    if failures:
        lines = "\n".join(f"  {name}: {failures[name]}" for name in sorted(failures))
        message = (
            f"{len(failures)} of {len(parts)} parts failed; {len(counts)} are finished and kept:\n{lines}\n"
            "Remedy: mend the cause and run again; only unfinished parts run."
        )
        raise PartsFailedError(message)
    return [Done(part, work / part.key, counts[part.name]) for part in sorted(parts, key=lambda part: part.name)]


def _as_finished(
    function: PartFunction,
    todo: Sequence[Part],
    work: Path,
    client: Client,
    shared: dict[str, Any],
    progress: Progress,
) -> Iterable[tuple[Part, Counts | BaseException]]:
    """Keep a window of tasks under way; yield each part with its counts, or with what it raised."""
    from distributed import KilledWorker  # noqa: PLC0415 - with the client, distributed is loaded anyway

    waiting = list(reversed(todo))
    by_key: dict[str, Part] = {}
    futures: set[Future[Any]] = set()

    def submit(part: Part) -> None:
        # The key carries a nonce: a part that is submitted again after a failure must not get the old answer.
        key = f"{part.name}-{part.key}-{uuid4().hex}"
        by_key[key] = part
        progress.begin(part.name)
        futures.add(
            client.submit(
                finish_part,
                function,
                str(work / part.key),
                {**part.args, **shared},
                redo=part.redo,
                key=key,
                pure=False,
                # Submission order is priority order: the driver has sorted the parts already.
                priority=-len(by_key),
            )
        )

    window = _WINDOW_PER_WORKER * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    for _ in range(min(window, len(waiting))):
        submit(waiting.pop())
    while futures:
        future = _one_finished(futures, client)
        part = by_key.pop(str(future.key))
        error = future.exception()
        result = future.result() if error is None else {}
        future.release()
        if isinstance(error, KilledWorker):
            # The scheduler blames every task that a dead worker had, also those that only waited there.
            submit(part)
            continue
        yield part, error if error is not None else result
        if waiting:
            submit(waiting.pop())


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
                f"no worker has been there for {_GONE_SECONDS} s, and {len(futures)} parts wait for one.\n"
                "Remedy: look in the log above for what ended the workers (most often memory), and run again; "
                "only unfinished parts run."
            )
            raise WorkersGoneError(message)


def finish_part(function: PartFunction, folder: str, args: Mapping[str, Any], *, redo: bool = False) -> Counts:
    """Run on a worker: write one part under a temporary name, its counts last, and rename it.

    Raises `PartKilledError` instead of killing one more worker, and what the function raises.
    """
    final = Path(folder)
    found = _counts(final)
    if found is not None and not redo:
        return found
    with _attempt(final):
        counts = _write(function, final, args, redo=redo)
    for died in final.parent.glob(f"{final.name}.*.attempt"):
        died.unlink(missing_ok=True)
    return counts


@contextmanager
def _attempt(final: Path) -> Iterator[None]:
    """Leave a note for as long as this process works on the part: a worker that dies leaves it behind."""
    died = sorted(final.parent.glob(f"{final.name}.*.attempt"))
    if len(died) >= _MAX_DEATHS:
        ends = "\n".join(note.read_text(errors="replace").rstrip() for note in died)
        raise PartKilledError(f"killed its worker {len(died)} times\n{ends}")
    if died:
        # distributed's nanny does not restart a worker that dies before it has reported that it is up.
        time.sleep(_NEWBORN_SECONDS)
    note = final.with_name(f"{final.name}.{uuid4().hex}.attempt")
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
            found = _counts(final)
            if found is None:
                raise
            return found  # another attempt of the same task was faster
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _counts(folder: Path) -> Counts | None:
    try:
        return dict(json.loads((folder / COUNTS_FILE).read_bytes()))
    except FileNotFoundError:
        return None


def _quarantine(work: Path, part: Part, error: BaseException) -> str:
    """Write the traceback beside the parts and return one line for the summary."""
    path = work / f"{part.name}.error.txt"
    path.write_text("".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} (traceback: {path})"


def link(source: Path, target: Path) -> None:
    """Give a finished file a second name, by hard link; by copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise  # two parts with one path: a copy would write through the link into the other part
    except OSError:
        shutil.copyfile(source, target)


def files(done: Done) -> list[Path]:
    """List the files of a finished part, sorted, without its counts."""
    return sorted(path for path in done.folder.rglob("*") if path.is_file() and path.name != COUNTS_FILE)


def publish_files(done: Iterable[Done], out: Path) -> None:
    """Link every file of every part into `out`, under the path that it has in its part."""
    for part in done:
        for path in files(part):
            link(path, out / path.relative_to(part.folder))
