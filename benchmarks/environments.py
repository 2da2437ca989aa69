"""Where benchmarks keep what they make, and the environments of the programs that they compare with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BENCH: Final = Path(os.environ.get("LAION_DASK_BENCH") or ROOT / ".bench").resolve()
"""Corpora and environments; LAION_DASK_BENCH names another folder."""


def ready(lock: Path) -> bool:
    """Tell whether the environment of a lock file is there, so that a short run can use it without installing."""
    mark = BENCH / lock.stem / lock.name
    return mark.is_file() and mark.read_bytes() == lock.read_bytes()


def python_of(lock: Path, described: str) -> Path:
    """Return the Python of the environment of a lock file, made where the lock is new.

    `described` says what is made, and how large it is.
    """
    folder = BENCH / lock.stem
    python = folder / "bin" / "python"
    if not ready(lock):
        print(f"making the environment of {described}", flush=True)
        uv = Path(sysconfig.get_path("scripts")) / "uv"
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock], check=True)
        shutil.copyfile(lock, folder / lock.name)
    return python
