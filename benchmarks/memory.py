"""The peak memory of a process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MB: Final = 1_000_000


def peak_mb() -> float:
    """Return the largest resident memory that this process ever had, in MB.

    Not `ru_maxrss`: a process that was started by a large one inherits the large one's figure.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / _MB
