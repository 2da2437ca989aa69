"""One stage of a whole version, measured: seconds, processor time, peak memory by kind of process, files and bytes.

The benchmark's process adopts whatever loses its parent in a stage (the embedded PostgreSQL), so that memory and
processor time of every process of the stage count.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks import projects
from benchmarks.memory import workers_of

STAGES: Final = (
    *("inputs", "crawl", "extract", "catalog", "download", "score", "group", "filter"),
    *("translate", "caption", "release", "report"),
)
NEW_TEXTS: Final = ("translate", "caption")
"""Stages that most published sets do without; they run, and write nothing, unless they are asked for."""

_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h
_LOOK_S: Final = 0.25
_ORPHANS_S: Final = 20.0
_MB: Final = 1_000_000


@dataclass(frozen=True)
class Measured:
    """What a stage took."""

    seconds: float
    processor_s: float
    """Of all processes of the stage."""
    driver_mb: float
    """Peak resident memory of the stage's program, MB."""
    worker_mb: float
    """Likewise, of its largest worker; 0 where it had none."""
    other_mb: float
    """Likewise, of the largest other process: decoders, PostgreSQL, servers."""
    files: int
    bytes: int
    """Of the stage's out."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


class Peaks:
    """The largest peak of resident memory seen of driver, workers and other processes of a stage, in MB."""

    def __init__(self) -> None:
        self.driver = self.worker = self.other = 0.0
        self._next = 0.0

    def look(self, driver: psutil.Popen) -> None:
        """Read the peaks of all processes that live, four times a second: Linux keeps each process's own maximum."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LOOK_S
        self.driver = max(self.driver, _peak_mb(driver.pid))
        try:
            workers = {worker.pid for worker in workers_of(driver)}
            running = {child.pid for child in psutil.Process().children(recursive=True)} - {driver.pid}
        except psutil.Error:
            return  # one ended while we looked; the next look finds the others
        self.worker = max([self.worker, *(_peak_mb(pid) for pid in workers)])
        self.other = max([self.other, *(_peak_mb(pid) for pid in running - workers)])


def adopt_orphans() -> None:
    """Make this process the parent of descendants that lose theirs (prctl(2), PR_SET_CHILD_SUBREAPER).

    Raises `OSError` where the kernel refuses.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl PR_SET_CHILD_SUBREAPER")


def run(stage: str, folder: Path, workers: int) -> Measured:
    """Run a stage of a project folder to its end and measure it. Raises `BenchError` where it fails."""
    before, peaks = _spent_s(), Peaks()
    seconds = projects.run(stage, folder, workers, peaks.look)
    _wait_for_orphans()
    files = [path for path in (folder / "data" / stage).rglob("*") if path.is_file()]
    return Measured(
        round(seconds, 2),
        round(_spent_s() - before, 2),
        *(round(peak, 1) for peak in (peaks.driver, peaks.worker, peaks.other)),
        len(files),
        sum(path.stat().st_size for path in files),
    )


def _spent_s() -> float:
    """Return the processor time of all processes of stages that have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _wait_for_orphans() -> None:
    """Wait for adopted processes, whose processor time counts only then; one that stays is left running."""
    deadline = time.monotonic() + _ORPHANS_S
    while time.monotonic() < deadline:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(0.05)


def _peak_mb(pid: int) -> float:
    """Return the peak resident memory of a process, MB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    _, found, after = status.partition("VmHWM:")
    return int(after.split()[0]) * 1024 / _MB if found else 0.0
