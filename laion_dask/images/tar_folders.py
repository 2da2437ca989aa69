"""Read a folder of tars that others made: img2dataset's and webdataset's layouts.

A sample is the members of one key: a picture (jpg, png, webp, or another format that the download stores as received),
with its caption in `<key>.txt`, or as caption or text of `<key>.json`. The Parquet table that img2dataset writes beside
a tar is not read: the JSON has the same values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pyarrow as pa

from laion_dask.images import tar_samples

IMAGES: Final = "images"
"""The folder beside the scores, with a table for each tar: row i for row i of the scores."""

_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "uid", "url", "caption", "split", "reason", "tar", "sha256")),
        *((name, pa.int32()) for name in ("original_width", "original_height")),
    ]
)


class FolderError(Exception):
    """A folder has nothing to score, or a tar cannot be read; the message has the value and the remedy."""


def find(folder: Path) -> list[Path]:
    """Return the tars of a folder and its subfolders, sorted; `FolderError` where there are none."""
    if not folder.is_dir():
        raise FolderError(
            f"{folder} is not a folder. Remedy: give the folder that img2dataset or webdataset wrote its tars into"
        )
    tars = sorted(path for path in folder.rglob("*.tar") if path.is_file())
    if not tars:
        raise FolderError(f"{folder} has no .tar files. Remedy: the folder with the shards in webdataset's layout")
    return tars


def count(tar: Path) -> int:
    """Count the rows of a tar, by its headers alone; `FolderError` where it has no readable sample."""
    return counts([tar])[0]


def counts(tars: Sequence[Path]) -> list[int]:
    """Count the rows of each tar, by its headers alone; a broken tar has one more row, with that reason.

    `FolderError` where a tar cannot be read (disk, permissions), or all are broken before their first sample.
    """
    with ThreadPoolExecutor() as pool:
        scans = list(pool.map(_headers, tars))
    if all(one.broken and not one.chosen for one in scans):
        raise _unreadable(tars[0], scans[0].broken)
    return [len(one.rows) for one in scans]


def _headers(tar: Path) -> tar_samples.TarScan:
    try:
        return tar_samples.scan(tar, with_texts=False)
    except OSError as error:
        raise _unreadable(tar, str(error)) from error


def samples(tar: Path) -> pa.Table:
    """Return a row for each sample of a tar, in its order, then rows with a reason for what is not a sample.

    The uid is the JSON's where it has one, else md5 of caption + url; an unknown split becomes nolang.
    """
    return table(tar_samples.scan(tar))


def table(scanned: tar_samples.TarScan) -> pa.Table:
    """Return the rows of a tar that was scanned, as `samples` does."""
    return pa.Table.from_pylist(scanned.rows, schema=_SCHEMA)


def pictures(tar: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (key, bytes) of the picture of each sample, in the order of the tar, reading it front to back."""
    yield from tar_samples.bodies(tar, tar_samples.scan(tar).chosen)


def _unreadable(tar: Path, what: str) -> FolderError:
    return FolderError(f"{tar} cannot be read: {what}. Remedy: fetch it again, or take it out of the folder")
