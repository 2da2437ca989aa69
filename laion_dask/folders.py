"""A folder of tars that others made in, shards to score out: img2dataset's and webdataset's layouts.

A sample is the members of one key: a picture (jpg, jpeg, png or webp), with its caption in `<key>.txt`, or as caption
or text of `<key>.json`. What img2dataset keeps in the Parquet table beside a tar stands in the JSON too.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, score
from laion_dask.verdict import KEEP

IMAGES: Final = "images"
"""The folder beside the scores, with a table for each tar: row i for row i of the scores."""

_PICTURES: Final = frozenset({"jpg", "jpeg", "png", "webp"})
_TEXTS: Final = frozenset({"txt", "json"})
_MAX_TEXT_BYTES: Final = 1_000_000
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
    found = sorted(folder.rglob("*.tar"))
    if not found:
        raise FolderError(f"{folder} has no .tar files. Remedy: the folder with the shards in webdataset's layout")
    return found


def count(tar: Path) -> int:
    """Return the pictures of a tar, by its headers alone."""
    with _opened(tar, "r:") as members:
        return len({key for key, ending, _ in _members(members) if ending in _PICTURES})


def score_tar(out: Path, *, name: str, tar: Path, shard_rows: int, settings: params.Score) -> dict[str, Any]:
    """Score one tar as `score.score_rows` does, and write `images/<name>.parquet` with its samples."""
    table = samples(tar)
    (out / IMAGES).mkdir()
    pq.write_table(table, out / IMAGES / f"{name}.parquet", compression="zstd")
    return score.score_rows(
        out, name=name, table=table, pictures=pictures(tar), shard_rows=shard_rows, settings=settings
    )


def samples(tar: Path) -> pa.Table:
    """Return a row for each picture of a tar, in its order, with what is known of it.

    The uid is the JSON's where it has one, else md5 of caption + url; captions in no known split count as nolang.
    """
    found: dict[str, dict[str, Any]] = {}
    with _opened(tar, "r:") as members:
        for key, ending, member in _members(members):
            row = found.setdefault(key, {})
            if ending in _PICTURES:
                row.setdefault("place", len(found))
            elif (stream := members.extractfile(member)) is not None and member.size <= _MAX_TEXT_BYTES:
                row[ending] = stream.read().decode("utf-8", "replace")
    rows = [_row(tar.name, key, row) for key, row in found.items() if "place" in row]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def pictures(tar: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (key, bytes) of the first picture of each sample, in the order of the tar, reading it front to back."""
    seen: set[str] = set()
    with _opened(tar, "r|") as members:
        for key, ending, member in _members(members):
            if ending in _PICTURES and key not in seen and (stream := members.extractfile(member)) is not None:
                seen.add(key)
                yield key, stream.read()


def _row(tar: str, key: str, row: dict[str, Any]) -> dict[str, Any]:
    try:
        known = json.loads(row.get("json") or "{}")
    except ValueError:
        known = {}
    known = known if isinstance(known, dict) else {}
    caption = row.get("txt", known.get("caption") or known.get("text")) or ""
    url = str(known.get("url") or "")
    uid = str(known.get("uid") or hashlib.md5(f"{caption}{url}".encode()).hexdigest())
    split = known.get("split")
    sizes = {name: known.get(name) for name in ("original_width", "original_height")}
    return {
        "key": key,
        "uid": uid,
        "url": url,
        "caption": str(caption),
        "split": split if split in params.SPLITS else "nolang",
        "reason": KEEP,
        "tar": tar,
        "sha256": known["sha256"] if isinstance(known.get("sha256"), str) else None,
        **{name: size if isinstance(size, int) and 0 < size < 2**31 else None for name, size in sizes.items()},
    }


def _members(members: tarfile.TarFile) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield key, ending and member of the files that belong to samples: a key ends at the first dot of the name."""
    for member in members:
        folder, slash, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        if member.isfile() and stem and ending.lower() in _PICTURES | _TEXTS:
            yield f"{folder}{slash}{stem}", ending.lower(), member


@contextmanager
def _opened(tar: Path, mode: Literal["r:", "r|"]) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(tar, mode) as members:
            yield members
    except (OSError, tarfile.TarError) as error:
        raise FolderError(
            f"{tar} cannot be read: {error}. Remedy: fetch it again, or take it out of the folder"
        ) from error
