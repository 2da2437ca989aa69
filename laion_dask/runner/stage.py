"""Run one stage: open a cluster, run its parts, check that counts add up, publish its out and write its metrics.

`workflow/` describes each stage as a `Stage`; this module has what all of them share.
"""

from __future__ import annotations

import errno
import fcntl
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask import params as parameters
from laion_dask.cluster.kinds import open_client
from laion_dask.cluster.settings import settings as cluster_settings
from laion_dask.params import Params
from laion_dask.runner import part_files, parts, performance, trace_file
from laion_dask.runner.ahead import Ahead, Following
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part, with_code
from laion_dask.runner.progress import Progress
from laion_dask.runner.progress_line import ProgressLine, RowLine
from laion_dask.runner.trace_file import Trace
from laion_dask.schema.ledger import Ledger
from laion_dask.storage import printable
from laion_dask.storage.durations import elapsed
from laion_dask.storage.sync import sync
from laion_dask.storage.work_folder import work_folder
from laion_dask.workers import code_digest
from laion_dask.workers.pool import Pool, open_pool

BESIDE: Final = frozenset({"seconds", "offers", "taken", "later"})
"""Counts of parts that are in no metrics."""

Resources = Mapping[str, Any]
Run = Callable[[PartFunction, Sequence[Part], Resources], list[Done]]
"""Runs unfinished parts on the open cluster; takes the function, the parts and the arguments of all parts."""


class StageError(Exception):
    """A stage cannot run; the message has the value and the remedy."""


def never(_: Params) -> bool:
    """Say that a stage cannot be switched off, as most of them."""
    return False


@contextmanager
def no_resources(_: Params, __: Pool) -> Iterator[Resources]:
    """Open no resources: most stages need only files."""
    yield {}


def no_check(_: Params) -> None:
    """Check nothing before the cluster starts, as in most stages."""


def nothing_before(_: Params, __: Run) -> Resources:
    """Run no parts before the first ones, as in most stages."""
    return {}


def no_more(_: Params, __: Resources, done: Sequence[Done], ___: Run) -> Sequence[Done]:
    """Run no further parts, as in most stages."""
    return done


def nothing_after(_: Params) -> Following | None:
    """Name no next stage whose parts may run meanwhile, as most stages."""
    return None


def publish_all(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Link all files of all parts into the stage's out."""
    parts.publish_files(done, out)
    return {}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: how its parts are found, the function of a part, and how the results become its out."""

    name: str
    unit: str
    """Name of its rows in the progress line, and of the ledger that counts them."""
    find_parts: Callable[[Params, Resources], Sequence[Part]]
    function: PartFunction
    publish: Callable[[Params, Sequence[Done], Path], Mapping[str, Any]] = publish_all
    """Puts the parts' files into the out; returns further counts for the metrics."""
    check: Callable[[Params], object] = no_check
    """Raises what would make every part fail, before a cluster is started."""
    resources: Callable[[Params, Pool], AbstractContextManager[Resources]] = no_resources
    """Servers and connections that stay open while the parts run; arguments of every part, in no key."""
    before: Callable[[Params, Run], Resources] = nothing_before
    """Runs parts whose files the first ones read; what it returns is for `find_parts`, beside the resources."""
    further: Callable[[Params, Resources, Sequence[Done], Run], Sequence[Done]] = no_more
    """Runs parts that depend on the results of the first ones; returns the parts that make up the out."""
    then: Callable[[Params], Following | None] = nothing_after
    """The next stage, whose parts run meanwhile where `laion-dask.cluster.overlap` is set."""
    follows: tuple[str, str, str] | None = None
    """(own ledger, previous stage, its ledger): rows seen here must equal rows kept there."""
    gpu: bool = False
    off: Callable[[Params], bool] = never
    """Says that the parameters switch it off: no cluster is started, and its out is an empty folder."""
    line: Callable[[], ProgressLine] = RowLine
    """Makes its progress line."""


def home() -> Path:
    """Return the folder of unfinished work and of the embedded database: LAION_DASK_HOME, or .laion_dask.

    Absolute, as `data` is: workers have other working directories.
    """
    return work_folder()


def data(stage: str) -> Path:
    """Return the absolute path of a stage's out; raises `StageError` if it does not exist yet."""
    folder = Path("data") / stage
    if not folder.is_dir():
        message = (
            f"{folder} is missing. Remedy: run the stages in order with `dvc repro`, or `laion-dask {stage}` alone"
        )
        raise StageError(message)
    return folder.absolute()


def metrics(stage: str) -> dict[str, Any]:
    """Read the counts of a finished stage."""
    return dict(json.loads((Path("metrics") / f"{stage}.json").read_text()))


def run(stage: Stage) -> dict[str, Any]:
    """Run one stage from params.yaml to `data/<stage>` and `metrics/<stage>.json`, and return its counts."""
    began = time.monotonic()
    settings = parameters.load()
    out = (Path("data") / stage.name).absolute()
    if stage.off(settings):
        return _leave_out(stage, out)
    stage.check(settings)
    with trace_file.recorded(stage.name) as record:
        return _run(stage, settings, out, record, began)


def _run(stage: Stage, settings: Params, out: Path, record: Trace, began: float) -> dict[str, Any]:
    page = home() / "performance" / f"{stage.name}.html"
    # Workers must end before the servers they use: they would report a closed server as a host that is down.
    progress = Progress(stage.name, stage.unit, stage.line())
    with (
        stage_lock(home() / "parts", stage.name),
        ExitStack() as servers,
        open_client(stage.name, gpu=stage.gpu) as client,
        open_pool(client, home(), progress.stage, progress.say, gpu=stage.gpu) as pool,
        performance.reported(client, page, pool.settings.performance_report),
        ExitStack() as meanwhile,
    ):
        resources = servers.enter_context(stage.resources(settings, pool))
        finished = meanwhile.enter_context(_ahead(stage, settings, progress))

        def run_parts(function: PartFunction, todo: Sequence[Part], shared: Resources) -> list[Done]:
            options = {"shared": shared, "progress": progress, "record": record, "finished": finished}
            return _run_parts(stage.name, function, todo, client, **options)

        def make() -> Sequence[Done]:
            found = {**resources, **stage.before(settings, run_parts)}
            first = run_parts(stage.function, stage.find_parts(settings, found), resources)
            return stage.further(settings, resources, first, run_parts)

        done = parts.undamaged(make, client, progress)
    counts = total(stage, done)
    with _replaced(out) as fresh:
        counts.update(stage.publish(settings, done, fresh))
    _write_metrics(stage.name, counts)
    line = summary(stage, counts, time.monotonic() - began, progress.again, taken_over(done))
    print(printable.line(line), flush=True)  # noqa: T201 - the command's result
    return counts


def _run_parts(
    stage: str,
    function: PartFunction,
    todo: Sequence[Part],
    client: Any,  # noqa: ANN401 - Dask is imported when a cluster opens
    **options: Any,  # noqa: ANN401 - of `parts.run`
) -> list[Done]:
    """Run parts under the keys of a stage, which contain its code."""
    code = code_digest.of_stage(stage)
    return parts.run(function, with_code(todo, code), home() / "parts" / stage, client, **options)


@contextmanager
def _ahead(stage: Stage, settings: Params, progress: Progress) -> Iterator[Callable[[Done], object] | None]:
    """Yield what takes note of each finished part, and run parts of the next stage meanwhile; None where it is off."""
    following = stage.then(settings) if cluster_settings(stage.name).overlap else None
    if following is None:
        yield None
        return
    try:
        following.check(settings)
    except Exception as error:  # noqa: BLE001 - whatever stops the next stage is its own error, and not this one's
        progress.say(f"{following.name} cannot run meanwhile: {type(error).__name__}: {error}")
        yield None
        return
    quiet = Progress(following.name, following.unit, shown=False)
    with ExitStack() as stack:
        if not stack.enter_context(stage_lock(home() / "parts", following.name, wait=False)):
            progress.say(f"another run of {following.name} works here, so its parts do not run meanwhile.")
            yield None
            return
        client = stack.enter_context(open_client(following.name, gpu=following.gpu))
        pool = stack.enter_context(open_pool(client, home(), following.name, progress.say, gpu=following.gpu))

        def run_next(todo: Sequence[Part]) -> None:
            _run_parts(following.name, following.function, todo, client, progress=quiet)

        ahead = Ahead(lambda done: following.part(settings, done), run_next, pool.threads, progress.say)
        progress.ahead = lambda: f"{following.name} {ahead.ready} ahead"
        with ahead.running():
            yield ahead.add


def _leave_out(stage: Stage, out: Path) -> dict[str, Any]:
    """Write the out and the metrics of a stage that is switched off: nothing was seen."""
    with _replaced(out):
        pass
    counts = {"parts": 0, stage.unit: Ledger().as_dict()}
    _write_metrics(stage.name, counts)
    line = f"{stage.name:<9} {'off':>7} ({stage.name}: null in params.yaml)"
    print(printable.line(line), flush=True)  # noqa: T201 - the command's result
    return counts


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """Yield a fresh folder, which then takes the place of a stage's out, write-protected and synced to the disk."""
    fresh = out.with_name(f".{out.name}.new")
    part_files.remove(fresh)
    fresh.mkdir(parents=True)
    yield fresh
    parts.protect(fresh)
    sync(fresh)
    part_files.remove(out)
    fresh.rename(out)


def _write_metrics(stage: str, counts: Mapping[str, Any]) -> None:
    """Write `metrics/<stage>.json` atomically."""
    path = Path("metrics") / f"{stage}.json"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(counts, indent=2) + "\n")
    fresh.replace(path)


def total(stage: Stage, done: Sequence[Done]) -> dict[str, Any]:
    """Add up the counts of a stage's parts.

    Raises `LedgerError` unless each ledger adds up and `Stage.follows` holds.
    """
    follows = stage.follows
    expected = {follows[0]: metrics(follows[1])[follows[2]]["kept"]} if follows else {}
    return add_up(stage.name, stage.unit, done, expected)


def add_up(stage: str, unit: str, done: Sequence[Done], expected: Mapping[str, int]) -> dict[str, Any]:
    """Add up the counts of parts, ledger by ledger and number by number.

    `expected` maps ledgers to the rows that they must have seen. Raises `LedgerError` where rows are missing.
    """
    counts: dict[str, Any] = {"parts": len(done)}
    # An expected ledger is checked even if there is no part.
    names = {name for part in done for name in part.counts} | expected.keys()
    # What differs from run to run is left out, since the files of a version must not: times, what was taken over.
    for name in sorted(names - BESIDE, key=lambda name: (name != unit, name)):
        values = [part.counts[name] for part in done if name in part.counts]
        if not values or (isinstance(values[0], Mapping) and "seen" in values[0]):
            ledger = Ledger.total(values)
            ledger.check(f"{stage}.{name}", expected=expected.get(name))
            counts[name] = ledger.as_dict()
        elif isinstance(values[0], int | float):
            counts[name] = sum(values)
        elif isinstance(values[0], Mapping):
            counts[name] = values[0]  # a stage with one part: figures, not counts
    return counts


def taken_over(done: Sequence[Done]) -> dict[str, int]:
    """Add up what the parts of this run have made and taken over from earlier ones, by `runner.takeover`."""
    total: Counter[str] = Counter()
    for part in (part for part in done if not part.reused):
        total.update(part.counts.get("taken", {}))
    return dict(total)


def summary(
    stage: Stage, counts: Mapping[str, Any], seconds: float, again: int = 0, taken: Mapping[str, int] | None = None
) -> str:
    """Return the stage's result in one line; `again` is how many damaged parts were made again."""
    repaired = f"; {again} damaged part{'s' if again > 1 else ''} made again" if again else ""
    beside = {name: rows for name, rows in (taken or {}).items() if rows}
    if beside.get("taken_over"):
        words = ", ".join(f"{name.replace('_', ' ')} {rows:,}" for name, rows in beside.items())
        repaired = f"; {words}{repaired}"
    return _result(stage, counts, seconds) + repaired


def _result(stage: Stage, counts: Mapping[str, Any], seconds: float) -> str:
    ledger = counts.get(stage.unit)
    if not isinstance(ledger, Mapping):
        made = f"{ledger:>7,} {stage.unit}" if ledger else f"{'done':>7}"
        return f"{stage.name:<9} {made} in {elapsed(seconds)}"
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in ledger["dropped"].items())
    text = f"{stage.name:<9} {ledger['seen']:>7,} {stage.unit} seen, {ledger['kept']:,} kept in {elapsed(seconds)}"
    return f"{text} (dropped: {reasons})" if reasons else text


@contextmanager
def stage_lock(work: Path, stage: str, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a stage; wait, with a message, while another run holds it: each run deletes leftovers there.

    So runs of `dvc exp run --queue` can share one LAION_DASK_HOME. Where the file system has no locks, do not wait.
    Yields False, without the lock, where another run holds it and `wait` is not set.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{stage}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            message = f"{stage}: another run of this stage works in {work}; waiting for it to end."
            print(printable.line(message), file=sys.stderr, flush=True)  # noqa: T201 - a message to the user
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
        yield True
