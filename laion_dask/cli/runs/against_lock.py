"""`laion-dask verify --against-lock`: print whether the outs of each stage are those of dvc.lock."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from laion_dask.cli import console as cli_console
from laion_dask.storage import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laion_dask.versions.against_lock import Comparison, Stage

_DIFFERS: Final = 1
_NOT_BUILT: Final = 2
_WIDTH: Final = 11


def verify(rev: str, *, record: bool, as_json: bool) -> None:
    """Compare, print, and end with status 0 (equal), 1 (a stage differs) or 2 (a stage is not built here)."""
    from rich.console import Console
    from rich.progress import Progress

    from laion_dask.versions import against_lock, machines

    project = Path()
    console = Console(stderr=True)
    with (
        cli_console.report_errors("verify"),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("reading", total=against_lock.total_bytes(project, rev))
        found = against_lock.compare(project, rev, lambda read: bar.advance(task, read))
    status = _status(found)
    if record and status == 0:
        machines.add(project / machines.RECORD, found.version, found.machine, list(found.other_packages))
    recorded = f"this machine is recorded in {machines.RECORD}" if status == 0 else "this machine is not recorded"
    if as_json:
        stages = [{"name": one.name, "state": one.state, **asdict(one)} for one in found.stages]
        cli_console.say(json.dumps({"status": status, **asdict(found), "stages": stages}, indent=2))
    else:
        for line in _lines(found):
            cli_console.say(printable.line(line))
        if record:
            cli_console.say(f"verify: {recorded}")
    if status:
        raise typer.Exit(status)


def _status(found: Comparison) -> int:
    states = {stage.state for stage in found.stages if not _describes(stage)}
    return _DIFFERS if "differs" in states else 0 if states <= {"equal"} else _NOT_BUILT


def _describes(stage: Stage) -> bool:
    from laion_dask.versions import against_lock

    return stage.name in against_lock.DESCRIBES


def _lines(found: Comparison) -> Iterator[str]:
    """Yield a line for each stage, then what is behind the first that differs, then the result."""
    for stage in found.stages:
        what = "; ".join(map(str, stage.differing)) if stage.recorded else "dvc.yaml has it, dvc.lock has no run of it"
        reads = f" (it reads {', '.join(stage.after)})" if stage.after and stage.differing else ""
        note = "; it describes the version and is no part of it" if stage.differing and _describes(stage) else ""
        yield f"{stage.name:<{_WIDTH}} {stage.state:<8} {what}{reads}{note}".rstrip()
    yield from _result(found)


def _result(found: Comparison) -> Iterator[str]:
    from laion_dask.versions import against_lock

    first, status = found.first, _status(found)
    lock = "the workspace's dvc.lock" if found.rev == against_lock.WORKSPACE else f"dvc.lock of {found.rev[:10]}"
    if first is None:
        yield f"verify: all stages of the version are equal to {lock}, byte for byte"
        if found.since:
            yield "What follows has changed since, and `dvc repro` would run these stages again:"
            yield from (f"  {cause}" for cause in found.since)
        return
    if status == _NOT_BUILT and not first.recorded:
        yield (
            f"verify: {lock} has no finished run of {first.name}. Remedy: `make repro`, which goes on from there, then"
            " commit dvc.lock"
        )
        return
    if status == _NOT_BUILT:
        yield (
            f"verify: not all stages are built here; the first that is missing is {first.name}. Remedy: `make repro`,"
            " or `dvc pull` from a remote that has the version"
        )
        return
    count = sum(stage.state == "differs" for stage in found.stages if not _describes(stage))
    differing = found.first_differing
    yield f"The first stage that differs is {differing.name if differing else first.name}."
    yield from (f"  {cause}" for cause in found.causes)
    yield f"verify: {count} of {len(found.stages)} stages differ from {lock}"
