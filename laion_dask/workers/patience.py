"""What a driver says while it waits for workers, and when it stops waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from laion_dask.cluster.settings import Settings
from laion_dask.storage.durations import duration
from laion_dask.workers.checks import WorkerRefusedError

_SAY_S: Final = 60.0
# Importing the package takes seconds, on a busy machine or a cold network file system a minute.
_SILENT_S: Final = 180.0


class WorkersGoneError(Exception):
    """No worker has come in time, or all have ended and none has come back."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at the pool has shown."""

    usable: int
    """Workers that may work and have the resources that the stage asks for."""
    members: int
    """Workers that may work."""
    silent: str
    """The address of a worker that has not answered yet, or ""."""
    refused: str
    """Why a worker is refused, or ""."""
    restarting: bool
    error: str
    """What sending the handshake has raised, or ""."""


class Patience:
    """Waits for workers as long as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since: float | None = None
        self._said = 0.0

    def check(self, seen: Seen, waiting: int, scheduler: str) -> str:
        """Return what to print while `waiting` tasks wait, "" for nothing.

        Raises `WorkersGoneError` when there has been no worker for longer than the patience, and `WorkerRefusedError`
        when all workers have been refused and no others are expected.
        """
        if seen.usable:
            self._since = None
            return ""
        now = time.monotonic()
        if self._since is None:
            self._since = self._said = now
        waited = now - self._since
        self._check_refused(seen, waited)
        patience, key = self._settings.patience_s, self._settings.where["patience"]
        if waited > patience:
            raise WorkersGoneError(
                f"there has been no worker{self._lacking(seen)} for {duration(waited)}, and {waiting} tasks wait for "
                "one.\nRemedy: if workers have ended, see in the log above why (most often lack of memory); if they "
                f"wait in a queue, raise {key} ({duration(patience)} now), e.g. to 12 hours. Then run again; only "
                "unfinished parts run."
            )
        if now - self._said < _SAY_S:
            return ""
        self._said = now
        return (
            f"no worker{self._lacking(seen)} for {duration(waited)}; {waiting} tasks wait, for at most "
            f"{duration(patience)} ({key}). Scheduler: {scheduler}"
        )

    def _lacking(self, seen: Seen) -> str:
        if not seen.members or not self._settings.resources:
            return ""
        named = ", ".join(f"{name}: {amount:g}" for name, amount in self._settings.resources.items())
        return f" with the resources {{{named}}} ({self._settings.where['resources']}; {seen.members} without)"

    def _check_refused(self, seen: Seen, waited: float) -> None:
        if seen.silent and waited > _SILENT_S:
            reason = f" ({seen.error})" if seen.error else ""
            raise WorkerRefusedError(
                f"the worker {seen.silent} is refused: it has not answered the handshake within {_SILENT_S:.0f} "
                f"s{reason}. Remedy: install the same commit of this project and the same requirements.lock there, "
                "then restart the worker; if its machine is only busy, run again"
            )
        expected = seen.silent or seen.restarting or seen.members or self._settings.form == "class"
        if seen.refused and not expected:
            raise WorkerRefusedError(seen.refused)
