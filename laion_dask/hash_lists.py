"""Lists of known content in, the rows of a table that match out. Entries are never written anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask import uid_sets

_DIGEST_CHARS: Final = {"md5": 32, "sha256": 64}

Hashes = Mapping[str, frozenset[str]]
"""Hex digests by kind: md5, sha256."""


class HashListError(Exception):
    """A list of known content cannot be read; the message names file and line, never the entry."""


def read(paths: Iterable[Path]) -> Hashes:
    """Read lists of md5 and sha256 hex digests, one a line, `#` for comments; returns digests by kind."""
    found: dict[str, set[str]] = {kind: set() for kind in _DIGEST_CHARS}
    kind_of = {chars: kind for kind, chars in _DIGEST_CHARS.items()}
    for path in paths:
        if not path.is_file():
            message = f"filter.hash_lists names {path}, which is missing. Remedy: correct the path or take it out"
            raise HashListError(message)
        with path.open(encoding="ascii", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                entry = line.split("#", 1)[0].strip().lower()
                if not entry:
                    continue
                kind = kind_of.get(len(entry))
                if kind is None or not set(entry) <= set("0123456789abcdef"):
                    message = f"{path}:{number}: no md5 or sha256 in hex. Remedy: 32 or 64 hex digits a line"
                    raise HashListError(message)
                found[kind].add(entry)
    return {kind: frozenset(entries) for kind, entries in found.items()}


def write(hashes: Hashes, folder: Path) -> dict[str, Path]:
    """Write the digests of each kind that has any, sorted, as .npy that workers map instead of reading the lists."""
    files = {}
    for kind, entries in sorted(hashes.items()):
        if entries:
            folder.mkdir(parents=True, exist_ok=True)
            files[kind] = folder / f"{kind}.npy"
            rows = uid_sets.numbers(pa.array(sorted(entries), pa.string()), _DIGEST_CHARS[kind])
            np.save(files[kind], rows, allow_pickle=False)
    return files


def matches(table: pa.Table, files: Mapping[str, Path], digest: str) -> np.ndarray:
    """Return bool (rows,): md5 or sha256 of the row is in the file of its kind; `digest` stands for all bytes."""
    found = np.zeros(table.num_rows, bool)
    for kind, path in files.items():
        chars = _DIGEST_CHARS[kind]
        column = table[kind]
        rows = uid_sets.numbers(pc.fill_null(column, "0" * chars), chars)
        found |= uid_sets.contains(path, rows, digest) & pc.is_valid(column).to_numpy()
    return found
