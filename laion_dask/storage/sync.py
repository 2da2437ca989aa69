"""Flush files and folders to the disk, so that a power cut loses nothing that was said to be finished."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_SYNCS: Final = 8


def sync(folder: Path) -> None:
    """Flush every file of a folder, and the folders themselves, to disk."""
    folders, paths = [], []
    for place, _, names in os.walk(folder):
        folders.append(Path(place))
        paths += [Path(place) / name for name in names]
    # In parallel: a journaling file system then writes its journal once instead of once per file.
    with ThreadPoolExecutor(_SYNCS) as pool:
        flushes = [*(pool.submit(_flush, path) for path in paths), *(pool.submit(sync_names, one) for one in folders)]
        for flush in flushes:
            flush.result()


def sync_names(folder: Path) -> None:
    """Flush a folder's entries to disk; file systems that do so on their own may refuse, which is ignored."""
    try:
        _flush(folder)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
