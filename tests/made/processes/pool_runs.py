"""Runs of simple parts on a pool that changes: each part leaves a note of the process that has run it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client
from made.processes import programs
from made.processes.squares import numbers, square

from laion_dask.cluster.kinds import open_client
from laion_dask.runner import parts
from laion_dask.runner.part import Done
from laion_dask.runner.progress import Progress


@contextmanager
def connected(address: str, **settings: object) -> Iterator[Client]:
    values = {f"laion-dask.cluster.{name}": value for name, value in settings.items()}
    with dask.config.set({"laion-dask.cluster.kind": address, **values}), open_client() as client:
        yield client


def slow(out: Path, *, number: int, seconds: float = 0.3, diary: Path | None = None) -> dict[str, Any]:
    """Square a number, after a note of which process does so."""
    if diary is not None:
        (diary / f"{number}.{os.getpid()}.{time.monotonic_ns()}").touch()
    time.sleep(seconds)
    return square(out, number=number)


def run(client: Client, work: Path, count: int, **shared: object) -> list[Done]:
    progress = Progress("slow", "numbers")
    return parts.run(slow, numbers(*range(count)), work, client, shared=shared, progress=progress)


def pids(diary: Path) -> set[int]:
    return {int(path.name.split(".")[1]) for path in diary.iterdir()}


class Background:
    """A run on a thread of its own: tests change the pool meanwhile."""

    def __init__(self, action: Callable[[], list[Done]]) -> None:
        self.done: list[Done] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(action,))
        self._thread.start()

    def _run(self, action: Callable[[], list[Done]]) -> None:
        try:
            self.done = action()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def end(self) -> list[Done]:
        self._thread.join(programs.PATIENCE_S)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.done


def patient(out: Path, *, number: int, go: Path, diary: Path) -> dict[str, Any]:
    """Square a number once a file is there, after a note of which process does so."""
    (diary / f"{number}.{os.getpid()}.{time.monotonic_ns()}").touch()
    while not go.exists():
        time.sleep(0.05)
    return square(out, number=number)


def deadly(out: Path, *, number: int) -> dict[str, Any]:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(out, number=number)
