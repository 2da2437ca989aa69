"""The first process of a host: it mounts the host's own folders, then holds its namespaces until its input ends.

A program of its own, started in new namespaces. Its argument is JSON: `name`, `hosts` (the file that becomes
/etc/hosts), `private` (folders that become empty), and `folders` (path, the folder that lies there, read-only or not).
It prints its process id, as the machine knows it, when the host is ready.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

_STAGING: Final = Path("/mnt")


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def set_up(wanted: dict[str, Any]) -> None:
    """Mount what the host has of its own; nothing of it is seen outside, and it ends with the namespace."""
    socket.sethostname(wanted["name"])
    mount("-t", "proc", "proc", "/proc")
    mount("--bind", wanted["hosts"], "/etc/hosts")
    # The folders that are wanted may lie below those that become empty, so they are held elsewhere meanwhile.
    mount("-t", "tmpfs", "tmpfs", _STAGING)
    for number, (_, source, _) in enumerate(wanted["folders"]):
        (_STAGING / str(number)).mkdir()
        mount("--bind", source, _STAGING / str(number))
    for folder in wanted["private"]:
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", folder)
    for number, (target, _, read_only) in enumerate(wanted["folders"]):
        Path(target).mkdir(parents=True, exist_ok=True)
        mount("--bind", _STAGING / str(number), target)
        if read_only:
            mount("-o", "remount,bind,ro", target)
    subprocess.run(["umount", "--recursive", _STAGING], check=True)


def reap(*_: object) -> None:
    """Take leave of the processes that have ended, as the first process of every machine does."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    process = str(Path("/proc/self").readlink())
    set_up(json.loads(sys.argv[1]))
    signal.signal(signal.SIGCHLD, reap)
    sys.stdout.write(f"{process}\n")
    sys.stdout.flush()
    # Its other end belongs to the tests: when they end, however that is, the host ends with all of its processes.
    sys.stdin.read()
