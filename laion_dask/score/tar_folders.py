"""Score a folder of tars that others made: img2dataset's and webdataset's layouts.

A sample is the members of one key: a picture (jpg, png, webp, or what else the download stores as received), with its
caption in `<key>.txt`, or as caption or text of `<key>.json`. What img2dataset keeps in the Parquet table beside a tar
stands in the JSON too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.score import part, tar_samples

IMAGES: Final = "images"
"""The folder beside the scores, with a table for each tar: row i for row i of the scores."""

_SCHEMA: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "uid", "url", "caption", "split", "reason", "tar", "sha256")),
        *((name, pa.int32()) for name in ("original_width", "original_height")),
    ]
)


class FolderError(Exception):
    """There is nothing to score in a folder, or a tar cannot be read; the message has the value and the remedy."""


def find(folder: Path) -> list[Path]:
    """Return the tars of a folder, however deep, sorted; `FolderError` where there are none."""
    if not folder.is_dir():
        raise FolderError(
            f"{folder} is no folder. Remedy: the folder that img2dataset or webdataset wrote its tars into"
        )
    found = sorted(path for path in folder.rglob("*.tar") if path.is_file())
    if not found:
        raise FolderError(f"{folder} has no .tar files. Remedy: the folder with the shards in webdataset's layout")
    return found


def count(tar: Path) -> int:
    """Return the rows of a tar, by its headers alone; `FolderError` where it has no sample that can be read."""
    return counts([tar])[0]


def counts(tars: Sequence[Path]) -> list[int]:
    """Return the rows of each tar, by its headers alone: one that is broken has a row with that reason too.

    `FolderError` where the disk or the rights do not let a tar be read, or all are broken before their first sample.
    """
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_headers, tars))
    if all(one.broken and not one.chosen for one in found):
        raise _unreadable(tars[0], found[0].broken)
    return [len(one.rows) for one in found]


def _headers(tar: Path) -> tar_samples.TarScan:
    try:
        return tar_samples.scan(tar, with_texts=False)
    except OSError as error:
        raise _unreadable(tar, str(error)) from error


def score_tar(out: Path, *, name: str, tar: Path, shard_rows: int, settings: params.Score) -> dict[str, Any]:
    """Score one tar as `score.score_rows` does, and write `images/<name>.parquet` with its samples.

    The ledger `images` has what is no sample too, by its reason; `captions` says of how many scored pictures there is
    a caption: without one a picture has no similarity. `broken_json` counts those whose JSON is none.
    """
    scanned = tar_samples.scan(tar)
    table = pa.Table.from_pylist(scanned.rows, schema=_SCHEMA)
    (out / IMAGES).mkdir()
    pq.write_table(table, out / IMAGES / f"{name}.parquet", compression="zstd")
    found = part.score_rows(
        out,
        name=name,
        table=table,
        pictures=tar_samples.bodies(tar, scanned.chosen),
        shard_rows=shard_rows,
        settings=settings,
    )
    images, captions = Ledger.from_dict(found["images"]), Ledger()
    for reason, rows in sorted(Counter(row["reason"] for row in scanned.rows).items()):
        if reason != KEEP:
            images.drop(reason, rows)
    kept = [row["caption"] for row in scanned.rows if row["reason"] == KEEP]
    captions.keep(sum(map(bool, kept)))
    if none := kept.count(""):
        captions.drop("no_caption", none)
    return found | {
        "images": images.as_dict(),
        "captions": captions.as_dict(),
        "broken_json": scanned.broken_json,
    }


def samples(tar: Path) -> pa.Table:
    """Return a row for each sample of a tar, in its order, with what is known of it, and for what is none.

    The uid is the JSON's where it has one, else md5 of caption + url; captions in no known split count as nolang.
    """
    return pa.Table.from_pylist(tar_samples.scan(tar).rows, schema=_SCHEMA)


def pictures(tar: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (key, bytes) of the picture of each sample, in the order of the tar, reading it front to back."""
    yield from tar_samples.bodies(tar, tar_samples.scan(tar).chosen)


def _unreadable(tar: Path, what: str) -> FolderError:
    return FolderError(f"{tar} cannot be read: {what}. Remedy: fetch it again, or take it out of the folder")
