"""Lists of known content in, the rows of a table that match out. Entries are never written anywhere."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


@functools.lru_cache(maxsize=2)
def arrays(paths: tuple[Path, ...], digest: str) -> Mapping[str, pa.Array]:  # noqa: ARG001 - a changed file has another
    """Read lists once for each process: `digest` stands for their bytes. Returns what `matches` takes."""
    return as_arrays(read(paths))


def as_arrays(hashes: Hashes) -> Mapping[str, pa.Array]:
    """Return the kinds that have any entry, sorted."""
    return {kind: pa.array(sorted(entries), pa.string()) for kind, entries in hashes.items() if entries}


def matches(table: pa.Table, hashes: Mapping[str, pa.Array]) -> np.ndarray:
    """Return bool (rows,): md5 or sha256 of the row is among the hashes."""
    found = np.zeros(table.num_rows, bool)
    for kind, entries in hashes.items():
        found |= pc.is_in(table[kind], value_set=entries).to_numpy()
    return found
