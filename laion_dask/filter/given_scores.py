"""Look up the scores of a file by uid, such as FLYT's, for filter.computed.

The file is Parquet, or a folder of Parquet, with a column uid and one of numbers. It is sorted by uid once, and then
read by memory map, so that its size does not count.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.filter import uid_sets

_UID: Final = "uid"
_ROW: Final = np.dtype([("f0", "<u8"), ("f1", "<u8"), ("value", "<f8")])


class GivenScoresError(Exception):
    """A file of scores cannot be read; the message has the file and the remedy."""


def look(source: Path, column: str) -> None:
    """Check the columns without reading rows. Raises `GivenScoresError`."""
    for file in _files(source):
        _columns(file, column)


def prepare(source: Path, column: str, target: Path) -> Path:
    """Write uid and score sorted by uid to `target`, a .npy, and return it. Raises `GivenScoresError`."""
    found = []
    for file in _files(source):
        _columns(file, column)
        try:
            table = pq.read_table(file, columns=[_UID, column])
            halves = uid_sets.halves(table[_UID])
            values = table[column].cast(pa.float64()).fill_null(float("nan")).to_numpy()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise GivenScoresError(f"{file} cannot be read: {error}. Remedy: 32 hex digits in uid") from error
        rows = np.empty(len(halves), _ROW)
        rows["f0"], rows["f1"], rows["value"] = halves["f0"], halves["f1"], values
        found.append(rows)
    joined = np.concatenate(found)
    joined = joined[np.lexsort((joined["f1"], joined["f0"]))]
    same = (joined["f0"][1:] == joined["f0"][:-1]) & (joined["f1"][1:] == joined["f1"][:-1])
    if same.any():
        first = joined[:-1][same][0]
        uid = f"{int(first['f0']):016x}{int(first['f1']):016x}"
        raise GivenScoresError(f"{source} has uid {uid} twice. Remedy: one score for each uid")
    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target, joined, allow_pickle=False)
    return target


def of_rows(path: Path, uids: pa.ChunkedArray, digest: str) -> np.ndarray:
    """Return the score of each uid from a prepared file, float64 (rows,); NaN for one that is not there."""
    stored, longest = _load(path, digest)
    asked = uid_sets.halves(uids)
    values = np.full(len(asked), np.nan)
    if not len(stored) or not len(asked):
        return values
    start = np.searchsorted(stored["f0"], asked["f0"])
    for step in range(longest):
        places = np.minimum(start + step, len(stored) - 1)
        rows = stored[places]
        same = (rows["f0"] == asked["f0"]) & (rows["f1"] == asked["f1"])
        values[same] = rows["value"][same]
    return values


@functools.lru_cache(maxsize=8)
def _load(path: Path, digest: str) -> tuple[np.ndarray, int]:  # noqa: ARG001 - a changed file has another digest
    """Return the rows of a prepared file, and the most of them whose uids begin alike."""
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    longest = 1
    while longest < len(stored) and (stored["f0"][longest:] == stored["f0"][:-longest]).any():
        longest += 1
    return stored, longest


def _files(source: Path) -> list[Path]:
    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise GivenScoresError(f"{source} has no Parquet. Remedy: a file with the columns uid and score")
    return files


def _columns(file: Path, column: str) -> None:
    try:
        kinds = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise GivenScoresError(f"{file} cannot be read: {error}. Remedy: Parquet with uid and a score") from error
    for name in (_UID, column):
        if name not in kinds.names:
            remedy = f"one of {', '.join(kinds.names)}, or another file"
            raise GivenScoresError(f"{file} has no column {name}. Remedy: {remedy}")
    kind = kinds.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise GivenScoresError(f"{file}: column {column} is {kind}. Remedy: a column of numbers")
