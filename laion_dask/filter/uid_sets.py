"""Read files with sets of uids (DataComp's subset files, Parquet of earlier versions) and look uids up in them.

A subset file (mlfoundations/datacomp, resharder.py) is a NumPy array of dtype `u8,u8`, little-endian: the two halves of
each uid as numbers, sorted; duplicate entries count once here.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.schema.reasons import KEEP
from laion_dask.storage.uids import to_bytes

HALVES: Final = np.dtype([("f0", "<u8"), ("f1", "<u8")])
_CHECKED_AT_ONCE: Final = 1 << 22


class UidSetError(Exception):
    """A set of uids cannot be read; the message has the file and the remedy."""


def halves(uids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return uids of 32 lower-case hex digits as two numbers each, dtype `HALVES` (rows,).

    Raises `ValueError` for any other uid.
    """
    return np.ascontiguousarray(to_bytes(uids)).view(">u8").astype("<u8").view(HALVES).reshape(len(uids))


def write(path: Path, uids: pa.Array | pa.ChunkedArray) -> None:
    """Write a subset file for DataComp's programs: sorted, without duplicates."""
    with path.open("wb") as stream:
        np.save(stream, np.unique(halves(uids)), allow_pickle=False)


def look(source: Path) -> None:
    """Check a set without reading its rows; raises `UidSetError`."""
    if source.suffix == ".npy":
        _open(source)
    elif not any("uid" in _columns(file) for file in _files(source)):
        raise _no_uids(source)


def prepare(source: Path, folder: Path) -> Path:
    """Return a sorted subset file for a set; a Parquet source or an unsorted array gets one in `folder`.

    Parquet: a file, or a folder with files, with a column uid; with a column reason, only kept rows count.
    Raises `UidSetError`.
    """
    if source.suffix == ".npy":
        array = _open(source)
        if _is_sorted(array):
            return source
    else:
        array = _of_parquet(source)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{source.stem}-{len(list(folder.iterdir()))}.npy"
    np.save(target, np.unique(array), allow_pickle=False)
    return target


@functools.lru_cache(maxsize=16)
def _load(path: Path, digest: str) -> tuple[np.ndarray, int]:  # noqa: ARG001 - a changed file has another digest
    stored = np.load(path, mmap_mode="r", allow_pickle=False)
    array = _eights(stored)
    # The most entries with the same first half: rare, but possible.
    longest = 1
    while longest < len(array) and _repeats(array, longest):
        longest += 1
    return array, longest


def _eights(array: np.ndarray) -> np.ndarray:
    """Return the two numbers of each entry, u8 (rows, 2), also for an empty array."""
    return array.view("<u8").reshape(len(array), 2)


def _repeats(array: np.ndarray, step: int) -> bool:
    """Return whether any entry has the first half of the entry `step` places before; in blocks, to limit memory."""
    for begin in range(0, len(array) - step, _CHECKED_AT_ONCE):
        later = array[begin + step : begin + step + _CHECKED_AT_ONCE, 0]
        if (later == array[begin : begin + len(later), 0]).any():
            return True
    return False


def contains(path: Path, asked: np.ndarray, digest: str) -> np.ndarray:
    """Return bool (rows,): whether the uid (from `halves`) is in the sorted file, which is memory-mapped."""
    array, longest = _load(path, digest)
    rows = _eights(asked)
    result = np.zeros(len(rows), bool)
    if not len(array) or not len(rows):
        return result
    # Sorted, so that the file is read in order.
    order = np.argsort(rows[:, 0])
    sorted_rows = rows[order]
    start = np.searchsorted(array[:, 0], sorted_rows[:, 0])
    matches = np.zeros(len(rows), bool)
    for step in range(longest):
        inside = start + step < len(array)
        candidates = array[np.minimum(start + step, len(array) - 1)]
        matches |= (candidates == sorted_rows).all(axis=1) & inside
    result[order] = matches
    return result


def _open(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UidSetError(f"{path} cannot be read: {error}. Remedy: a subset file as DataComp writes it") from error
    if array.dtype != HALVES or array.ndim != 1:
        message = f"{path} has dtype {array.dtype}, shape {array.shape}. Remedy: a 1-D array of dtype u8,u8"
        raise UidSetError(message)
    return np.asarray(array) if len(array) == 0 else array


def _is_sorted(array: np.ndarray) -> bool:
    for begin in range(0, len(array), _CHECKED_AT_ONCE):
        block = np.asarray(array[begin : begin + _CHECKED_AT_ONCE + 1])
        first, second = block["f0"], block["f1"]
        later = (first[1:] > first[:-1]) | ((first[1:] == first[:-1]) & (second[1:] >= second[:-1]))
        if not later.all():
            return False
    return True


def _of_parquet(source: Path) -> np.ndarray:
    sets = []
    for file in _files(source):
        columns = _columns(file)
        if "uid" not in columns:
            continue
        try:
            table = pq.read_table(file, columns=columns)
            rows = table.filter(pc.equal(table["reason"], KEEP)) if "reason" in columns else table
            sets.append(halves(rows["uid"]))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UidSetError(f"{file} cannot be read: {error}. Remedy: a .npy subset file or Parquet") from error
    if not sets:
        raise _no_uids(source)
    return np.concatenate(sets)


def _files(source: Path) -> list[Path]:
    return sorted(source.rglob("*.parquet")) if source.is_dir() else [source]


def _columns(file: Path) -> list[str]:
    try:
        names = pq.read_schema(file).names
    except (OSError, pa.ArrowException) as error:
        raise UidSetError(f"{file} cannot be read: {error}. Remedy: a .npy subset file or Parquet") from error
    return [name for name in ("uid", "reason") if name in names]


def _no_uids(source: Path) -> UidSetError:
    return UidSetError(f"{source} has no Parquet with a column uid. Remedy: data/filter or data/release of a version")
