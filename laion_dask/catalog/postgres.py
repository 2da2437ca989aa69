"""Start and stop the embedded PostgreSQL: one server for a data folder, which only its own user can reach.

Other users of the machine cannot connect: the socket and its folder have mode 0700, and the server asks the kernel who
connects (`peer`). No TCP port is open. Runs on the same folder share one server, and the last one ends it; a server
whose run was killed is ended by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote

from laion_dask.catalog import postgres_account
from laion_dask.catalog.postgres_account import Account

# The embedded database mirrors files: after a power cut it is deleted and loaded again, so it needs no durability.
# With wal_level minimal, COPY into a table that the same transaction has truncated bypasses the log.
_SETTINGS: Final[Mapping[str, str]] = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "max_locks_per_transaction": "256",
    # Containers often limit /dev/shm to 64 kB or 64 MB.
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",
    "port": "5432",
    "lc_messages": "'C'",
    "logging_collector": "off",
}
_MARK: Final = "# laion_dask: what follows is written at every start"
_INITDB: Final = (
    *("--username=postgres", "--auth=peer", "--encoding=UTF8", "--no-sync", "--no-instructions"),
    # The same sort order on every machine, whatever its locale.
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("--set=dynamic_shared_memory_type=mmap", "--set=huge_pages=off"),
)
_children: Final[list[subprocess.Popen[bytes]]] = []  # servers that this process has started
_STATUS_LINE: Final = 7
_PID_FILE: Final = "postmaster.pid"
_SOCKET: Final = ".s.PGSQL.5432"
SOCKETS: Final = "laion_dask-postgresql-"  # the folder of the socket, in a temporary folder
_START_S: Final = 600  # a server that was killed replays its log first
_STOP_S: Final = {signal.SIGINT: 60.0, signal.SIGQUIT: 20.0, signal.SIGKILL: 20.0}
_QUOTED_LINES: Final = 3  # last lines of a log that an error message quotes
_FROM_HERE: Final = Path("/proc/self/cwd")

_EMPTY_IT: Final = "it is safe to delete the folder, the stage loads it again. Or set LAION_DASK_DSN to a server"


class ServerError(Exception):
    """The server cannot be started; the message has the folder, the cause and the remedy."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Yield the DSN of a server with its data in `folder`, which is created if missing. Raises `ServerError`."""
    with contextlib.ExitStack() as resources:
        with _explained(folder):
            place = folder.resolve()
            place.parent.mkdir(parents=True, exist_ok=True)
            users = resources.enter_context(place.with_name(f"{place.name}.users").open("a"))
            with _one_at_a_time(place):
                sockets = _started(place) if _is_alone(users) else _joined(place)
                fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield f"postgresql://postgres:@/postgres?host={quote(str(sockets), safe='')}&port=5432"
        finally:
            # If the folder was removed meanwhile, PostgreSQL notices and ends by itself.
            with contextlib.suppress(FileNotFoundError), _one_at_a_time(place):
                if _is_alone(users):
                    _end(place)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn errors of the system into `ServerError` with the folder and the remedy."""
    try:
        yield
    except ServerError:
        raise
    except (OSError, RuntimeError, postgres_account.AccountError) as error:
        cause, remedy = str(error), "give another folder with LAION_DASK_HOME, or set LAION_DASK_DSN to a server"
        if isinstance(error, postgres_account.AccountError):
            remedy = error.remedy
        elif isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy = "free space there and run again, or give another folder with LAION_DASK_HOME"
        elif isinstance(error, OSError) and error.errno in {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}:
            cause = f"its file system has no locks ({error})"
        raise refused(folder, cause, remedy) from error


def refused(folder: Path, cause: str, remedy: str) -> ServerError:
    """Return the error of a server that does not start."""
    return ServerError(f"the embedded PostgreSQL in {folder} does not start: {cause}. Remedy: {remedy}")


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time start or end the server of a folder."""
    with folder.with_name(f"{folder.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_alone(users: IO[str]) -> bool:
    """Say whether no other process uses the server; each user holds a shared lock, which ends with its process."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _joined(folder: Path) -> Path:
    """Return the socket's folder of the server that other runs use already."""
    running = _running(folder)
    if running is None:
        cause = "another run uses it, and that run's server is not on this machine or has ended"
        raise refused(folder, cause, "wait for that run to end, or give another folder with LAION_DASK_HOME")
    return running[1]


def _started(folder: Path) -> Path:
    """Start a server in a folder that no run uses, and return the folder of its socket."""
    _end(folder)  # the server of a killed run
    account = postgres_account.find(folder)
    with contextlib.ExitStack() as undo:
        sockets = postgres_account.own_folder(SOCKETS, len(_SOCKET) + 1, account)
        undo.callback(shutil.rmtree, sockets, ignore_errors=True)
        programs = postgres_account.programs(account, sockets)
        if not (folder / "PG_VERSION").exists():
            _initialised(folder, programs, account)
        _check_version(folder)
        _configure(folder, sockets, account)
        undo.callback(_end, folder)
        _start(folder, programs, account)
        undo.pop_all()
    return sockets


def _initialised(folder: Path, programs: Path, account: Account) -> None:
    """Create the data folder under another name and rename it, so that an interruption leaves no half-made one."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        cause = "the folder has other files than PostgreSQL's"
        raise refused(folder, cause, "move it away, or give another folder with LAION_DASK_HOME")
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        account.give(fresh)
        with tempfile.TemporaryFile() as output:
            command = _command(programs, "initdb", fresh, *_INITDB)
            done = subprocess.run(command, check=False, **_options(fresh, output, account))
            output.seek(0)
            if done.returncode != 0:
                raise _failed(folder, output.read().decode(errors="replace"))
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_version(folder: Path) -> None:
    version = (folder / "PG_VERSION").read_text(errors="replace").strip()
    if version != str(postgres_account.MAJOR):
        cause = f"its data are of PostgreSQL {version}, and this is {postgres_account.MAJOR}"
        raise refused(folder, cause, _EMPTY_IT)


def _configure(folder: Path, sockets: Path, account: Account) -> None:
    """Write our settings to the end of the file, where they win; in place, since the server's user owns the file."""
    settings = {**_SETTINGS, "unix_socket_directories": f"'{sockets}'"}
    ours = "".join(f"{name} = {value}\n" for name, value in settings.items())
    original = (folder / "postgresql.conf").read_text(encoding="utf-8", errors="replace").partition(_MARK)[0]
    texts = {
        "postgresql.conf": f"{original}{_MARK}\n{ours}",
        "pg_hba.conf": "local all all peer map=owner\n",
        "pg_ident.conf": f'owner "{account.client}" all\n',
    }
    for name, text in texts.items():
        with (folder / name).open("r+", encoding="utf-8") as stream:
            stream.write(text)
            stream.truncate()


def _start(folder: Path, programs: Path, account: Account) -> None:
    """Start the server and wait until it takes connections."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    with log.open("wb") as stream:
        # In its own session: Ctrl-C then reaches only the run, which ends the server itself.
        process = subprocess.Popen(_command(programs, "postgres", folder), **_options(folder, stream, account))
    _children.append(process)
    until = time.monotonic() + _START_S
    ready = False
    try:
        while not ready and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
            ready = _status(folder, process.pid) == "ready"
    finally:
        if not ready:
            process.kill()
            process.wait()
    if not ready:
        raise _failed(folder, log.read_text(errors="replace"))


def _status(folder: Path, process: int) -> str:
    """Return the server's last status in its PID file, such as "starting" or "ready"."""
    try:
        lines = (folder / _PID_FILE).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE and lines[0] == str(process) else ""


def _command(programs: Path, name: str, folder: Path, *more: str) -> list[str]:
    """Return the command of one of PostgreSQL's programs that runs in a data folder.

    The data folder is the working folder and is named as /proc/self/cwd where that exists: so its path may have any
    characters and length, and be inside folders that the server's user may not enter.
    """
    return [str(programs / name), *more, "-D", str(_FROM_HERE if _FROM_HERE.exists() else folder)]


def _options(folder: Path, output: IO[bytes], account: Account) -> dict[str, Any]:
    """Return the arguments of `subprocess` for these programs."""
    return {
        "cwd": folder,
        # None of the user's PostgreSQL or locale settings.
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "stdin": subprocess.DEVNULL,
        "stdout": output,
        "stderr": subprocess.STDOUT,
        "start_new_session": True,
        **account.arguments,
    }


def _failed(folder: Path, output: str) -> ServerError:
    """Return the error of a program that failed, with the last lines of its output."""
    errors = [line for line in output.splitlines() if re.search(r"FATAL|PANIC|ERROR|[Ee]rror:|could not|HINT", line)]
    cause = " ".join((errors or output.splitlines() or ["no message"])[-_QUOTED_LINES:])
    if re.search(r"No space left|Disk quota", output):
        return refused(folder, cause, "free space there and run again, or give another folder with LAION_DASK_HOME")
    if re.search(r"Cannot allocate memory|shared memory", output):
        return refused(folder, cause, "free 400 MB of memory, or set LAION_DASK_DSN to a server")
    return refused(folder, cause, f"see {folder}/log; {_EMPTY_IT}")


def _running(folder: Path) -> tuple[int, Path] | None:
    """Return process id and socket folder of the server that runs on the folder; None where none does."""
    try:
        lines = (folder / _PID_FILE).read_text(errors="surrogateescape").splitlines()
        process, sockets = int(lines[0]), Path(lines[4])
    except (FileNotFoundError, NotADirectoryError, ValueError, IndexError):
        return None
    return (process, sockets) if _is_server(process, folder) else None


def _is_server(process: int, folder: Path) -> bool:
    """Say whether a process is a server on the folder: its id may have been reused."""
    proc = Path("/proc") / str(process)
    if not proc.parent.joinpath("self").exists():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, 0)
            return True
        return False
    try:
        name, _, rest = proc.joinpath("stat").read_text(errors="replace").partition("(")[2].rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return False
    if name != "postgres" or rest.split()[0] in "ZX":
        return False
    with contextlib.suppress(OSError):  # in a container root may not be allowed to read it
        return proc.joinpath("cwd").samefile(folder)
    return True


def _end(folder: Path) -> None:
    """End the server of a folder, if one runs, and remove its PID file and the folder of its socket."""
    running = _running(folder)
    for number, patience_s in _STOP_S.items():
        if running is None or not _is_server(running[0], folder):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(running[0], number)
        _wait_for_end(running[0], folder, patience_s)
    # The PID file of a crashed server may name a process that is another program by now: PostgreSQL would not start.
    note = folder / _PID_FILE
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        lines = note.read_text(errors="surrogateescape").splitlines()
        note.unlink()
        _forget(Path(lines[4]) if len(lines) > 4 else None)
    _forget(running[1] if running else None)


def _wait_for_end(process: int, folder: Path, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while _is_server(process, folder) and time.monotonic() < until:
        _reap()
        time.sleep(0.02)
    _reap()


def _reap() -> None:
    """Reap servers that have ended, so that none stays a zombie."""
    _children[:] = [process for process in _children if process.poll() is None]


def _forget(sockets: Path | None) -> None:
    """Remove the folder of a socket if this module created it."""
    if sockets is not None and sockets.name.startswith(SOCKETS):
        shutil.rmtree(sockets, ignore_errors=True)
