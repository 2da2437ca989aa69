"""Digests that removals name in, the rows of a table that match out; lists of partners have an index (`lists`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.filter import uid_sets

_DIGEST_CHARS: Final = {"md5": 32, "sha256": 64}

Hashes = Mapping[str, frozenset[str]]
"""Hex digests by kind: md5, sha256."""


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
