"""Shards with hashes and embeddings in, images that are near each other out: the steps of the stage group.

All pairs with the same bytes are one image; its id is the lowest of their uids, and images are numbered in the order of
these. Steps pass arrays in the folders of their parts; `images.npz` has the shard and row of each image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

from laion_dask.group import clusters, evaluation_sets
from laion_dask.images import pdq_index
from laion_dask.schema import groups
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import duckdb_connection, embeddings

ROWS: Final = "rows.parquet"
VECTORS: Final = "vectors.npy"
_CHUNK: Final = 1 << 18  # edges in memory at once
_COSINES: Final = 1 << 14  # edges with their vectors: with 768 features, some 200 MB
_ROW_GROUP: Final = 100_000

# Of rows with equal bytes, the one with the lowest uid represents the image.
_IMAGES: Final = """
select min(uid) as uid, arg_min(shard, uid) as shard, arg_min(place, uid) as place, arg_min(pdq, uid) as pdq
from (
    select uid, sha256, pdq, list_position($paths, filename) - 1 as shard, file_row_number as place
    from read_parquet($files, filename = true, file_row_number = true, hive_partitioning = false)
) group by sha256 order by uid
"""
_COPIES: Final = """
select uid, min(uid) over (partition by sha256) as image from read_parquet($files, hive_partitioning = false)
qualify uid <> image order by uid
"""


def read(out: Path, *, images: Path, scores: Path, store: Path, model: str, min_quality: int) -> dict[str, Any]:
    """Extract the inputs of later steps from one shard: a row for each scored image, and its stored embeddings."""
    table = pq.read_table(images, columns=["uid", "sha256", "pdq", "pdq_quality"])
    scored = pq.read_table(scores, columns=["uid", "slot", "reason"])
    scored = scored.filter(pc.equal(scored["reason"], KEEP))
    table = table.take(pc.index_in(scored["uid"], value_set=table["uid"].combine_chunks()))
    clear = pc.fill_null(pc.greater_equal(table["pdq_quality"], min_quality), False)
    hashes = [
        bytes.fromhex(text) if text and good else None
        for text, good in zip(table["pdq"].to_pylist(), clear.to_pylist(), strict=True)
    ]
    rows = pa.table({"uid": table["uid"], "sha256": table["sha256"], "pdq": pa.array(hashes, pa.binary())})
    pq.write_table(rows, out / ROWS, compression="zstd")
    array = embeddings.array(zarr.open_group(store, mode="r"), f"{model}/image")
    slots = scored["slot"].to_numpy()
    low, high = (int(slots.min()), int(slots.max()) + 1) if len(slots) else (0, 0)
    np.save(out / VECTORS, np.asarray(array[low:high])[slots - low])
    return {"images": len(slots)}


def unite(out: Path, *, parts: Sequence[Path]) -> dict[str, Any]:
    """Assign numbers to the images of all shards by uid, and to their distinct hashes by the first image of each."""
    tables = [str(part / ROWS) for part in parts]
    files = duckdb_connection.names(tables)
    with duckdb_connection.connect() as connection:
        values = {"files": files, "paths": tables}
        images = connection.sql(_IMAGES, params=values).to_arrow_table() if files else _NO_IMAGES
        copies = connection.sql(_COPIES, params={"files": files}).to_arrow_table() if files else _NO_COPIES
    hashed = np.flatnonzero(pc.is_valid(images["pdq"]).to_numpy())
    raw = b"".join(images["pdq"].drop_null().to_pylist())
    hashes = np.frombuffer(raw, np.uint8).reshape(-1, 32)
    distinct, hash_of = _distinct(hashes)
    order = np.argsort(hash_of, kind="stable")
    np.save(out / "hashes.npy", distinct)
    np.savez(
        out / "images.npz",
        shard=images["shard"].to_numpy().astype(np.int32),
        place=images["place"].to_numpy().astype(np.int32),
        members=hashed[order],
        starts=np.searchsorted(hash_of[order], np.arange(len(distinct) + 1)),
    )
    pq.write_table(images.select(["uid"]), out / "images.parquet", compression="zstd")
    pq.write_table(copies, out / "copies.parquet", compression="zstd")
    return {"distinct_images": images.num_rows, "hashes": len(distinct), "vague": images.num_rows - len(hashed)}


_NO_IMAGES: Final = pa.table(
    {
        name: pa.array([], kind)
        for name, kind in {"uid": pa.string(), "shard": pa.int32(), "place": pa.int32(), "pdq": pa.binary()}.items()
    }
)
_NO_COPIES: Final = pa.table({name: pa.array([], pa.string()) for name in ("uid", "image")})


def _distinct(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows in the order of their first occurrence, and for each row the index of its value."""
    _, first, inverse = np.unique(hashes.view("V32")[:, 0], return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return hashes[first[order]], rank[inverse]


def band(out: Path, *, united: Path, number: int, radius: int, neighbours: int) -> dict[str, Any]:
    """Find the pairs of distinct hashes in one band of the index."""
    pairs = pdq_index.within(np.load(united / "hashes.npy"), radius, number, neighbours)
    np.savez(out / "pairs.npz", left=pairs.left, right=pairs.right, distance=pairs.distance)
    return {"crowded_buckets": pairs.crowded}


def near(out: Path, *, united: Path, bands: Sequence[Path], parts: Sequence[Path], neighbours: int) -> dict[str, Any]:
    """Join the pairs of all bands, from hashes to images, with the cosine of each: `near.parquet`, schema EDGES."""
    banded = [np.load(folder / "pairs.npz") for folder in bands]
    left, right, bits = (np.concatenate([arrays[name] for arrays in banded]) for name in ("left", "right", "distance"))
    # Pairs are encoded as one number, which sorts faster than two.
    hashes = int(right.max(initial=0)) + 1
    pairs, first = np.unique(left * hashes + right, return_index=True)
    pairs = np.stack([pairs // hashes, pairs % hashes], axis=1)
    a, b, distance = _between_images(united, pairs, bits[first], neighbours)
    source = ImageEmbeddings(united, parts)
    cosines = [np.zeros(0, np.float32)]
    for low in range(0, len(a), _COSINES):
        rows = slice(low, low + _COSINES)
        cosines.append(np.einsum("ij,ij->i", source.vectors(a[rows]), source.vectors(b[rows])))
    _write_edges(out / "near.parquet", source.uids, [(a, b, distance, np.concatenate(cosines))])
    return {"near": len(a), "full_near": _full(b, neighbours)}


def _between_images(
    united: Path, pairs: np.ndarray, distance: np.ndarray, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expand pairs of hashes to pairs of images: a < b, and for each b its nearest `neighbours`."""
    with np.load(united / "images.npz") as arrays:
        members, starts = arrays["members"], arrays["starts"]
    sizes = np.diff(starts)
    shared = np.flatnonzero(sizes > 1)
    # Both directions, since either image can be the earlier one; and images with the same hash.
    source = np.concatenate([pairs[:, 0], pairs[:, 1], shared])
    target = np.concatenate([pairs[:, 1], pairs[:, 0], shared])
    bits = np.concatenate([distance, distance, np.zeros(len(shared), distance.dtype)]).astype(np.int32)
    order = np.argsort(target, kind="stable")
    source, target, bits = source[order], target[order], bits[order]
    limits = np.minimum(sizes[source], neighbours)
    ends = np.cumsum(limits * sizes[target])
    chunks = []
    low = 0
    while low < len(target):
        done = ends[low - 1] if low else 0
        high = int(np.searchsorted(ends, done + _CHUNK, side="right"))
        # A chunk ends with a whole hash, since all neighbours of an image are ranked together.
        high = int(np.searchsorted(target, target[min(max(high, low + 1), len(target)) - 1], side="right"))
        chunk = slice(low, high)
        counts = limits[chunk] * sizes[target[chunk]]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        width = np.repeat(limits[chunk], counts)
        a = members[np.repeat(starts[source[chunk]], counts) + within % width]
        b = members[np.repeat(starts[target[chunk]], counts) + within // width]
        apart = np.repeat(bits[chunk], counts)
        earlier = a < b
        a, b, apart = a[earlier], b[earlier], apart[earlier]
        chosen = clusters.nearest(a, b, apart, neighbours)
        chunks.append((a[chosen], b[chosen], apart[chosen]))
        low = high
    if not chunks:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32)
    a, b, apart = (np.concatenate(column) for column in zip(*chunks, strict=True))
    order = np.lexsort((a, apart, b))
    return a[order], b[order], apart[order]


class _StoredEmbeddings:
    """A .npy that is memory-mapped only while rows are read.

    Otherwise every shard would be an open file, and every page read would count as memory of the worker.
    """

    def __init__(self, path: Path) -> None:
        array = np.load(path, mmap_mode="r")
        self.features = int(array.shape[1])
        order = "C" if array.flags.c_contiguous else "F"
        self._how = {"dtype": array.dtype, "shape": array.shape, "offset": array.offset, "order": order}
        self._path = path

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of some rows."""
        selected: np.ndarray = np.asarray(np.memmap(self._path, mode="r", **self._how)[rows])
        return selected


class ImageEmbeddings:
    """The images by number: their uids, and their embeddings from the shards' memory-mapped arrays."""

    def __init__(self, united: Path, parts: Sequence[Path]) -> None:
        with np.load(united / "images.npz") as arrays:
            self._shard, self._place = arrays["shard"], arrays["place"]
        self._arrays = [_StoredEmbeddings(part / VECTORS) for part in parts]
        self.uids = pq.read_table(united / "images.parquet")["uid"].combine_chunks()

    def __len__(self) -> int:
        return len(self._shard)

    def vectors(self, images: np.ndarray) -> np.ndarray:
        """Return float32 (images, features), unit length."""
        shards, places = self._shard[images], self._place[images]
        stored = np.empty((len(images), self._arrays[0].features if self._arrays else 0), np.float16)
        order = np.lexsort((places, shards))
        cuts = np.searchsorted(shards[order], np.arange(len(self._arrays) + 1))
        for shard, (low, high) in enumerate(pairwise(cuts)):
            if high > low:
                stored[order[low:high]] = self._arrays[shard].take(places[order[low:high]])
        return clusters.unit(stored)


def centres(out: Path, *, united: Path, parts: Sequence[Path], asked: int | None, seed: int) -> dict[str, Any]:
    """Learn the centres of the clusters from a sample of the images."""
    source = ImageEmbeddings(united, parts)
    number = clusters.how_many(len(source), asked) if len(source) else 0
    sample = source.vectors(clusters.sample(len(source), number, seed))
    np.save(out / "centres.npy", clusters.centres(sample, number, seed) if number else sample)
    return {"clusters": number}


def assign(out: Path, *, part: Path, means: Path) -> dict[str, Any]:
    """Assign each image of a shard to the cluster with the nearest centre."""
    cluster, cosine = clusters.assign(clusters.unit(np.load(part / VECTORS)), np.load(means / "centres.npy"))
    np.savez(out / "clusters.npz", cluster=cluster, cosine=cosine)
    return {}


def order(out: Path, *, united: Path, assigned: Sequence[Path], means: Path) -> dict[str, Any]:
    """List the images of each cluster, by number."""
    with np.load(united / "images.npz") as arrays:
        shards, places = arrays["shard"], arrays["place"]
    cluster = np.empty(len(shards), np.int32)
    for shard, folder in enumerate(assigned):
        mine = shards == shard
        with np.load(folder / "clusters.npz") as arrays:
            cluster[mine] = arrays["cluster"][places[mine]]
    members = np.argsort(cluster, kind="stable")
    numbers = np.arange(len(np.load(means / "centres.npy")) + 1)
    np.savez(out / "order.npz", members=members, starts=np.searchsorted(cluster[members], numbers))
    return {}


def semantic(
    out: Path,
    *,
    united: Path,
    parts: Sequence[Path],
    ordered: Path,
    first: int,
    last: int,
    floor: float,
    neighbours: int,
) -> dict[str, Any]:
    """Compare the images of each cluster from `first` to below `last` with each other: `semantic.parquet`."""
    source = ImageEmbeddings(united, parts)
    with np.load(ordered / "order.npz") as arrays:
        members, starts = arrays["members"], arrays["starts"]
    edges_of, crowded = [], 0
    for cluster in range(first, last):
        images = members[starts[cluster] : starts[cluster + 1]]
        crowded += len(images) > clusters.CROWD
        a, b, cosine = clusters.within(source.vectors(images), floor, neighbours)
        edges_of.append((images[a], images[b], None, cosine))
    _write_edges(out / "semantic.parquet", source.uids, edges_of)
    edges = sum(len(a) for a, *_ in edges_of)
    full = sum(_full(b, neighbours) for _, b, *_ in edges_of)
    return {"semantic": edges, "full_semantic": full, "crowded_clusters": int(crowded)}


def _full(b: np.ndarray, neighbours: int) -> int:
    """Count the images with the maximum of recorded neighbours, which may have more."""
    return int((np.unique(b, return_counts=True)[1] >= neighbours).sum())


def _write_edges(path: Path, uids: pa.StringArray, found: list[tuple[Any, Any, Any, Any]]) -> None:
    table = groups.EDGES
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for a, b, distance, cosine in found:
            if len(a) == 0:
                continue
            bits = pa.nulls(len(a), pa.int32()) if distance is None else pa.array(distance, pa.int32())
            columns = [uids.take(pa.array(a)), uids.take(pa.array(b)), bits, pa.array(cosine, pa.float32())]
            writer.write_table(table.check(pa.table(columns, names=table.names)), row_group_size=_ROW_GROUP)


def describe(
    out: Path, *, name: str, part: Path, assigned: Path, united: Path, evaluation_files: Sequence[Path], radius: int
) -> dict[str, Any]:
    """Write `<name>.parquet`, schema GROUPS: a row for each scored image of a shard; counts them."""
    rows = pq.read_table(part / ROWS)
    copies = pq.read_table(united / "copies.parquet")
    image = copies["image"].take(pc.index_in(rows["uid"], value_set=copies["uid"].combine_chunks()))
    with np.load(assigned / "clusters.npz") as arrays:
        cluster, cosine = arrays["cluster"], arrays["cosine"]
    sets = evaluation_sets.read(evaluation_files)
    hashed = pc.is_valid(rows["pdq"]).to_numpy()
    distance = np.full(rows.num_rows, np.nan, np.float32)
    hashes = np.frombuffer(b"".join(rows["pdq"].drop_null().to_pylist()), np.uint8).reshape(-1, 32)
    distance[hashed] = evaluation_sets.distances(hashes, sets, radius)
    table = groups.GROUPS
    columns = {
        "uid": rows["uid"],
        "image": pc.coalesce(image, rows["uid"]),
        "cluster": pa.array(cluster, pa.int32()),
        "centroid_cosine": pa.array(cosine, pa.float32()),
        "evaluation_distance": pa.array(distance),
        "evaluation_cosine": pa.array(evaluation_sets.cosines(clusters.unit(np.load(part / VECTORS)), sets)),
    }
    written = table.check(pa.table([columns[name] for name in table.names], names=table.names))
    pq.write_table(written, out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    ledger.keep(rows.num_rows)
    return {"images": ledger.as_dict()}
