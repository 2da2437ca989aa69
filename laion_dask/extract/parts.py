"""List the parts of an extraction, one for each WAT, and fail if none of them can be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.extract import language, readings
from laion_dask.extract.wat.blocks import FileVersion
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import StageError
from laion_dask.storage import objects
from laion_dask.storage.files import digest, sha256
from laion_dask.storage.objects import ListedObject


def of_wats(
    table: pa.Table,
    rules: params.Extract,
    identify: Callable[[str], object],
    listed: Mapping[str, ListedObject],
) -> list[Part]:
    """Return a part for each WAT of a list (`schema.WATS`); `identify` returns a location's part of the key.

    Objects that were `listed` with size and ETag are known by these, and must still have them when they are read.
    """
    rows = table.to_pylist()
    # The model's file may change without its name.
    model = language_model(rules)
    with ThreadPoolExecutor() as pool:
        identities = list(pool.map(identify, (row["location"] for row in rows)))
    found = []
    for row, identity in zip(rows, identities, strict=True):
        args = {
            "name": f"{row['order']:06d}",
            "location": row["location"],
            "crawl": row["crawl"],
            "wat": row["wat"],
            "order": row["order"],
            "settings": rules,
        }
        one = listed.get(row["location"])
        if one is not None:
            args["listed"] = FileVersion(one.bytes, one.etag)
        known = identity if one is None else list(one)
        key = digest(known, row["crawl"], row["wat"], row["order"], rules, model)
        found.append(Part(args["name"], key, args, weight=max(row["bytes"], 0)))
    return found


def listed_objects(crawl: Path) -> dict[str, ListedObject]:
    """Return the WATs in buckets as the stage crawl listed them, by location; empty where it listed none."""
    path = crawl / objects.FILE
    if not path.exists():
        return {}
    rows = schema.OBJECTS.check(pq.ParquetFile(path).read()).to_pylist()
    return {row["location"]: ListedObject(**row) for row in rows}


def by_bytes(location: str) -> str:
    """Identify a local WAT by its bytes, a remote or missing one by its address."""
    local = Path(location)
    return digest(local) if local.is_file() else location


def by_status(location: str) -> object:
    """Identify a local WAT by path, size and time: hashing its bytes would double the time to the first pair."""
    local = Path(location)
    if not local.is_file():
        return location
    status = local.stat()
    return [str(local.resolve()), status.st_size, status.st_mtime_ns]


def language_model(rules: params.Extract) -> dict[str, str]:
    """Return the name and sha256 of the language model, for the manifest."""
    file = language.language_model(rules.language_model)
    return {"file": file.name, "sha256": sha256(file)}


def require_readable(done: Sequence[Done]) -> None:
    """Raise `StageError` if none of the WATs can be read."""
    unreadable = readings.unreadable(done)
    if unreadable and len(unreadable) == len(done):
        first = unreadable[0]
        raise StageError(
            f"none of the {len(done)} WATs can be read; {first.part.args['location']}: {first.counts['error']}"
        )
