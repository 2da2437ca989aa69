"""Dask schedulers and workers as programs of their own: in other folders, with other code, in other mounts."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client
from made.places import ROOT, TESTS
from made.processes import programs

_ENDS_S = 120.0
_numbers = itertools.count()


def _can_mount() -> bool:
    unshare = shutil.which("unshare")
    return bool(unshare) and programs.finished([str(unshare), "-m", "true"]).returncode == 0


mounts = pytest.mark.skipif(not _can_mount(), reason="needs the right to mount, as root has it")


@contextmanager
def scheduler(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Run `dask scheduler` in a folder, and yield its address; its file is `scheduler.json` there."""
    with scheduler_process(folder, host=host, port=port) as (address, _):
        yield address


@contextmanager
def scheduler_process(
    folder: Path, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run `dask scheduler`, and yield its address and its process."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
    command += ["--host", host, "--scheduler-file", str(file)]
    with _running(command, folder, {"PYTHONPATH": str(TESTS)}) as process:
        programs.until(lambda: _address(file) is not None, "the scheduler starts", process)
        yield str(_address(file)), process


def _address(file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return str(json.loads(file.read_text())["address"])
    return None


@contextmanager
def worker(
    address: str,
    folder: Path,
    code: Path = ROOT,
    *,
    mount: Sequence[str] = (),
    nanny: bool = False,
    more: Sequence[str] = (),
    joins: bool = True,
    **environment: str,
) -> Iterator[subprocess.Popen[str]]:
    """Run `dask worker` in a folder, with the packages of `code`, in a mount namespace where `mount` was run.

    With `joins`, it has joined when the block begins. `more` are further options of the program, `environment` its
    variables.
    """
    name = f"{folder.name}-{next(_numbers)}"
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "1", "--nthreads", "1"]
    command += ["--nanny" if nanny else "--no-nanny", "--no-dashboard", "--name", name, *more]
    command += ["--local-directory", str(folder / "scratch")]
    if mount:
        inner = f"{shlex.join(['mount', *mount])} && exec {shlex.join(command)}"
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", inner]
    # The folder of a program's module comes first on the path: it must not be the checkout.
    settings = {"PYTHONPATH": f"{code}{os.pathsep}{TESTS}", "PYTHONSAFEPATH": "1", **environment}
    with _running(command, folder, settings) as process:
        if joins:
            with Client(address) as client:
                programs.until(lambda: name in names(client), f"the worker {name} joins", process)
        yield process


def names(client: Client) -> set[str]:
    """Return the names of the workers that have joined."""
    return {str(one["name"]) for one in client.scheduler_info(n_workers=-1)["workers"].values()}


@contextmanager
def _running(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.txt").open("a") as log:
        given = {"cwd": folder, "env": {**os.environ, **environment}, "stdout": log}
        # What does not end in order within this time is killed.
        with programs.running(command, **given) as process:
            yield process
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_ENDS_S)


def copy_of_code(folder: Path) -> Path:
    """Copy the packages into a folder, as another machine has them installed."""
    for name in ("laion_dask", "workflow"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
