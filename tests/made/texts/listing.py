"""Lists of known content for tests: entries in, a file and its index out; and every byte that a folder holds."""

from __future__ import annotations

import gzip
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask.blocklists import known_lists
from laion_dask.blocklists.known_index import Index
from laion_dask.params.lists import HashList


def index(folder: Path, kind: str, *entries: str, name: str = "partner", **more: Any) -> Index:  # noqa: ANN401
    """Compile hex entries, one a line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{kind}.txt"
    path.write_text("".join(f"{entry}\n" for entry in entries))
    return known_lists.compiled([HashList(name=name, kind=kind, file=str(path), **more)], folder / "index")[0]


def stored(folder: Path, inputs: Collection[Path] = ()) -> Iterator[tuple[Path, bytes]]:
    """Yield the bytes of all files but those in or at `inputs`, and what is packed in them: gzip, tables."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not {path, *path.parents}.isdisjoint(inputs):
            continue
        body = path.read_bytes()
        yield path, body
        if body[:2] == b"\x1f\x8b":
            yield path, gzip.decompress(body)
        if body[:4] == b"PAR1":
            yield path, repr(pq.read_table(path).to_pylist()).encode()
