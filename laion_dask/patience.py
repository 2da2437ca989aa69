"""A process and the seconds that it may take in, whether it has taken them out: its own time, not that of the machine.

Counted is what the process has computed, and the time in which it slept or was stopped. Not counted is the time in
which it was ready and the processors were busy with others, in which it waited for a disk, or in which this process did
not run either: a suspended machine, a debugger. Where the system does not tell (no /proc), all time is counted.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Final

from laion_dask.decoder_process import MOST_S

_LOOK_S: Final = 0.2
_ASLEEP: Final = frozenset("STtZXI")  # proc(5): sleeping, stopped, traced, dead; not R (ready) and D (disk)


class Patience:
    """For one task of a process: `allowed_s` of its own time, and `most_s` of the clock."""

    def __init__(self, pid: int, allowed_s: float, *, most_s: float = MOST_S) -> None:
        self.most_s = most_s
        self._pid = pid
        self._allowed_s = allowed_s
        self._until = time.monotonic() + max(most_s, allowed_s)
        self._computed_before_s: float | None = None
        self._asleep_s = 0.0

    def wait(self, end: int, event: int) -> bool:
        """Wait for an event of `select.poll` at a file descriptor; False where the machine gave the process no time.

        Raises `TimeoutError` where the process has taken its time.
        """
        if self._computed_before_s is None:
            self._computed_before_s = _state(self._pid)[1]
        waiting = select.poll()
        waiting.register(end, event)
        # A look may take far longer than it should, where this process does not run: it counts as one all the same.
        while not waiting.poll(min(_LOOK_S, self._allowed_s) * 1000):
            state, computed_s = _state(self._pid)
            if state in _ASLEEP:
                self._asleep_s += _LOOK_S
            if computed_s - self._computed_before_s + self._asleep_s >= self._allowed_s:
                raise TimeoutError
            if time.monotonic() > self._until:
                return False
        return True


def _state(pid: int) -> tuple[str, float]:
    """Return the state of a process by its letter, and the seconds that it has computed."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "S", 0.0
    # The name stands in brackets and may hold anything.
    fields = text.rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
