"""Digest values and files, and hard-link files."""

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
    """Return the sha256 of a file, hex; `progress` is called with the bytes of each block."""
    with path.open("rb") as stream:
        if progress is None:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        total = hashlib.sha256()
        while block := stream.read(_BLOCK_BYTES):
            total.update(block)
            progress(len(block))
    return total.hexdigest()


def digest(*values: object) -> str:
    """Return a digest of 32 hex digits of JSON-able values, pydantic models and the bytes of files (given as Path)."""
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
    """Hard-link a finished file; copy it where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise  # two parts with one path: a copy would overwrite the other part through its link
    except OSError:
        shutil.copyfile(source, target)
