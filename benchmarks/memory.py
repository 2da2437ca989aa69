"""The peak memory of a process, as Linux counts it, and which processes of a run are its workers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

_MB: Final = 1_000_000


def peak_mb() -> float:
    """Return the largest resident memory that this process ever had, in MB.

    Not `ru_maxrss`: a process that was started by a large one inherits the large one's figure.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / _MB


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """List the workers of a run: a process that the driver has started forks them (`laion_dask.cluster`).

    Raises `psutil.Error` where one of them ends meanwhile.
    """
    children = driver.children(recursive=True)
    forks = {child.pid for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())}
    return [child for child in children if child.pid in forks and child.ppid() in forks]
