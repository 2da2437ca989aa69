"""Checks on a worker before a task: it sees the driver's folders, runs its code and has its files.

Otherwise a worker on another machine, in another container or from an older checkout could write other bytes under the
same key, or into a folder that nobody reads, and the run would seem to succeed.
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

from laion_dask.storage.files import sha256
from laion_dask.storage.sync import sync_names
from laion_dask.workers import absolute, code_digest

SIGN: Final = ".run-"
"""Prefix of the marker file that a driver leaves beside its parts while it runs."""

# As in part_files: network file systems show files of other machines late.
_WAIT_S: Final = 10.0
_POLL_S: Final = 0.5
# File systems keep times with 2 s (FAT), 1 s or less; a server and its clients may round them differently.
_SAME_TIME_S: Final = 2.0
_OTHER_CODE: Final = (
    "its code is not the driver's: {}. Remedy: install the same commit of this project and the same requirements.lock "
    "there, then restart the worker"
)


class WorkerRefusedError(Exception):
    """A worker's code or files differ from the driver's; the message has host, reason and remedy."""

    def __init__(self, message: str, worker: str = "") -> None:
        super().__init__(message, worker)  # both, so that it can be unpickled
        self.worker = worker
        """Its address."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the driver sends with each task, for the worker to compare."""

    sign: Path
    """The marker file that the driver wrote beside the parts."""
    nonce: str
    """Its content."""
    code: code_digest.Code
    files: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of each file that parameters name, by absolute path."""


Status = tuple[int, float]
"""Bytes and modification time of a file."""


@contextmanager
def issue_ticket(work: Path, files: Mapping[str, str]) -> Iterator[Ticket]:
    """Write a marker file into the folder of parts, yield a ticket that names it, and remove it afterwards."""
    for stale in work.glob(f"{SIGN}*"):
        stale.unlink(missing_ok=True)
    nonce = secrets.token_hex(16)
    sign = work / f"{SIGN}{nonce[:8]}"
    sign.write_text(nonce)
    sync_names(work)
    try:
        yield Ticket(sign, nonce, code_digest.of_process(), files)
    finally:
        sign.unlink(missing_ok=True)


def named_files(values: Iterable[Any]) -> dict[str, str]:
    """Return the sha256 of each file that sections in these arguments name, also of files read from named folders."""
    paths = {path for value in values for path in absolute.named(value)}
    files = {file for path in paths for file in ([path] if path.is_file() else _in_folder(path))}
    return {str(path): _digest_of(path) for path in sorted(files)}


def _in_folder(folder: Path) -> list[Path]:
    """List the tables of a folder, as a proxy for the shards beside them; without tables, all files (of a model)."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.suffix == ".parquet"] or files


def statuses(args: Mapping[str, Any]) -> dict[Path, Status]:
    """Return size and modification time of each file in a part's arguments, as the driver sees it."""
    found = {}
    location = args.get(absolute.LOCATION)
    for path in {*absolute.paths(args), *([Path(location)] if location else [])}:
        if path.is_file():
            about = path.stat()
            found[path] = about.st_size, about.st_mtime
    return found


def check(ticket: Ticket) -> None:
    """Raise `WorkerRefusedError` unless this process has the driver's code, folder and named files."""
    if differences := code_digest.of_process().differences(ticket.code):
        raise _error(_OTHER_CODE.format("; ".join(differences)))
    if not _in_time(lambda: _content(ticket.sign) == ticket.nonce, ticket.sign.parent):
        raise _refused(
            f"it does not see the driver's folder {ticket.sign.parent}",
            "workers need the same files under the same paths: mount the project's folder there, and what "
            "LAION_DASK_HOME names",
        )
    for path, wanted in ticket.files.items():
        _check_named(Path(path), wanted)


def check_inputs(seen: Mapping[Path, Status]) -> None:
    """Raise `WorkerRefusedError` unless a part's files are here, with size and time as the driver sees them."""
    for path, status in seen.items():
        if not _in_time(functools.partial(_is_as_seen, path, status), path.parent):
            raise _refused(
                f"{path} is missing there, or another file than the driver's",
                "workers need the same files under the same paths: mount the project's folder there",
            )


def check_paths(args: Mapping[str, Any]) -> None:
    """Raise `WorkerRefusedError` if a path is relative: it could mean another file in each process."""
    for path in absolute.paths(args):
        if not path.is_absolute():
            raise _refused(f"the path {path} is relative", "this is a bug: the driver has to make paths absolute")


def _refused(reason: str, remedy: str) -> WorkerRefusedError:
    return _error(f"{reason}. Remedy: {remedy}")


def _error(what: str) -> WorkerRefusedError:
    return WorkerRefusedError(
        f"a worker on {socket.gethostname()} (process {os.getpid()}) is refused: {what}", _address()
    )


def _address() -> str:
    """Return the address of this worker, "" in a process that is none."""
    from distributed import get_worker  # noqa: PLC0415 - on a worker it is loaded anyway

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def _content(path: Path) -> str:
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
    deadline = time.monotonic() + _WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
        with contextlib.suppress(OSError):
            os.listdir(folder)  # noqa: PTH208 - listing refreshes the cache of a network file system's client
    return True


_known: dict[Path, tuple[tuple[int, ...], str]] = {}
"""For each named file that this process has read: its status by `fstat`, and its sha256."""


def _check_named(path: Path, wanted: str) -> None:
    try:
        found = _digest_of(path)
    except OSError as error:
        reason = f"{path} cannot be read there ({error.strerror})"
        raise _refused(reason, "copy the driver's file there, or mount its folder") from error
    if found != wanted:
        raise _refused(
            f"{path} has the sha256 {found[:16]}… there, {wanted[:16]}… on the driver",
            "copy the driver's file there, or mount its folder",
        )


def _digest_of(path: Path) -> str:
    """Return the sha256 of a file, cached while its status stays; a changed file empties the function caches."""
    with path.open("rb") as stream:  # NFS clients refresh the status of a file when it is opened
        about = os.fstat(stream.fileno())
    status = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    cached = _known.get(path)
    if cached is not None and cached[0] == status:
        return cached[1]
    digest = sha256(path)
    if cached is not None and cached[1] != digest:
        _clear_caches()
    _known[path] = status, digest
    return digest


def _clear_caches() -> None:
    """Clear the caches of this project's functions: they may hold content of a file that has changed."""
    for module in [module for name, module in sys.modules.items() if name.startswith("laion_dask.")]:
        for value in vars(module).copy().values():
            if isinstance(value, functools._lru_cache_wrapper):  # noqa: SLF001 - the only type that all of them share
                value.cache_clear()
    gc.collect()
