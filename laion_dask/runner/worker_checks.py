"""A worker's checks before it works: that it sees the driver's folders, runs the driver's code and has its files.

A worker on another machine, in another container or from an older checkout would else write other bytes under the
same key, or into a folder that nobody reads, and the run would end well.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from laion_dask.runner import absolute, code_digest, part_files
from laion_dask.storage.files import sha256

SIGN: Final = ".run-"
"""How the names of the files begin that drivers leave beside their parts while they run."""

# As in part_files: what other machines wrote shows late on a network file system.
_WAIT_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.5
# File systems keep times with 2 s (FAT), 1 s or less; a server and its clients may round them differently.
_SAME_TIME_S: Final = 2.0
_OTHER_CODE: Final = (
    "its code is not the driver's: {}. Remedy: install the same commit of this project and the same requirements.lock "
    "there, then start the worker anew"
)


class WorkerRefusedError(Exception):
    """A worker would write something else than the driver asks for; the message has host, reason and remedy."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the driver gives with each task, for the worker to compare."""

    sign: Path
    """A file that the driver wrote beside the parts."""
    nonce: str
    """What is in it."""
    code: code_digest.Code
    files: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file that parameters name, by absolute path."""


Status = tuple[int, float]
"""Bytes and modification time of a file."""


@contextmanager
def signed(work: Path, files: Mapping[str, str]) -> Iterator[Ticket]:
    """Leave a sign in the folder of parts for as long as their driver runs, and yield the ticket that names it."""
    for left in work.glob(f"{SIGN}*"):
        left.unlink(missing_ok=True)
    nonce = secrets.token_hex(16)
    sign = work / f"{SIGN}{nonce[:8]}"
    sign.write_text(nonce)
    part_files.sync_names(work)
    try:
        yield Ticket(sign, nonce, code_digest.of_process(), files)
    finally:
        sign.unlink(missing_ok=True)


def named_files(values: Iterable[Any]) -> dict[str, str]:
    """Return the sha256 of each file that sections in these arguments name; of folders, that of what is read there."""
    found = {path for value in values for path in absolute.named(value)}
    inside = {file for path in found for file in ([path] if path.is_file() else _in_folder(path))}
    return {str(path): _digest_of(path) for path in sorted(inside)}


def _in_folder(folder: Path) -> list[Path]:
    """List the tables of a folder, which stand for the shards beside them; without tables all files: a model's."""
    every = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in every if path.suffix == ".parquet"] or every


def statuses(args: Mapping[str, Any]) -> dict[Path, Status]:
    """Return bytes and time of each file that a part's arguments name, as the driver sees it."""
    found = {}
    location = args.get(absolute.LOCATION)
    for path in {*absolute.paths(args), *([Path(location)] if location else [])}:
        if path.is_file():
            about = path.stat()
            found[path] = about.st_size, about.st_mtime
    return found


def compare(codes: Mapping[str, Any]) -> None:
    """Raise `WorkerRefusedError` where the `question` found a worker, by address, with other code.

    Workers that come later compare for themselves, with each task; those of before these checks cannot read one.
    """
    for address, found in codes.items():
        if isinstance(found, OSError):
            continue  # it has gone since
        differences = (
            code_digest.of_process().differences(found)
            if isinstance(found, code_digest.Code)
            else [f"it has no laion_dask that can compare itself ({found})"]
        )
        if differences:
            raise WorkerRefusedError(f"the worker {address} is refused: {_OTHER_CODE.format('; '.join(differences))}")


def question() -> Callable[[], Any]:
    """Return a function that says on a worker which code that has."""

    # A function inside of another travels as it is, not by its name: the worker may have no such name.
    def code_of_worker() -> object:
        try:
            from laion_dask.runner import code_digest  # noqa: PLC0415 - on the worker
        except ImportError as error:
            return str(error)
        return code_digest.of_process()

    return code_of_worker


def check(ticket: Ticket) -> None:
    """Raise `WorkerRefusedError` unless this process has the driver's code, its folder and the files it names."""
    if differences := code_digest.of_process().differences(ticket.code):
        raise WorkerRefusedError(f"{_here()} is refused: {_OTHER_CODE.format('; '.join(differences))}")
    if not _in_time(lambda: _reads(ticket.sign) == ticket.nonce, ticket.sign.parent):
        raise _refused(
            f"it does not see the driver's folder {ticket.sign.parent}",
            "workers need the same files under the same paths: mount the project's folder there, and what "
            "LAION_DASK_HOME names",
        )
    for path, wanted in ticket.files.items():
        _check_named(Path(path), wanted)


def check_inputs(seen: Mapping[Path, Status]) -> None:
    """Raise `WorkerRefusedError` unless a part's files are here as the driver sees them."""
    for path, status in seen.items():
        if not _in_time(functools.partial(_is_as_seen, path, status), path.parent):
            raise _refused(
                f"{path} is missing there, or another file than the driver's",
                "workers need the same files under the same paths: mount the project's folder there",
            )


def check_paths(args: Mapping[str, Any]) -> None:
    """Raise `WorkerRefusedError` where a path is relative: it would mean another file in each process."""
    for path in absolute.paths(args):
        if not path.is_absolute():
            raise _refused(f"the path {path} is relative", "this is a bug: the driver has to make paths absolute")


def _refused(reason: str, remedy: str) -> WorkerRefusedError:
    return WorkerRefusedError(f"{_here()} is refused: {reason}. Remedy: {remedy}")


def _here() -> str:
    return f"a worker on {socket.gethostname()} (process {os.getpid()})"


def _reads(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


def _is_as_seen(path: Path, status: Status) -> bool:
    try:
        about = path.stat()
    except OSError:
        return False
    return about.st_size == status[0] and abs(about.st_mtime - status[1]) < _SAME_TIME_S


def _in_time(holds: Callable[[], bool], folder: Path) -> bool:
    until = time.monotonic() + _WAIT_S
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_EVERY_S)
        with contextlib.suppress(OSError):
            os.listdir(folder)  # noqa: PTH208 - for what it makes the client of a network file system do
    return True


_known: dict[Path, tuple[tuple[int, ...], str]] = {}
"""Of each named file that this process has seen: what `fstat` said of it, and its sha256."""


def _check_named(path: Path, wanted: str) -> None:
    try:
        found = _digest_of(path)
    except OSError as error:
        reason = f"{path} cannot be read there ({error.strerror})"
        raise _refused(reason, "copy the driver's file there, or mount its folder") from error
    if found != wanted:
        raise _refused(
            f"{path} has the sha256 {found[:16]}… there, {wanted[:16]}… at the driver",
            "copy the driver's file there, or mount its folder",
        )


def _digest_of(path: Path) -> str:
    """Return the sha256 of a file, read once unless it changes; then nothing that was cached of it is used further."""
    with path.open("rb") as stream:  # opened, since NFS clients ask for the status anew only then
        about = os.fstat(stream.fileno())
    status = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    before = _known.get(path)
    if before is not None and before[0] == status:
        return before[1]
    found = sha256(path)
    if before is not None and before[1] != found:
        _forget()
    _known[path] = status, found
    return found


def _forget() -> None:
    """Empty what functions of this project have cached: some of it was read from a file that has changed since."""
    for module in [module for name, module in sys.modules.items() if name.startswith("laion_dask.")]:
        for value in vars(module).copy().values():
            if isinstance(value, functools._lru_cache_wrapper):  # noqa: SLF001 - the only type that all of them have
                value.cache_clear()
    gc.collect()
