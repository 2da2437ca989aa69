"""Start MLflow's server on a project, wait until it answers, and end it with all of its processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from laion_dask.cluster import interrupts

HOST: Final = "127.0.0.1"
"""Only this machine reaches the server: it has no passwords."""
_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its workers for jobs of language models: three more processes, which start for seconds.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
_ASK_S: Final = 0.2
_ANSWER_S: Final = 60.0
_TELL_S: Final = 15.0
_END_S: Final = 10.0
_LISTED: Final = 10


class ServerError(Exception):
    """The server cannot be started; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and the file with what it says."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def address(self) -> str:
        """Its address for a browser on this machine."""
        return f"http://{HOST}:{self.port}"

    def wait(self, say: Callable[[str], None]) -> None:
        """Return when it answers, however long that takes; `say` is called with how long it has taken so far.

        Raises `ServerError` with the end of its log if it ends before.
        """
        began = told = time.monotonic()
        while not self._answers():
            if self.process.poll() is not None:
                raise ServerError(f"MLflow's server ended with status {self.process.returncode}:\n{self._said()}")
            if time.monotonic() - told >= _TELL_S:
                told = time.monotonic()
                say(f"MLflow's server is starting, {told - began:.0f} s so far (its log: {self.log})")
            time.sleep(_ASK_S)

    def _answers(self) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=_ANSWER_S)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _said(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(["  " + line for line in lines if line][-_LISTED:]) + f"\n  (all of it: {self.log})"


@contextmanager
def started(folder: Path, uri: str, port: int, log: Path) -> Iterator[Server]:
    """Start the server in a folder for the length of a block; at its end no process of it is left.

    Port 0 is one that is free. Raises `ServerError` if the port is in use.
    """
    port = _free(port)
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    # Not an argument: that of a database may have a password, and everybody sees the arguments of processes.
    settings = _SETTINGS | {"MLFLOW_BACKEND_STORE_URI": uri}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        # A signal between start and `try` would leave the server alone.
        with interrupts.defer_signals():
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | settings,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends all of the server's
            )
        try:
            yield Server(process, port, log)
        finally:
            with interrupts.defer_signals():
                _end(process)


def _free(port: int) -> int:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((HOST, port))
        except OSError as error:
            raise ServerError(
                f"port {port} of {HOST} cannot be used ({error.strerror}). Remedy: end the program that listens there,"
                f" or give another port, such as --port {port + 1}; --port 0 takes a free one"
            ) from error
        return int(one.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server's process group: by SIGTERM, and what is left after some seconds by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _END_S
        if _is_there(process):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        while _is_there(process) and time.monotonic() < deadline:
            time.sleep(_ASK_S)


def _is_there(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a process of the group is left that has not ended."""
    ended = process.poll() is not None
    if not Path("/proc/self/stat").is_file():
        return not ended
    states = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended while we looked
            state, _, group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
            states += [state] if int(group) == process.pid else []
    # In a container without an init process, those whose parent has ended stay as zombies.
    return any(state not in "ZX" for state in states)
