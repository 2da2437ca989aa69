"""Write one part: under a temporary name, with a note that a worker leaves behind when it dies in the part.

A part that has killed three workers fails instead of killing one more. A worker that ends in order (its job's time is
over, its machine is wanted by others) withdraws its notes first: its parts run again elsewhere and are not blamed.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from laion_dask.runner import part_files
from laion_dask.runner.part_files import Counts
from laion_dask.storage.sync import sync_names

ATTEMPTS: Final = "attempts"
"""Folder beside the parts with a note for each part that is running; separate, since it is listed for each part."""

PartFunction = Callable[..., Counts]

# A worker may die for many reasons; a part whose workers died this often is taken to be the cause.
_MAX_DEATHS: Final = 3
_STARTUP_SECONDS: Final = 2
# Any part that a worker's threads ran when it died may be the cause, so these parts run one at a time.
_SUSPECTS: Final = threading.Lock()
_open_notes: set[Path] = set()
"""The notes of the parts that this process is working on."""
_ending: Final = threading.Event()


class PartKilledError(Exception):
    """A part has killed its worker `_MAX_DEATHS` times."""


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
    for note in deaths(final):
        note.unlink(missing_ok=True)
    return counts


def withdraw_all() -> None:
    """Remove the notes of all parts that this process is working on, because it is about to end in order."""
    _ending.set()
    for note in _open_notes.copy():
        note.unlink(missing_ok=True)


@contextmanager
def _attempt(final: Path) -> Iterator[None]:
    """Keep a note while this process works on the part; a worker that dies leaves it behind."""
    with _SUSPECTS if deaths(final) else nullcontext():
        found = deaths(final)
        if len(found) >= _MAX_DEATHS:
            records = "\n".join(note.read_text(errors="replace").rstrip() for note in found)
            raise PartKilledError(f"killed its worker {len(found)} times\n{records}")
        if found:
            # distributed's nanny does not restart a worker that dies before it has reported that it is up.
            time.sleep(_STARTUP_SECONDS)
        with _noted(final):
            yield


@contextmanager
def _noted(final: Path) -> Iterator[None]:
    if _ending.is_set():
        yield
        return
    note = final.parent / ATTEMPTS / f"{final.name}.{uuid4().hex}"
    note.parent.mkdir(parents=True, exist_ok=True)
    _open_notes.add(note)
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
            _open_notes.discard(note)


def deaths(final: Path) -> list[Path]:
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
        sync_names(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return counts


def _finished(folder: Path) -> Counts | None:
    """Return the counts of a part that is finished and undamaged; None otherwise."""
    if part_files.damage(folder):
        return None
    found = part_files.read(folder)
    return found.counts if found else None
