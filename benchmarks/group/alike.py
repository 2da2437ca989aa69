"""A number of images in, made-up hashes and embeddings with planted duplicates out, as download and score leave them.

Embeddings lie around topics, as those of a crawl do. Of a hundred images about five are near-duplicates (up to 31 bits
of the hash turned, and the embedding moved a little), five have a twin in meaning with another hash, one has a hash
near that of an unrelated picture, one is flat (quality 0), and one belongs to a single logo that is found in a
thousand forms. The same number and seed give the same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.group import clusters
from laion_dask.storage import embeddings

FEATURES: Final = 512
SHARD_ROWS: Final = 10_000
KINDS: Final = ("own", "near", "semantic", "decoy", "flat", "logo")
_SHARES: Final = (0.87, 0.05, 0.05, 0.01, 0.01, 0.01)
_TOPIC_IMAGES: Final = 200  # images around one topic
_MODEL: Final = "bench"


def make(bench: Path, images: int, seed: int = 1) -> Path:
    """Make the tables and arrays once, of a model named `bench`, and return their folder."""
    folder = bench / f"alike-{images}-{seed}"
    if (folder / "planted.npz").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(KINDS), images, p=_SHARES)
    kind[0] = KINDS.index("own")
    # Originals are images of their own, so that a plant is near to one picture and its other copies.
    own = np.flatnonzero(kind == KINDS.index("own"))
    of = own[rng.integers(0, len(own), images)]
    bits = _bits(rng, kind, of)
    vectors = _vectors(rng, kind, of)
    digits = rng.bytes(16 * images).hex()
    uids = [digits[place : place + 32] for place in range(0, len(digits), 32)]
    quality = np.where(kind == KINDS.index("flat"), 0, 100)
    _write(folder, {"uid": uids, "bits": bits, "quality": quality}, vectors)
    np.savez(folder / "planted.npz", kind=kind, of=of)
    (folder / "uids.txt").write_text("\n".join(uids))
    return folder


def _bits(rng: np.random.Generator, kind: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return hashes, uint8 (images, 32)."""
    images = len(kind)
    bits = np.unpackbits(rng.integers(0, 256, (images, 32), dtype=np.uint8), axis=1)
    copied = np.isin(kind, [KINDS.index(name) for name in ("near", "decoy")])
    bits[copied] = bits[of[copied]]
    logo = kind == KINDS.index("logo")
    bits[logo] = bits[0]
    for rows, most in ((np.flatnonzero(copied), 31), (np.flatnonzero(logo), 12)):
        turned = rng.integers(0, most + 1, len(rows))
        places = np.argsort(rng.random((len(rows), 256), np.float32), axis=1)
        flips = np.arange(256)[None] < turned[:, None]
        np.put_along_axis(flips, places, flips.copy(), axis=1)
        bits[rows] ^= flips
    bits[kind == KINDS.index("flat")] = 0
    return np.packbits(bits, axis=1)


def _vectors(rng: np.random.Generator, kind: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return embeddings, float16 (images, features), unit length."""
    images = len(kind)
    topics = clusters.unit(rng.standard_normal((max(1, images // _TOPIC_IMAGES), FEATURES), np.float32))
    vectors = np.empty((images, FEATURES), np.float16)
    for low in range(0, images, SHARD_ROWS):
        rows = min(SHARD_ROWS, images - low)
        noise = clusters.unit(rng.standard_normal((rows, FEATURES), np.float32))
        vectors[low : low + rows] = clusters.unit(topics[rng.integers(0, len(topics), rows)] + 0.75 * noise)
    for name, moved in (("near", 0.15), ("semantic", 0.2), ("logo", 0.1)):
        rows = np.flatnonzero(kind == KINDS.index(name))
        source = vectors[of[rows]] if name != "logo" else vectors[np.zeros(len(rows), int)]
        noise = clusters.unit(rng.standard_normal((len(rows), FEATURES), np.float32))
        vectors[rows] = clusters.unit(source.astype(np.float32) + moved * noise)
    return vectors


def _write(folder: Path, rows: dict[str, Any], vectors: np.ndarray) -> None:
    images = len(vectors)
    store = folder / "data" / "score" / embeddings.STORE
    for name in ("download", "score"):
        (folder / "data" / name).mkdir(parents=True)
    shards = -(-images // SHARD_ROWS)
    about = {_MODEL: {"model": _MODEL}}
    group = embeddings.create(store, about, shards=shards, shard_rows=SHARD_ROWS, dimensions={_MODEL: FEATURES})
    array = embeddings.array(group, f"{_MODEL}/image")
    for number in range(shards):
        low, high = number * SHARD_ROWS, min(images, (number + 1) * SHARD_ROWS)
        array[low:high] = vectors[low:high]
        uid = pa.array(rows["uid"][low:high])
        table = {
            "uid": uid,
            "sha256": pa.array([f"{row:064x}" for row in range(low, high)]),
            "pdq": pa.array([row.tobytes().hex() for row in rows["bits"][low:high]]),
            "pdq_quality": pa.array(rows["quality"][low:high], pa.int32()),
        }
        scores = {"uid": uid, "slot": pa.array(np.arange(low, high)), "reason": pa.array(["keep"] * (high - low))}
        for name, columns in (("download", table), ("score", scores)):
            pq.write_table(pa.table(columns), folder / "data" / name / f"{number:05d}.parquet")
