"""Run a function for each part that is not finished: skip, resume, check for damage, publish.

A part is written once. Its function writes into a folder with a temporary name; its counts are written last; then the
folder gets its final name, a digest of the part's inputs, parameters and code. A finished folder is never written
again, so a task that Dask runs twice, a dead worker or a killed run cost only time. A part whose worker dies runs
again elsewhere; one that has killed three workers fails, with a record of each death. The files of a finished part are
checked when a run reuses it and before it is published; a damaged part is reported and made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_dask.runner import part_files, trace
from laion_dask.runner.attempts import ATTEMPTS, PartFunction
from laion_dask.runner.part import Done, Part
from laion_dask.runner.part_files import Counts
from laion_dask.runner.progress import Progress
from laion_dask.runner.tasks import Failure, as_finished, find_damage
from laion_dask.runner.trace_file import Trace
from laion_dask.storage.files import link
from laion_dask.workers import checks as worker_checks
from laion_dask.workers.absolute import absolute
from laion_dask.workers.pool import Pool, open_pool

if TYPE_CHECKING:
    from distributed import Client

# A part that fails does not stop the others; after this many, something larger is wrong.
_MAX_FAILED_PARTS = 3
# A part that is damaged again right after it was written points to a cause other than a flipped bit on disk.
_TRIES = 3


class PartsFailedError(Exception):
    """Some parts raised; the message has their names, causes and traceback files. Finished parts are kept."""


def run(
    function: PartFunction,
    parts: Sequence[Part],
    work: Path,
    client: Client,
    *,
    shared: Mapping[str, Any] | None = None,
    progress: Progress,
    record: Trace | None = None,
    finished: Callable[[Done], object] | None = None,
) -> list[Done]:
    """Run every part that is not finished, largest first, and return all parts sorted by name.

    `shared` are arguments of every part that do not affect the result (addresses, connections). `record` gets what each
    part took. `finished` is called with each part as it ends; where any part is left to run, first with those that were
    finished before. Raises `PartsFailedError` when parts raised, and what `as_finished` raises; finished parts stay
    finished.
    """
    work = work.absolute()
    record = record or Trace(work.name)
    _clear(work)
    # All parts of a stage have the same parameters.
    named = worker_checks.named_files(absolute(part.args) for part in parts[:1])
    with _opened(client, work, progress, named) as (pool, ticket):
        counts = _reused(parts, work, pool, ticket, progress)
        for part in parts:
            if part.name in counts:
                record.take_over(part, work / part.key)
        todo = sorted((part for part in parts if part.name not in counts), key=lambda part: (-part.weight, part.name))
        ready = [part.weight for part in parts if part.name in counts]
        progress.start(len(parts), ready, [part.weight for part in todo])
        if finished is not None and todo:
            for part in (part for part in parts if part.name in counts):
                finished(Done(part, work / part.key, counts[part.name], reused=True))
        failures: dict[str, str] = {}
        try:
            for part, result in as_finished(function, todo, work, pool, shared or {}, progress, ticket, record):
                if isinstance(result, Failure):
                    failures[part.name] = _quarantine(work, part, result)
                    if len(failures) == _MAX_FAILED_PARTS:
                        break
                else:
                    counts[part.name] = result
                    progress.finish(part.name, part.weight, result)
                    if finished is not None:
                        finished(Done(part, work / part.key, result))
        finally:
            progress.stop()  # after Ctrl-C too: the bar hides the terminal's cursor
    if failures:
        lines = "\n".join(f"  {name}: {failures[name]}" for name in sorted(failures))
        message = (
            f"{len(failures)} of {len(parts)} parts failed; {len(counts)} are finished and kept:\n{lines}\n"
            "Remedy: fix the cause and run again; only unfinished parts run."
        )
        raise PartsFailedError(message)
    shutil.rmtree(work / ATTEMPTS, ignore_errors=True)
    reused = {part.name for part in parts} - {part.name for part in todo}
    return [
        Done(part, work / part.key, counts[part.name], part.name in reused)
        for part in sorted(parts, key=lambda part: part.name)
    ]


@contextmanager
def _opened(
    client: Client, work: Path, progress: Progress, files: Mapping[str, str]
) -> Iterator[tuple[Pool, worker_checks.Ticket]]:
    """Yield the workers that may work and the ticket of their tasks; `progress` is told when a part begins there."""
    with (
        open_pool(client, work, progress.stage, progress.say) as pool,
        worker_checks.issue_ticket(work, files) as ticket,
        trace.heard(client, ticket.nonce, progress.started),
    ):
        yield pool, ticket


def _clear(work: Path) -> None:
    """Make the folder of parts, and remove from it what a killed run has left."""
    work.mkdir(parents=True, exist_ok=True)
    for leftover in work.glob("*.tmp"):
        part_files.remove(leftover)
    shutil.rmtree(work / ATTEMPTS, ignore_errors=True)
    for traceback in work.glob("*.error.txt"):
        part_files.remove(traceback)


def _reused(
    parts: Sequence[Part], work: Path, pool: Pool, ticket: worker_checks.Ticket, progress: Progress
) -> dict[str, Counts]:
    """Return the counts of the parts that are finished and undamaged, by name; damaged ones are removed."""
    finished = [part for part in parts if not part.redo and (work / part.key).exists()]
    broken = dict(_damaged([(part, work / part.key) for part in finished], pool, ticket, progress))
    return {part.name: _counts(work / part.key) for part in finished if part.name not in broken}


def undamaged(make: Callable[[], Sequence[Done]], client: Client, progress: Progress) -> Sequence[Done]:
    """Make parts, and check all their files before they are published; damaged parts are made again.

    `make` runs parts, skipping finished ones. Raises `PartsFailedError` if parts are damaged each time.
    """
    for _ in range(_TRIES):
        done = make()
        folders = [(part.part, part.folder) for part in done]
        if not folders:
            return done
        work = folders[0][1].parent
        with _opened(client, work, progress, {}) as (pool, ticket):
            broken = dict(_damaged(folders, pool, ticket, progress))
        if not broken:
            return done
    lines = "\n".join(f"  {name}: {damage}" for name, damage in sorted(broken.items()))
    message = (
        f"{len(broken)} of {len(done)} parts were damaged {_TRIES} times after they were written:\n{lines}\n"
        "Remedy: check whether another program writes there, then check the machine's disk and memory."
    )
    raise PartsFailedError(message)


def _damaged(
    parts: Sequence[tuple[Part, Path]], pool: Pool, ticket: worker_checks.Ticket, progress: Progress
) -> Iterator[tuple[str, str]]:
    """Remove each damaged part, report it, and yield its name and its damage."""
    names = {folder: part.name for part, folder in parts}
    for folder, damage in find_damage([*names], pool, ticket):
        if damage:
            progress.again += 1
            message = f"part {names[folder]} is damaged: {damage}. It is made again."
            progress.say(message)
            part_files.remove(folder)
            yield names[folder], damage


def _counts(folder: Path) -> Counts:
    found = part_files.read(folder)
    if found is None:  # removed since its files were checked
        raise PartsFailedError(f"{folder} has vanished. Remedy: stop other programs that write there, and run again")
    return found.counts


def _quarantine(work: Path, part: Part, failure: Failure) -> str:
    """Write the traceback beside the parts and return one line for the summary."""
    path = work / f"{part.name}.error.txt"
    path.write_text(failure.traceback)
    return f"{failure.line} (traceback: {path})"


def files(done: Done) -> list[Path]:
    """List the files of a finished part, sorted, without its counts."""
    return part_files.files(done.folder)


def protect(out: Path) -> None:
    """Make the files of an out read-only that are hard links to the work folder or to DVC's cache.

    Writing into such a file would change every link; replacing it changes this one only.
    """
    for path in out.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
            path.chmod(path.stat().st_mode & ~0o222)


def publish_files(done: Iterable[Done], out: Path) -> None:
    """Link every file of every part into `out`, under the path that it has in its part."""
    for part in done:
        for path in files(part):
            link(path, out / path.relative_to(part.folder))
