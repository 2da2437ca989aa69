"""Catch a host in the middle of a part: its workers are stopped there, so that it can lose its power or its cable."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

from made.hosts.network import Host

from laion_dask.runner.attempts import ATTEMPTS


def stopped_in_a_part(host: Host, work: Path, run: subprocess.Popen[str]) -> bool:
    """Stop the host while one of its workers makes a part in `work`; False if the run ends before that happens.

    A worker keeps a note beside the parts while it makes one. A part may end between the look at the note and the stop:
    then the host goes on, and the next part is waited for.
    """
    while run.poll() is None:
        if any(_made_by(host, note) for note in _notes(work)):
            host.stop()
            if any(_made_by(host, note) and not (work / note.name.partition(".")[0]).exists() for note in _notes(work)):
                return True
            host.resume()
        time.sleep(0.0005)
    return False


def _notes(work: Path) -> list[Path]:
    with suppress(OSError):
        return list((work / ATTEMPTS).iterdir())
    return []


def _made_by(host: Host, note: Path) -> bool:
    with suppress(OSError):
        return f" on {host.name} " in note.read_text(errors="replace")
    return False
