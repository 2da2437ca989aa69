"""A number of pairs in, shards out as the stages download, score and group leave their tables.

What the filter reads differs from row to row: uids, captions, digests, sizes, scores; of the other columns each shard
has one value, so that files are smaller than real ones. 3 % of the images have the bytes of another, and 1 % are near
another. Made once.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.schema import groups as group_schema
from laion_dask.schema.reasons import KEEP

SHARD_ROWS: Final = 10_000
LISTED: Final = 100_000
"""Digests on the list of known content."""
_PAIRS_OF_HEX: Final = np.array([f"{byte:02x}" for byte in range(256)], "S2")
_WORDS: Final = ("red", "fox", "jumping", "over", "the", "lazy", "dog", "a", "photo", "mountain", "2019", "IMG_2041")


def make(folder: Path, pairs: int, workers: int) -> None:
    """Write data/ and metrics/ of a project with so many pairs, unless they are there."""
    done = folder / "done.json"
    if done.exists():
        return
    shards = -(-pairs // SHARD_ROWS)
    for name in ("download", "score", "group", "catalog", "crawl"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
    (folder / "metrics").mkdir(exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        near = list(pool.map(_shard, [folder] * shards, range(shards), [pairs] * shards, chunksize=4))
    edges = pa.concat_tables(near)
    pq.write_table(edges, folder / "data" / "group" / "near.parquet", compression="zstd")
    pq.write_table(edges.slice(0, 0), folder / "data" / "group" / "semantic.parquet", compression="zstd")
    gone = schema.REMOVED.schema.empty_table()
    pq.write_table(gone, folder / "data" / "catalog" / "removed.parquet")
    rng = np.random.default_rng(1)
    listed = _hex(rng.integers(0, 256, (LISTED, 16), np.uint8)).to_pylist()
    (folder / "data" / "crawl" / "known.txt").write_text("\n".join(listed) + "\n")
    ledger = {"seen": pairs, "kept": pairs, "dropped": {"duplicate_pair": 0}}
    (folder / "metrics" / "catalog.json").write_text(json.dumps({"pairs": ledger}))
    for stage in ("score", "group"):
        (folder / "metrics" / f"{stage}.json").write_text(json.dumps({"images": ledger | {"dropped": {}}}))
    done.write_text(json.dumps({"pairs": pairs, "shards": shards}))


def _shard(folder: Path, number: int, pairs: int) -> pa.Table:
    """Write the tables of one shard; return its pairs of near images (schema EDGES)."""
    rng = np.random.default_rng([7, number])
    rows = min(SHARD_ROWS, pairs - number * SHARD_ROWS)
    uid, captions = _hex(rng.integers(0, 256, (rows, 16), np.uint8)), _captions(rng, rows)
    pictures = rng.integers(0, 256, (rows, 32), np.uint8)
    again = rng.random(rows) < 0.03
    # So many different ones that each comes about twice.
    pictures[again, :4] = (
        rng.integers(0, max(1, pairs * 3 // 200), again.sum()).astype(">u4").view(np.uint8).reshape(-1, 4)
    )
    pictures[again, 4:] = 0
    places = pa.array(rng.choice(3, rows, p=[0.5, 0.35, 0.15]))
    width = rng.integers(100, 1600, rows).astype(np.int32)
    own: dict[str, Any] = {
        "key": pa.array([f"{number:05d}{row:04d}" for row in range(rows)]),
        "uid": uid,
        "caption": captions,
        "reason": pa.array([KEEP] * rows),
        "md5": _hex(pictures[:, :16]),
        "sha256": _hex(pictures),
        "original_width": width,
        "original_height": (width * rng.uniform(0.25, 2.0, rows)).astype(np.int32),
        "bytes": rng.integers(2_000, 300_000, rows),
        "split": pa.array(["en", "multi", "nolang"]).take(places),
        "language": pa.array(["en", "de", ""]).take(places),
    }
    columns = {name: own.get(name, _same(kind, rows)) for name, kind in _types(schema.IMAGES).items()}
    images = pa.table(columns, schema=schema.IMAGES.schema)
    pq.write_table(images, folder / "data" / "download" / f"{number:05d}.parquet", compression="zstd")
    similarity = rng.normal(0.25, 0.06, rows).astype(np.float32)
    scores = pa.table(
        {
            "uid": uid,
            "slot": np.arange(rows) + number * SHARD_ROWS,
            "reason": own["reason"],
            "similarity": similarity,
            "aesthetic": rng.normal(5, 1, rows).astype(np.float32),
            "punsafe": rng.beta(0.3, 6, rows).astype(np.float32),
            "pwatermark": rng.beta(0.5, 3, rows).astype(np.float32),
            "similarity_b32": similarity,
        },
        schema=schema.scores(["b32"]).schema,
    )
    pq.write_table(scores, folder / "data" / "score" / f"{number:05d}.parquet", compression="zstd")
    return _grouped(folder / "data" / "group" / f"{number:05d}.parquet", uid, _hex(pictures[:, :16]), rng)


def _grouped(path: Path, uid: pa.Array, picture: pa.Array, rng: np.random.Generator) -> pa.Table:
    rows = len(uid)
    none = np.full(rows, np.nan, np.float32)
    groups = pa.table(
        {
            "uid": uid,
            # What pairs with the same bytes share; the stage writes the lowest of their uids.
            "image": picture,
            "cluster": rng.integers(0, 3_000, rows).astype(np.int32),
            "centroid_cosine": rng.uniform(0.3, 0.9, rows).astype(np.float32),
            "evaluation_distance": none,
            "evaluation_cosine": none,
        },
        schema=group_schema.GROUPS.schema,
    )
    pq.write_table(groups, path, compression="zstd")
    edges = rows // 100
    one, other = picture.slice(0, edges).to_pylist(), picture.slice(edges, edges).to_pylist()
    return pa.table(
        {
            "uid_a": [min(both) for both in zip(one, other, strict=True)],
            "uid_b": [max(both) for both in zip(one, other, strict=True)],
            "distance": np.full(edges, 12, np.int32),
            "cosine": np.full(edges, 0.95, np.float32),
        },
        schema=group_schema.EDGES.schema,
    )


def _types(table: schema.Table) -> dict[str, pa.DataType]:
    return {column.name: column.type for column in table.columns}


def _same(kind: pa.DataType, rows: int) -> pa.Array:
    if pa.types.is_list(kind):
        return pa.nulls(rows, kind)
    value = {"string": "x", "bool": False}.get(str(kind), 1)
    return pa.repeat(pa.scalar(value, kind), rows)


def _hex(raw: np.ndarray) -> pa.StringArray:
    rows, length = raw.shape
    data = np.ascontiguousarray(_PAIRS_OF_HEX[raw])
    offsets = np.arange(rows + 1, dtype=np.int32) * (2 * length)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))


def _captions(rng: np.random.Generator, rows: int) -> pa.Array:
    counts = rng.integers(1, 16, rows)
    words = rng.choice(np.array(_WORDS, object), counts.sum())
    ends = counts.cumsum()
    return pa.array([" ".join(words[end - count : end]) for count, end in zip(counts, ends, strict=True)])
