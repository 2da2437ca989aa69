"""The frame of every stage: parameters in, cluster open, parts run, counts checked, out published, metrics written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distributed import Client

from laion_dask import params as parameters
from laion_dask.params import Params
from laion_dask.preflight import preflight
from laion_dask.runner import code_digest, interrupts, part_files, parts
from laion_dask.runner.cluster import open_client
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.runner.tasks import PartFunction
from laion_dask.schema.ledger import Ledger
from laion_dask.storage import printable
from laion_dask.storage.files import digest

Resources = Mapping[str, Any]
Run = Callable[[PartFunction, Sequence[Part], Resources], list[Done]]
"""Runs parts on the open cluster with what they share; only those that are not finished."""


class StageError(Exception):
    """A stage cannot do its work; the message has the value and the remedy."""


@contextmanager
def no_resources(_: Params, __: Client) -> Iterator[Resources]:
    """Open nothing: most stages need files only."""
    yield {}


def no_check(_: Params) -> None:
    """Start at once: most stages need nothing that could be missing."""


def no_more(_: Params, __: Resources, done: Sequence[Done], ___: Run) -> Sequence[Done]:
    """Run nothing further: most stages are through when each part is."""
    return done


def publish_all(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Link all files of all parts into the stage's out."""
    parts.publish_files(done, out)
    return {}


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: how its parts are found, what happens to one, and how the results become its out."""

    name: str
    unit: str
    """What its rows are called in the progress line."""
    find_parts: Callable[[Params, Resources], Sequence[Part]]
    function: PartFunction
    publish: Callable[[Params, Sequence[Done], Path], Mapping[str, Any]] = publish_all
    """Put the parts' files into the out; returns further counts for the metrics."""
    check: Callable[[Params], object] = no_check
    """Raise what would end every part, before a cluster is started for them."""
    resources: Callable[[Params, Client], AbstractContextManager[Resources]] = no_resources
    """Servers and connections that are open while the parts run; handed to every part, without a part in its key."""
    further: Callable[[Params, Resources, Sequence[Done], Run], Sequence[Done]] = no_more
    """Run further parts that depend on how the first ones ended; returns the parts that make up the out."""
    follows: tuple[str, str, str] | None = None
    """(own ledger, stage before, its ledger): as many rows must be seen here as were kept there."""
    gpu: bool = False
    progress: Callable[[str, str], Progress] = Progress


def home() -> Path:
    """Return the folder of work in progress and of the embedded database: LAION_DASK_HOME, or .laion_dask.

    Absolute, as `data` is: workers have other working directories.
    """
    return Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask").absolute()


def data(stage: str) -> Path:
    """Return the out of a stage, absolute; `StageError` when an earlier stage has not made it yet."""
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
    stage.check(settings)
    out = (Path("data") / stage.name).absolute()
    # Workers end before what they talk to: a server that is gone must never look like a host that is gone.
    with in_turn(home() / "parts", stage.name), ExitStack() as servers, open_client(gpu=stage.gpu) as client:
        resources = servers.enter_context(stage.resources(settings, client))
        progress = stage.progress(stage.name, stage.unit)

        def run_parts(function: PartFunction, todo: Sequence[Part], shared: Resources) -> list[Done]:
            code = code_digest.of_stage(stage.name)
            coded = [replace(part, key=digest(part.key, code)) for part in todo]
            return parts.run(function, coded, home() / "parts" / stage.name, client, shared=shared, progress=progress)

        def make() -> Sequence[Done]:
            first = run_parts(stage.function, stage.find_parts(settings, resources), resources)
            return stage.further(settings, resources, first, run_parts)

        done = parts.undamaged(make, client, progress)
    counts = total(stage, done)
    fresh = out.with_name(f".{stage.name}.new")
    part_files.remove(fresh)
    fresh.mkdir(parents=True)
    counts.update(stage.publish(settings, done, fresh))
    parts.protect(fresh)
    part_files.sync(fresh)
    part_files.remove(out)
    fresh.rename(out)
    _write_metrics(stage.name, counts)
    print(summary(stage, counts, time.monotonic() - began, progress.again), flush=True)  # noqa: T201 - this is what people read
    return counts


def _write_metrics(stage: str, counts: Mapping[str, Any]) -> None:
    """Write `metrics/<stage>.json` whole or not at all."""
    path = Path("metrics") / f"{stage}.json"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps(counts, indent=2) + "\n")
    fresh.replace(path)


def total(stage: Stage, done: Sequence[Done]) -> dict[str, Any]:
    """Add up the counts of the parts, ledger by ledger and number by number; `LedgerError` unless they add up."""
    counts: dict[str, Any] = {"parts": len(done)}
    follows = stage.follows
    # A stage without any part has seen nothing, and is asked like the others what came from the stage before.
    names = {name for part in done for name in part.counts} | ({follows[0]} if follows else set())
    # A clock must never get into the files of a version.
    for name in sorted(names - {"seconds"}, key=lambda name: (name != stage.unit, name)):
        values = [part.counts[name] for part in done if name in part.counts]
        if not values or (isinstance(values[0], Mapping) and "seen" in values[0]):
            ledger = Ledger.total(values)
            expected = metrics(follows[1])[follows[2]]["kept"] if follows and follows[0] == name else None
            ledger.check(f"{stage.name}.{name}", expected=expected)
            counts[name] = ledger.as_dict()
        elif isinstance(values[0], int | float):
            counts[name] = sum(values)
        elif isinstance(values[0], Mapping):
            counts[name] = values[0]  # of a stage with one part: figures, not counts
    return counts


def summary(stage: Stage, counts: Mapping[str, Any], seconds: float, again: int = 0) -> str:
    """Return the stage's result in one line; `again` is how many damaged parts were made again."""
    mended = f"; {again} damaged part{'s' if again > 1 else ''} made again" if again else ""
    return _result(stage, counts, seconds) + mended


def _result(stage: Stage, counts: Mapping[str, Any], seconds: float) -> str:
    ledger = counts.get(stage.unit)
    if not isinstance(ledger, Mapping):
        made = f"{ledger:>7,} {stage.unit}" if ledger else f"{'done':>7}"
        return f"{stage.name:<9} {made} in {seconds:.1f} s"
    reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in ledger["dropped"].items())
    text = f"{stage.name:<9} {ledger['seen']:>7,} {stage.unit} seen, {ledger['kept']:,} kept in {seconds:.1f} s"
    return f"{text} (dropped: {reasons})" if reasons else text


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Refuse a second run on the same folder: it would clear away what the first is writing."""
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StageError(
                f"another run is writing into {work.parent}. Remedy: wait for it, or give another folder"
            ) from error
        yield


@contextmanager
def in_turn(work: Path, stage: str) -> Iterator[None]:
    """Wait, and say so, while another run of the stage works in the same folder: each clears away what it finds there.

    So runs of `dvc exp run --queue` can share one LAION_DASK_HOME. A file system without locks is not waited for.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / f"{stage}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waits = f"{stage}: another run of this stage works in {work}; this one waits for its end."
            print(printable.line(waits), file=sys.stderr, flush=True)  # noqa: T201 - this is what people read
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
                raise
        yield


def main(stage: Stage) -> None:
    """Run a stage as a program: errors that a user can mend end in one message and status 1, signals in their own.

    Ctrl-C is status 130, SIGTERM 143, SIGHUP 129.
    """
    kept = "Finished parts are kept; `make repro` goes on from here."
    try:
        with interrupts.heard():
            # What would end a later stage is told before this one takes hours.
            preflight.check(parameters.load(), stage.name)
            run(stage)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{stage.name}: interrupted. {kept}\n")
        sys.exit(130)
    except interrupts.Ended as ended:
        sys.stderr.write(f"\n{stage.name}: ended by {ended.name}. {kept}\n")
        sys.exit(ended.status)
    except OSError as error:
        sys.stderr.write(
            f"\n{stage.name}: {printable.plain(str(error))}. Finished parts are kept; mend the cause and run `make "
            "repro` again.\n"
        )
        sys.exit(1)
    except Exception as error:
        # The errors of this project's own modules say what to do; any other is a bug and needs its traceback.
        if type(error).__module__.partition(".")[0] not in {"laion_dask", "workflow"}:
            raise
        sys.stderr.write(f"\n{stage.name}: {printable.plain(str(error))}\n")
        sys.exit(1)
