"""The files of a finished part: their sizes and digests are written last, with the counts, and checked before use.

`counts.json` holds the counts, the size and sha256 of every other file of the part, and a sha256 of itself. So a
flipped bit, a truncated, missing or extra file and a half-written `counts.json` are found before a part is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask.storage.files import sha256
from laion_dask.storage.sync import sync

COUNTS_FILE: Final = "counts.json"
"""Written last in a part's folder: its presence says that the part is complete."""

Counts = dict[str, Any]

# NFS clients cache a folder's entries for up to 60 s, but refresh them when the folder is listed.
_WAIT_S: Final = 10.0
_POLL_S: Final = 0.5
# An NFS client renames a file so if it is removed while open, and deletes it later.
_REMOVED_OPEN: Final = ".nfs"


class DamagedPartError(Exception):
    """A part differs from what was written; the message says which file, and how."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The content of a part's `counts.json`."""

    counts: Counts
    files: Mapping[str, tuple[int, str]]
    """Bytes and sha256 of each file, by its path in the part."""


def files(folder: Path) -> list[Path]:
    """List the files of a part, sorted, without its counts."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path != folder / COUNTS_FILE and not path.name.startswith(_REMOVED_OPEN)
    )


def remove(path: Path) -> None:
    """Remove a path, if it exists: a folder with all its content, a file, or a link but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def seal(folder: Path, counts: Mapping[str, Any]) -> Counts:
    """Write `counts.json` for the files in the folder, sync everything to disk, and return the counts."""
    plain: Counts = json.loads(json.dumps(counts))
    described = {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256(path)) for path in files(folder)}
    content = {"counts": plain, "files": {name: list(about) for name, about in described.items()}}
    (folder / COUNTS_FILE).write_text(json.dumps({**content, "sha256": _digest(content)}))
    sync(folder)
    return plain


def read(folder: Path) -> Finished | None:
    """Return the content of `counts.json`, or None without a part; raises `DamagedPartError` if it is damaged."""
    try:
        stored = (folder / COUNTS_FILE).read_bytes()
    except FileNotFoundError:
        if not folder.exists():
            return None
        raise DamagedPartError(f"{COUNTS_FILE} is missing") from None
    except OSError as error:
        raise DamagedPartError(f"{COUNTS_FILE} cannot be read: {error.strerror or error}") from error
    try:
        content = json.loads(stored)
        written_digest = content.pop("sha256")
        finished = Finished(
            dict(content["counts"]), {name: (int(size), str(of)) for name, (size, of) in content["files"].items()}
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedPartError(f"{COUNTS_FILE} of {len(stored):,} bytes is not complete") from error
    if _digest(content) != written_digest:
        raise DamagedPartError(f"the content of {COUNTS_FILE} differs from what was written")
    return finished


def read_soon(folder: Path) -> Finished:
    """Return the content of `counts.json` of a part that a worker has finished, and check that its files are here.

    Waits up to 10 s, as network file systems show files of other machines late. Raises `DamagedPartError`.
    """
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            finished = read(folder)
            if finished is None:
                raise DamagedPartError("it is missing")  # noqa: TRY301 - as any other damage
            _check_sizes(folder, finished)
        except DamagedPartError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
            if folder.parent.is_dir():
                os.listdir(folder.parent)  # noqa: PTH208 - listing refreshes the cache of a network file system's client
        else:
            return finished


def damage(folder: Path) -> str:
    """Read all files of a part and describe how it differs from what was written; "" if it does not."""
    try:
        finished = read(folder)
        if finished is None:
            return "it is missing"
        _check_sizes(folder, finished)
        for name, (_, written) in finished.files.items():
            if (found := sha256(folder / name)) != written:
                return f"the content of {name} differs from what was written: sha256 {found[:16]}…, not {written[:16]}…"
    except DamagedPartError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error}"
    return ""


def _check_sizes(folder: Path, finished: Finished) -> None:
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files(folder)}
    if missing := sorted(finished.files.keys() - sizes.keys()):
        raise DamagedPartError(f"{missing[0]} is missing")
    if extra := sorted(sizes.keys() - finished.files.keys()):
        raise DamagedPartError(f"{extra[0]} is not one of its files")
    for name, (size, _) in finished.files.items():
        if sizes[name] != size:
            raise DamagedPartError(f"{name} has {sizes[name]:,} bytes, {size:,} were written")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
