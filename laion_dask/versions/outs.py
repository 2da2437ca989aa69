"""Digests of files and folders as DVC computes them, without DVC and without its cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 20
# Digests are computed without the GIL; more threads do not make disks faster.
_THREADS: Final = 4
# What .dvcignore of this project leaves out of folders that a stage depends on.
_IGNORED: Final = frozenset({"__pycache__"})

Advance = Callable[[int], None]


def listing(path: Path, advance: Advance = lambda _: None) -> dict[str, str]:
    """Return the MD5 of each file of a folder by its relative path; of a single file under the name "".

    `advance` gets the number of bytes after each file. Empty if there is nothing at that path.
    """

    def digest(file: Path) -> str:
        found = hashlib.md5(usedforsecurity=False)
        size = 0
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                found.update(block)
                size += len(block)
        advance(size)
        return found.hexdigest()

    names = {"": path} if path.is_file() else {file.relative_to(path).as_posix(): file for file in files(path)}
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(digest, names.values()), strict=True))


def files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that DVC counts; follows links, as DVC does."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in _IGNORED]
        yield from (Path(place) / name for name in names)


def size(path: Path) -> int:
    """Return the bytes of a file, or of the files of a folder."""
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in files(path))


def digest(found: Mapping[str, str]) -> str:
    """Return DVC's digest of a listing: the MD5 of a file, or that of its list for a folder; "" for nothing."""
    if not found:
        return ""
    if "" in found:
        return found[""]
    entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(found.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def cached_listing(cache: Path, recorded: str) -> dict[str, str]:
    """Return the listing of a folder's digest from DVC's cache; {} for a file, or if the cache lacks it."""
    path = cache / "files" / "md5" / recorded[:2] / recorded[2:]
    if not recorded.endswith(".dir") or not path.is_file():
        return {}
    return {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(path.read_bytes())}
