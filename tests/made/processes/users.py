"""Another user of this machine, for tests that run as root: what a function does as that user."""

from __future__ import annotations

import os
import pwd
import traceback
import warnings
from collections.abc import Callable

import pytest

NOBODY = 65_534
NAMELESS = 54_321  # no machine has a user of this number


def needs_root() -> None:
    """Skip a test where it cannot be another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")


def as_user(number: int, function: Callable[[], object]) -> str:
    """Call a function in a process of another user; return what it returned or raised, as text."""
    needs_root()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads: the child starts none
        child = os.fork()
    if child == 0:
        said = ""
        try:
            os.setgroups([])
            os.setgid(number)
            os.setuid(number)
            said = str(function())
        except BaseException as error:  # noqa: BLE001 - whatever it raises is told
            said = "".join(traceback.format_exception_only(error))
        finally:
            os.write(write, said.encode(errors="replace"))
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return said


def named_user() -> int:
    """Return the number of a user with a name who is not root."""
    needs_root()
    return next(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid == NOBODY or entry.pw_name == "nobody")
