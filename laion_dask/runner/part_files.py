"""The files of a finished part: their sizes and digests are written last, with the counts, and checked before use.

`counts.json` holds the counts, size and sha256 of every other file of the part, and a sha256 of both. So a flipped bit,
a truncated, missing or foreign file and a half-written `counts.json` are all found before anything is made from them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask.storage.files import sha256

COUNTS_FILE: Final = "counts.json"
"""Written last in a part's folder: its presence says that the part is complete."""

Counts = dict[str, Any]

# NFS clients keep what they know of a folder for up to 60 s, but look again when the folder is listed.
_WAIT_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.5
_SYNCS: Final = 8
# What an NFS client leaves for a file that was removed while it was open; it goes by itself.
_REMOVED_OPEN: Final = ".nfs"


class DamagedPartError(Exception):
    """A part is not what was written; the message says which file, and how it differs."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What `counts.json` of a part says."""

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
    """Remove whatever lies at a place, if anything does: a folder with all in it, a file, a link but not its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def seal(folder: Path, counts: Mapping[str, Any]) -> Counts:
    """Write `counts.json` for the files that are there, sync all of them to the disk, and return the counts."""
    plain: Counts = json.loads(json.dumps(counts))
    described = {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256(path)) for path in files(folder)}
    content = {"counts": plain, "files": {name: list(about) for name, about in described.items()}}
    (folder / COUNTS_FILE).write_text(json.dumps({**content, "sha256": _digest(content)}))
    sync(folder)
    return plain


def sync(folder: Path) -> None:
    """Flush every file of a folder, and the folders themselves, to the disk."""
    folders, inside = [], []
    for place, _, names in os.walk(folder):
        folders.append(Path(place))
        inside += [Path(place) / name for name in names]
    # Together: file systems with a journal then write it once instead of once for each.
    with ThreadPoolExecutor(_SYNCS) as pool:
        flushed = [*(pool.submit(_flush, path) for path in inside), *(pool.submit(sync_names, one) for one in folders)]
        for one in flushed:
            one.result()


def sync_names(folder: Path) -> None:
    """Flush the names of a folder's entries; some file systems keep them so without being asked, and refuse."""
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


def read(folder: Path) -> Finished | None:
    """Return what `counts.json` says; None where there is no part, `DamagedPartError` where it cannot be trusted."""
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
        wanted = content.pop("sha256")
        found = Finished(
            dict(content["counts"]), {name: (int(size), str(of)) for name, (size, of) in content["files"].items()}
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedPartError(f"{COUNTS_FILE} of {len(stored):,} bytes is not complete") from error
    if _digest(content) != wanted:
        raise DamagedPartError(f"the content of {COUNTS_FILE} differs from what was written")
    return found


def read_soon(folder: Path) -> Finished:
    """Return what `counts.json` of a part says that a worker has finished, and see that all its files are here.

    Waits a few seconds for file systems that show what other machines have written late. Raises `DamagedPartError`.
    """
    until = time.monotonic() + _WAIT_S
    while True:
        try:
            found = read(folder)
            if found is None:
                raise DamagedPartError("it is missing")  # noqa: TRY301 - as any other damage
            _check_sizes(folder, found)
        except DamagedPartError:
            if time.monotonic() > until:
                raise
            time.sleep(_LOOK_EVERY_S)
            if folder.parent.is_dir():
                os.listdir(folder.parent)  # noqa: PTH208 - for what it makes the client of a network file system do
        else:
            return found


def damage(folder: Path) -> str:
    """Say how a part differs from what was written, by the bytes of all its files; "" where it does not."""
    try:
        found = read(folder)
        if found is None:
            return "it is missing"
        _check_sizes(folder, found)
        for name, (_, wanted) in found.files.items():
            if (is_ := sha256(folder / name)) != wanted:
                return f"the content of {name} differs from what was written: sha256 {is_[:16]}…, not {wanted[:16]}…"
    except DamagedPartError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error}"
    return ""


def _check_sizes(folder: Path, finished: Finished) -> None:
    there = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files(folder)}
    if missing := sorted(finished.files.keys() - there.keys()):
        raise DamagedPartError(f"{missing[0]} is missing")
    if extra := sorted(there.keys() - finished.files.keys()):
        raise DamagedPartError(f"{extra[0]} is not one of its files")
    for name, (size, _) in finished.files.items():
        if there[name] != size:
            raise DamagedPartError(f"{name} has {there[name]:,} bytes, {size:,} were written")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
