"""Programs that tests start: whatever hangs is killed after a while, and its own test fails with what it has said."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

PATIENCE_S: Final = 300.0
"""How long tests wait for what takes seconds on an idle machine."""
_AFTER_KILL_S: Final = 60.0

Command = Sequence[str | os.PathLike[str]]


def start(command: Command, **options: Any) -> subprocess.Popen[str]:  # noqa: ANN401 - options of Popen
    """Start a program in a process group of its own; both of its outputs are read together unless options differ."""
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, **{**given, **options})


@contextmanager
def running(command: Command, **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - options of Popen
    """Start a program for the length of a block; what of its process group is left at the end is killed."""
    run = start(command, **options)
    try:
        yield run
    finally:
        kill(run)
        run.wait(_AFTER_KILL_S)
        for stream in (run.stdin, run.stdout, run.stderr):
            # A pipe that broke cannot take what is still buffered.
            with suppress(OSError):
                if stream is not None:
                    stream.close()


def finished(
    command: Command,
    *,
    within_s: float = PATIENCE_S,
    check: bool = False,
    input: str | None = None,  # noqa: A002 - as subprocess.run names it
    **options: Any,  # noqa: ANN401 - options of Popen
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as `subprocess.run` does, and return its status, output and errors.

    The test fails where the program takes longer than `within_s`, and with `check` where its status is not 0.
    """
    given = {"stdin": subprocess.PIPE if input is not None else None, "stderr": subprocess.PIPE, **options}
    run = start(command, **given)
    said, complained = _communicated(run, within_s, input)
    done = subprocess.CompletedProcess(command, run.returncode, said, complained)
    if check and done.returncode:
        pytest.fail(f"{_name(run)} ended with status {done.returncode}; it said:\n{said}{complained}")
    return done


def ended(run: subprocess.Popen[str], within_s: float = PATIENCE_S) -> str:
    """Wait for the end of a program that `start` has started, and return its output; the test fails if it hangs."""
    return _communicated(run, within_s, None)[0]


def _communicated(run: subprocess.Popen[str], within_s: float, given: str | None) -> tuple[str, str]:
    try:
        said, complained = run.communicate(given, timeout=within_s)
    except subprocess.TimeoutExpired:
        fail(run, f"did not end within {within_s:g} s")
    except BaseException:
        kill(run)
        raise
    return said or "", complained or ""


def line_of(run: subprocess.Popen[str], within_s: float = PATIENCE_S) -> str:
    """Return the next line that a program writes; the test fails if the program writes none."""
    assert run.stdout is not None
    # Its end is the end of the pipe that is read here.
    killing = threading.Timer(within_s, kill, [run])
    killing.start()
    try:
        line = run.stdout.readline()
    finally:
        killing.cancel()
    if not line:
        fail(run, "wrote no line")
    return line


def until(holds: Callable[[], bool], what: str, run: subprocess.Popen[str] | None = None) -> None:
    """Wait until a condition holds; the test fails where that takes longer than `PATIENCE_S`, or `run` ends before."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        # What holds at the end of a program may have begun to hold after the first look.
        if run is not None and run.poll() is not None and not holds():
            fail(run, f"ended before this: {what}")
        if time.monotonic() > deadline:
            message = f"not within {PATIENCE_S:g} s: {what}"
            if run is not None:
                fail(run, message)
            pytest.fail(message)
        time.sleep(0.01)


def fail(run: subprocess.Popen[str], why: str) -> NoReturn:
    """Kill a program, and fail the test with what the program has said."""
    kill(run)
    try:
        said = "".join(text or "" for text in run.communicate(timeout=_AFTER_KILL_S))
    except subprocess.TimeoutExpired as error:
        # A process that left the group holds the pipe.
        said = (error.output or b"").decode(errors="replace")
    pytest.fail(f"{_name(run)} {why} (status {run.returncode}); it said:\n{said}")


def kill(run: subprocess.Popen[str]) -> None:
    """Kill a program that `start` has started, its process group, and every process below it."""
    below = family(run.pid) if run.poll() is None else []
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    for process in below:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def family(process: int) -> list[int]:
    """List a process and all below it that have not ended."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        state, parent = _state(int(path.parent.name))
        if state not in "ZX":
            parents[int(path.parent.name)] = parent
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def is_there(process: int) -> bool:
    """Say whether a process exists and has not ended."""
    return _state(process)[0] not in "ZX"


def _state(process: int) -> tuple[str, int]:
    """Return the state of a process, X where there is none, and the process above it."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return words[0], int(words[1])


def _name(run: subprocess.Popen[str]) -> str:
    command = run.args if isinstance(run.args, str) else " ".join(str(word) for word in run.args)  # type: ignore[union-attr]
    return f"`{command[:200]}`"
