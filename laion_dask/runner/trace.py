"""Measure a part on its worker: when it ran, its processor time, its peak memory, and the bytes that it wrote.

What a part took is also written beside the parts: a worker that dies takes along the answers that nobody has fetched
yet, and a part may be taken over by a run in another copy of the project.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from laion_dask.runner import part_files

if TYPE_CHECKING:
    from distributed import Client

STARTED: Final = "laion-dask-started-"
"""Prefix of a run's topic, under which workers say which parts they begin with: runs may share a scheduler."""

MEASURES: Final = "measures"
"""Folder beside the parts with a file for each of them: what it took."""

_KIB: Final = 1024
# Resets the peak of resident memory (man 5 proc, /proc/pid/clear_refs).
_RESET_PEAK: Final = "5"


@dataclass(slots=True)
class Measured:
    """What one attempt of a part took; complete when the block of `measured` has ended."""

    worker: str
    """The worker's address; "" outside of a worker."""
    host: str
    process: int
    attempt: int
    started: float
    """Seconds since 1970, UTC, by the worker's clock."""
    ended: float = 0.0
    processor_seconds: float = 0.0
    """User and system time of this process and its children; parts that run in it at the same time share it."""
    peak_bytes: int = 0
    """Largest resident memory of this process while the part ran."""
    bytes: int = 0
    """Size of the part's files."""
    made: bool = True
    """False if the part was finished before, and what it took is not known: this is the check of its files."""

    @classmethod
    def read(cls, folder: Path) -> Measured | None:
        """Return what a finished part took when it was made; None if that is not known."""
        try:
            found = json.loads(_file(folder).read_text())
            return cls(
                worker=str(found["worker"]),
                host=str(found["host"]),
                process=int(found["process"]),
                attempt=int(found["attempt"]),
                started=float(found["started"]),
                ended=float(found["ended"]),
                processor_seconds=float(found["processor_seconds"]),
                peak_bytes=int(found["peak_bytes"]),
                bytes=int(found["bytes"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # as of a part of earlier code, or after a power loss


@dataclass(slots=True)
class _Process:
    """What the parts that run in this process have used; the threads of a GPU's worker run several at once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    running: list[Measured] = field(default_factory=list)
    seconds: float = 0.0
    """Processor time of the process at the last `account`."""

    def begin(self, part: Measured) -> None:
        with self.lock:
            self.account()
            self.running.append(part)
            _reset_peak()

    def end(self, part: Measured) -> None:
        with self.lock:
            self.account()
            self.running.remove(part)

    def account(self) -> None:
        """Share the processor time since the last call equally, and raise each running part's peak of memory."""
        seconds = _processor_seconds()
        peak = _peak_bytes() if self.running else 0
        for part in self.running:
            # A child that another process has waited for takes its time with it.
            part.processor_seconds += max(seconds - self.seconds, 0.0) / len(self.running)
            part.peak_bytes = max(part.peak_bytes, peak)
        self.seconds = seconds


_process: Final = _Process()


@contextmanager
def measured(folder: Path, attempt: int = 1) -> Iterator[Measured]:
    """Measure the block, which makes the part that `folder` will hold; `attempt` counts from 1.

    If the part was finished before, the result is what it took then.
    """
    part = Measured(_address(), socket.gethostname(), os.getpid(), attempt, time.time())
    began, before = time.monotonic(), _identity(folder)
    _process.begin(part)
    try:
        yield part
    finally:
        _process.end(part)
        # By the monotonic clock: somebody may set the other one meanwhile.
        part.ended = part.started + time.monotonic() - began
        after = _identity(folder)
        if after is not None and after == before:
            part.made = _replace(part, Measured.read(folder))
        elif after is not None:
            part.bytes = _size(folder)
            _write(part, folder)


def announce(name: str, run: str) -> None:
    """Tell the driver of a run that this worker begins with a part, by an event; does nothing outside of a worker."""
    from distributed import get_worker  # noqa: PLC0415 - on a worker, distributed is loaded anyway

    try:
        worker = get_worker()
    except ValueError:  # distributed's answer where there is none
        return
    worker.log_event(f"{STARTED}{run}", {"part": name})


@contextmanager
def heard(client: Client, run: str, started: Callable[[str], None]) -> Iterator[None]:
    """Call `started` with the name of each part that a worker begins with, as soon as the driver hears of it."""
    client.subscribe_topic(f"{STARTED}{run}", lambda event: started(str(event[1]["part"])))
    try:
        yield
    finally:
        with suppress(Exception):  # the scheduler may be gone
            client.unsubscribe_topic(f"{STARTED}{run}")


def _address() -> str:
    from distributed import get_worker  # noqa: PLC0415

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def _file(folder: Path) -> Path:
    return folder.parent / MEASURES / f"{folder.name}.json"


def _write(part: Measured, folder: Path) -> None:
    # A part that was made is no failure for want of this file: it counts as not measured where the file is asked for.
    with suppress(OSError):
        path = _file(folder)
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(asdict(part)))


def _replace(part: Measured, other: Measured | None) -> bool:
    """Give a measurement the values of another one; return False if there is none."""
    for name in Measured.__slots__ if other is not None else ():
        setattr(part, name, getattr(other, name))
    return other is not None


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a finished part from one that was written anew in its place; None if it is not finished."""
    try:
        about = (folder / part_files.COUNTS_FILE).stat()
    except OSError:
        return None
    return about.st_ino, about.st_mtime_ns


def _size(folder: Path) -> int:
    """Add up the sizes of a part's files; 0 if another program removes them meanwhile."""
    with suppress(OSError):
        return sum(path.stat().st_size for path in part_files.files(folder))
    return 0


def _processor_seconds() -> float:
    """Return the processor time of this process, of its ended children and of its living descendants."""
    # Not by psutil: the system counts these in microseconds, but shows them to psutil in steps of 10 ms.
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total = sum(one.ru_utime + one.ru_stime for one in used)
    for process in _descendants():
        with suppress(psutil.Error):  # it has ended since it was listed
            times = psutil.Process(process).cpu_times()
            total += sum(times[:4])  # user and system time of its own and of its ended children
    return float(total)


def _descendants() -> list[int]:
    """List the living descendants of this process."""
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []  # as in most stages; this takes a microsecond
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = _children(waiting.pop())
        if children is None:
            return [child.pid for child in psutil.Process().children(recursive=True)]
        found += children
        waiting += children
    return found


def _children(process: int) -> list[int] | None:
    """List the children of a process as Linux does; None where it does not. psutil would read all of /proc."""
    found: list[int] = []
    folder = Path("/proc") / str(process) / "task"
    try:
        threads = os.listdir(folder)  # noqa: PTH208 - by name
    except OSError:
        return [] if folder.parents[1].joinpath("self").exists() else None
    for thread in threads:
        try:
            found += map(int, (folder / thread / "children").read_text().split())
        except OSError:
            if (folder / thread).exists():
                return None  # the system is built without these lists
    return found


def _reset_peak() -> None:
    with suppress(OSError), open("/proc/self/clear_refs", "w") as stream:  # noqa: PTH123 - no file of ours
        stream.write(_RESET_PEAK)


def _peak_bytes() -> int:
    """Return the peak of this process's resident memory since `_reset_peak`; without Linux, since it began."""
    with suppress(OSError), open("/proc/self/status") as stream:  # noqa: PTH123
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * _KIB
