"""Number the distinct images of all shards in the order of their uids, by range of sha256 and of uid.

All pairs with the same bytes are one image; the lowest of their uids represents it. Rows meet by sha256 (`unite`), then
images meet by uid (`number`). A number has the range of uids and the place in it (`slices.RANGE_BITS`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.group import slices
from laion_dask.group.part import ROWS
from laion_dask.storage.uids import to_bytes

UIDS: Final = "uids.npy"
PLACES: Final = "places.npy"
_SHA256_BYTES: Final = 32


def spread(out: Path, *, parts: Sequence[Path], first: int, pieces: int) -> dict[str, Any]:
    """Store the rows of some consecutive shards, from shard `first` on, by range of sha256."""
    found = [np.zeros(0, slices.ROW)]
    for shard, part in enumerate(parts, first):
        table = pq.read_table(part / ROWS)
        rows = np.zeros(table.num_rows, slices.ROW)
        rows["sha256"] = slices.words(to_bytes(table["sha256"], _SHA256_BYTES))
        rows["uid"] = slices.words(to_bytes(table["uid"]))
        rows["hashed"] = pc.is_valid(table["pdq"]).to_numpy()
        raw = b"".join(table["pdq"].drop_null().to_pylist())
        rows["pdq"][rows["hashed"]] = np.frombuffer(raw, np.uint64).reshape(-1, 4)
        rows["shard"], rows["place"] = shard, np.arange(len(rows))
        found.append(rows)
    rows = slices.joined(found, slices.ROW)
    slices.write(out / "rows", rows, slices.range_of(rows["sha256"], pieces), pieces)
    return {}


def unite(out: Path, *, spread: Sequence[Path], piece: int, pieces: int, groups: Sequence[int]) -> dict[str, Any]:
    """Find the images of one range of sha256, and the rows that are copies of an image.

    `groups` are the first shards of the groups that `spread` had. Images are stored by range of uid, copies by group.
    """
    rows = slices.read(spread, "rows", piece, slices.ROW)
    rows = rows[slices.order_of(rows["sha256"], [rows["uid"][:, 0], rows["uid"][:, 1]])]
    first, sizes = slices.runs(rows["sha256"])
    slices.write(out / "images", rows[first], slices.range_of(rows["uid"][first], pieces), pieces)
    other = np.ones(len(rows), bool)
    other[first] = False
    copies = np.zeros(int(other.sum()), slices.COPY)
    copies["shard"], copies["place"] = rows["shard"][other], rows["place"][other]
    copies["image"] = rows["uid"][np.repeat(first, sizes)][other]
    slices.write(out / "copies", copies, _group_of(copies["shard"], groups), len(groups))
    return {}


def number(out: Path, *, united: Sequence[Path], piece: int, pieces: int, groups: Sequence[int]) -> dict[str, Any]:
    """Give numbers to the images of a range of uids; store their places by group of shards, their hashes by value."""
    rows = slices.read(united, "images", piece, slices.ROW)
    rows = rows[slices.order_of(rows["uid"])]
    numbers = (piece << slices.RANGE_BITS) + np.arange(len(rows))
    np.save(out / UIDS, slices.raw(rows["uid"]))
    placed = np.zeros(len(rows), slices.PLACED)
    placed["image"], placed["shard"], placed["place"] = numbers, rows["shard"], rows["place"]
    np.save(out / PLACES, placed)
    slices.write(out / "placed", placed, _group_of(placed["shard"], groups), len(groups))
    hashed = rows["hashed"]
    hashes = np.zeros(int(hashed.sum()), slices.HASHED)
    hashes["pdq"], hashes["image"] = rows["pdq"][hashed], numbers[hashed]
    slices.write(out / "hashes", hashes, slices.spread_of(hashes["pdq"], pieces), pieces)
    return {"distinct_images": len(rows), "vague": len(rows) - len(hashes)}


def _group_of(shards: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    return np.asarray(np.searchsorted(np.asarray(groups, np.int64), shards, side="right") - 1)
