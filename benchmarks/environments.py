"""A lock file in, the Python of a rival's own environment out: made under .bench, anew where the lock is new."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

BENCH: Final = Path(__file__).parents[1] / ".bench"


def python_of(lock: Path, told: str) -> Path:
    """Return the Python of the environment of a lock, which has its name; `told` says what is made, and how large."""
    folder = BENCH / lock.stem
    python, mark = folder / "bin" / "python", folder / lock.name
    if not mark.is_file() or mark.read_bytes() != lock.read_bytes():
        print(f"making the environment of {told}", flush=True)
        uv = Path(sysconfig.get_path("scripts")) / "uv"
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock], check=True)
        shutil.copyfile(lock, mark)
    return python
