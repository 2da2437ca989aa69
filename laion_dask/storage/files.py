"""Digests of values and files, and files with a second name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 1 << 20


def sha256(path: Path, progress: Callable[[int], object] | None = None) -> str:
    """Return the sha256 of a file, hex; `progress` is told how many bytes each block had."""
    with path.open("rb") as stream:
        if progress is None:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        whole = hashlib.sha256()
        while block := stream.read(_BLOCK_BYTES):
            whole.update(block)
            progress(len(block))
    return whole.hexdigest()


def digest(*values: object) -> str:
    """Return 32 hex digits that stand for JSON-able values, pydantic models and the bytes of files (given as Path)."""
    return hashlib.sha256(json.dumps([_plain(value) for value in values], sort_keys=True).encode()).hexdigest()[:32]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return sha256(value)
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def link(source: Path, target: Path) -> None:
    """Give a finished file a second name, by hard link; by copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise  # two parts with one path: a copy would write through the link into the other part
    except OSError:
        shutil.copyfile(source, target)
