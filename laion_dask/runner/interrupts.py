"""Ends a run on Ctrl-C, SIGTERM and SIGHUP in order: what was begun is ended first, and no traceback is printed.

Ctrl-C comes from people (status 130), SIGTERM from batch systems (143), SIGHUP from a terminal that was closed (129).
All three become an exception in the main thread, so that every `finally` runs; while processes are started or ended,
the exception waits (`held`). Nothing here imports more than the standard library: it runs first of all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import parent_process
from pathlib import Path
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STATUS: Final = 128  # plus the number of the signal: what shells and batch systems expect
_COMMAND: Final = "laion-dask"
_MODULES: Final = ("workflow.", "laion_dask.")
_LOOK_EVERY_S: Final = 0.5
_SHELLS: Final = frozenset({"sh", "dash", "bash", "zsh", "ksh", "fish"})


class Ended(SystemExit):
    """SIGTERM or SIGHUP has come; what catches nothing ends with its status, and without a traceback."""

    def __init__(self, number: int) -> None:
        super().__init__(_STATUS + number)
        self.name = signal.Signals(number).name

    @property
    def status(self) -> int:
        """The status to end with."""
        return int(str(self.code))


@contextmanager
def heard() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on Ctrl-C and `Ended` on SIGTERM and SIGHUP; what was ignored before stays ignored.

    Without effect outside of the main thread, which alone may decide on signals.
    """
    before = _taken(_raise)
    stop = threading.Event()
    # DVC is no more where it gets a SIGTERM itself, and would leave its stage behind.
    if before and "DVC_STAGE" in os.environ:
        threading.Thread(target=_watch_parent, args=(stop,), name="parent", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        _given_back(before)


@contextmanager
def held(note: str = "") -> Iterator[None]:
    """Let signals wait for the end of the block, and raise then what the first of them asks for.

    `note` tells people meanwhile that they have been heard.
    """
    waiting: list[tuple[int, FrameType | None]] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if note and not waiting:
            os.write(2, f"\n{note}\n".encode())
        waiting.append((number, frame))

    before = _taken(remember, only_where_handled=True)
    try:
        yield
    finally:
        _given_back(before)
        if waiting:
            handler = before[waiting[0][0]]
            handler(*waiting[0])


def at_once_in_programs() -> None:
    """Let signals end a stage or a command at once, with one line, while it imports: nothing has to be ended first.

    The handlers stay until `heard` puts others in their place, and hold again behind it. Without effect where this
    package is used by another program, or imported by a worker.
    """
    is_command = Path(sys.argv[0]).name == _COMMAND
    # While Python looks for what -m names, the name is not in sys.argv yet.
    is_module = sys.argv[:1] == ["-m"] and any(word.startswith(_MODULES) for word in sys.orig_argv)
    if (is_command or is_module) and parent_process() is None and threading.current_thread() is threading.main_thread():
        _taken(_leave)


def _taken(handler: Callable[[int, FrameType | None], object], *, only_where_handled: bool = False) -> dict[int, Any]:
    """Put a handler in the place of those that are there, and return these by the signal."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, Any] = {}
    for number in SIGNALS:
        found = signal.getsignal(number)
        if found == signal.SIG_IGN or (only_where_handled and not callable(found)):
            continue  # nohup ignores SIGHUP, and a shell Ctrl-C for what runs in the background
        before[number] = signal.signal(number, handler)
    return before


def _given_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(number)


def _leave(number: int, _: FrameType | None) -> None:
    module = next((word.rpartition(".")[2] for word in sys.orig_argv if word.startswith(_MODULES)), _COMMAND)
    os.write(2, f"\n{module}: interrupted.\n".encode())
    os._exit(_STATUS + number)


def _watch_parent(stop: threading.Event) -> None:
    """Send this process a SIGTERM when the program that started it has gone."""
    before = _parents()
    while not stop.wait(_LOOK_EVERY_S):
        if _parents() != before:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _parents() -> tuple[int, ...]:
    """Return the process that started this one; where that is a shell, also the one that started the shell."""
    parent = os.getppid()
    try:
        name, _, rest = (Path("/proc") / str(parent) / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return (parent,)
    return (parent, int(rest.split()[1])) if name in _SHELLS else (parent,)
