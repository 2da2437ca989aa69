"""End a run cleanly on Ctrl-C, SIGTERM and SIGHUP: stop its processes first, print no traceback.

Ctrl-C comes from people (status 130), SIGTERM from batch systems (143), SIGHUP from a terminal that was closed (129).
Each raises an exception in the main thread, so that every `finally` runs; while processes are started or ended, the
exception is deferred (`defer_signals`). This module imports only the standard library, since it runs before all else.
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
_POLL_S: Final = 0.5
_SHELLS: Final = frozenset({"sh", "dash", "bash", "zsh", "ksh", "fish"})


class Ended(SystemExit):
    """SIGTERM or SIGHUP was received. Uncaught, it ends the program with the signal's status and no traceback."""

    def __init__(self, number: int) -> None:
        super().__init__(_STATUS + number)
        self.name = signal.Signals(number).name

    @property
    def status(self) -> int:
        """The exit status."""
        return int(str(self.code))


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on Ctrl-C and `Ended` on SIGTERM and SIGHUP; ignored signals stay ignored.

    Has no effect outside the main thread: only that may set signal handlers.
    """
    previous = _install(_raise)
    stop = threading.Event()
    # A SIGTERM ends DVC but not the stage that it started.
    if previous and "DVC_STAGE" in os.environ:
        threading.Thread(target=_watch_parent, args=(stop,), name="parent", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        _restore(previous)


@contextmanager
def defer_signals(note: str = "") -> Iterator[None]:
    """Defer signals to the end of the block, then handle the first of them.

    `note` is printed when a signal arrives, to acknowledge it.
    """
    deferred: list[tuple[int, FrameType | None]] = []

    def defer(number: int, frame: FrameType | None) -> None:
        if note and not deferred:
            os.write(2, f"\n{note}\n".encode())
        deferred.append((number, frame))

    previous = _install(defer, only_where_handled=True)
    try:
        yield
    finally:
        _restore(previous)
        if deferred:
            handler = previous[deferred[0][0]]
            handler(*deferred[0])


def exit_on_signals_in_programs() -> None:
    """End a stage or a command at once on a signal, with one line, while it imports: there is nothing to clean up yet.

    The handlers hold until `raise_on_signals` replaces them, and again after it. Has no effect where another program
    or a worker imports this package.
    """
    is_command = Path(sys.argv[0]).name == _COMMAND
    # While Python looks for what -m names, the name is not in sys.argv yet.
    is_module = sys.argv[:1] == ["-m"] and any(word.startswith(_MODULES) for word in sys.orig_argv)
    if (is_command or is_module) and parent_process() is None and threading.current_thread() is threading.main_thread():
        _install(_exit)


def _install(handler: Callable[[int, FrameType | None], object], *, only_where_handled: bool = False) -> dict[int, Any]:
    """Install a handler for `SIGNALS`, and return the previous handlers by signal."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    previous: dict[int, Any] = {}
    for number in SIGNALS:
        handler_before = signal.getsignal(number)
        if handler_before == signal.SIG_IGN or (only_where_handled and not callable(handler_before)):
            continue  # nohup ignores SIGHUP; a shell ignores Ctrl-C for background jobs
        previous[number] = signal.signal(number, handler)
    return previous


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Ended(number)


def _exit(number: int, _: FrameType | None) -> None:
    module = next((word.rpartition(".")[2] for word in sys.orig_argv if word.startswith(_MODULES)), _COMMAND)
    os.write(2, f"\n{module}: interrupted.\n".encode())
    os._exit(_STATUS + number)


def _watch_parent(stop: threading.Event) -> None:
    """Send this process a SIGTERM when the program that started it has ended."""
    first = _parents()
    while not stop.wait(_POLL_S):
        if _parents() != first:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _parents() -> tuple[int, ...]:
    """Return the id of the parent process; where that is a shell, also the id of the shell's parent."""
    parent = os.getppid()
    try:
        name, _, rest = (Path("/proc") / str(parent) / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return (parent,)
    return (parent, int(rest.split()[1])) if name in _SHELLS else (parent,)
