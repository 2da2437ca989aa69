"""Give each worker process of a host a GPU of its own, whoever started it.

dask-cuda does so for the workers that it starts. Workers of a batch job, or of `dask worker`, would all use the first
GPU that they see. A worker takes a GPU by the lock of a file that is named after it, and keeps it until it ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TextIO

_held: list[tuple[str, TextIO]] = []
"""The GPU of this process, and the file whose lock it holds."""
_HIDDEN: Final = {"", "-1", "NoDevFiles"}


def take(seen: Sequence[str] | None = None, folder: Path | None = None) -> str:
    """Take one of the GPUs that this process may use, and hide the others; return "" or why there is none left.

    `seen` are their UUIDs; None: ask the driver. A process without GPUs takes none.
    """
    if _held:
        return ""
    uuids = list(seen if seen is not None else visible())
    if not uuids:
        return ""
    place = folder or Path(tempfile.gettempdir()) / f"laion-dask-gpus-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    about = place.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
        return f"{place} belongs to another user, so its GPUs cannot be shared out"
    for uuid in uuids:
        stream = (place / f"{uuid}.lock").open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        _held.append((uuid, stream))
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid
        return ""
    return f"other workers of this host have taken all GPUs that it sees ({len(uuids)})"


def visible() -> list[str]:
    """Return the UUIDs of the GPUs that this process may use, in its order; none without NVIDIA's driver."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    if allowed in _HIDDEN:
        return []
    try:
        import pynvml  # noqa: PLC0415 - only where the machine has it

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        uuids = [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except (ImportError, OSError):
        return []
    except pynvml.NVMLError:
        return []
    if allowed == "all":
        return uuids
    return chosen(uuids, allowed)


def chosen(uuids: Sequence[str], allowed: str) -> list[str]:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES names by number or by the beginning of a UUID.

    As CUDA reads it, the list ends at the first that does not exist.
    """
    found: list[str] = []
    for word in (word.strip() for word in allowed.split(",")):
        if word.isdecimal() and int(word) < len(uuids):
            found.append(uuids[int(word)])
        elif word and not word.isdecimal() and (named := [uuid for uuid in uuids if uuid.startswith(word)]):
            found.append(named[0])
        else:
            break
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
