"""Run the parts of a stage on files, without a project, and put the result into a folder.

Finished parts lie in a work folder below the result until all is finished, so that an interrupted run goes on from
them. What the folder holds of an earlier run is replaced at the end, and only then.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laion_dask.cluster import kinds, settings
from laion_dask.runner import part_files, parts
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part, with_code
from laion_dask.runner.progress import Progress
from laion_dask.runner.stage import Resources, Run, StageError, add_up
from laion_dask.workers import code_digest
from laion_dask.workers.pool import Pool, open_pool


@contextmanager
def no_resources(_: Pool) -> Iterator[Resources]:
    """Open nothing: most runs need files only."""
    yield {}


def no_more(_: Resources, done: Sequence[Done], __: Run) -> Sequence[Done]:
    """Run no further parts."""
    return done


@dataclass(frozen=True, slots=True)
class FilesRun:
    """Describes a run of one stage on files."""

    stage: str
    """Its code belongs to the key of every part."""
    unit: str
    find_parts: Callable[[], Sequence[Part]]
    """Called when no other run works in the folder; keys need not hold the code."""
    function: PartFunction
    publish: Callable[[Sequence[Done], Path], Mapping[str, Any]]
    """Put the parts' files into a fresh folder; returns further counts. A part that it removes runs again next time."""
    outs: Callable[[Path], list[Path]]
    """List what a run leaves in a folder, in the order in which it is put there; the last marks that all is there."""
    resources: Callable[[Pool], AbstractContextManager[Resources]] = no_resources
    further: Callable[[Resources, Sequence[Done], Run], Sequence[Done]] = no_more
    """Run parts that depend on the results of the first ones; returns the parts that make up the result."""
    gpu: bool = False


def run(described: FilesRun, work: Path, progress: Progress, workers: int | None) -> tuple[dict[str, Any], list[Done]]:
    """Run the parts, put the result into the folder that holds `work`, and return the counts and the parts.

    `workers` is the number of processes; None: the setting of the machine. Raises what `parts.run` raises, and
    `StageError` where another run works in the same folder.
    """
    work.mkdir(parents=True, exist_ok=True)
    with _only_run(work):
        code = code_digest.of_command(described.stage)
        todo = with_code(described.find_parts(), code)
        # More processes than parts would only start and end.
        with ExitStack() as opened:
            opened.enter_context(settings.at_most(workers, len(todo), described.stage))
            # Workers end before the servers that they talk to.
            servers = opened.enter_context(ExitStack())
            client = opened.enter_context(kinds.open_client(described.stage, gpu=described.gpu))
            pool = opened.enter_context(open_pool(client, work, progress.stage, progress.say, gpu=described.gpu))
            done = list(_finished(described, todo, work / "parts", pool, servers, progress))
        counts = add_up(described.stage, described.unit, done, {})
        fresh = work / "new"
        part_files.remove(fresh)
        fresh.mkdir()
        counts.update(described.publish(done, fresh))
        _replace(described, fresh, work.parent)
        if all(part.folder.is_dir() for part in done):
            part_files.remove(work)
    return counts, done


def _finished(
    described: FilesRun, todo: Sequence[Part], folder: Path, pool: Pool, servers: ExitStack, progress: Progress
) -> Sequence[Done]:
    """Run all parts, the further ones too, until none is damaged."""
    resources = servers.enter_context(described.resources(pool))
    client = pool.client
    # Rows of a further part were counted in the progress of the first ones.
    again = Progress("again", described.unit)

    def run_further(function: PartFunction, further: Sequence[Part], shared: Resources) -> list[Done]:
        return parts.run(function, further, folder, client, shared=shared, progress=again)

    def make() -> Sequence[Done]:
        first = parts.run(described.function, todo, folder, client, shared=resources, progress=progress)
        return described.further(resources, first, run_further)

    return parts.undamaged(make, client, progress)


def _replace(described: FilesRun, fresh: Path, out: Path) -> None:
    """Put what was published into the folder, in place of what an earlier run left there."""
    # Its mark that all is there goes first, and the new one comes last.
    for path in reversed(described.outs(out)):
        part_files.remove(path)
    last = {path: place for place, path in enumerate(described.outs(fresh))}
    for path in sorted(fresh.iterdir(), key=lambda path: (last.get(path, -1), path.name)):
        path.rename(out / path.name)


@contextmanager
def _only_run(work: Path) -> Iterator[None]:
    """Refuse a second run in the same folder: it would remove what the first one is writing."""
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(
                f"another run is writing into {work.parent}. Remedy: wait for it, or give another folder"
            ) from error
        yield
