"""Store records sorted by the part that needs them, so that a later part reads its own piece and nothing else.

A file has the number of pieces, where each begins, and the records. So no process of the stage has the rows of all
shards in memory: parts of one step write a file each, and a part of the next step reads one piece of every file.
Digests are stored as their bytes, so that `laion-dask purge` finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

RANGE_BITS: Final = 32
"""An image's number has its range of uids above these bits, and its place in the range in them: the order of uids."""
_BEGIN: Final = b"slices 1"  # no other kind of file begins like this
_TOP: Final = np.uint64(32)  # bits of a digest that choose its range

ROW: Final = np.dtype(
    [
        ("sha256", ">u8", (4,)),
        ("uid", ">u8", (2,)),
        ("pdq", "u8", (4,)),
        ("hashed", "?"),
        ("shard", "i4"),
        ("place", "i4"),
    ]
)
"""A scored image: its shard, and its row there."""
COPY: Final = np.dtype([("shard", "i4"), ("place", "i4"), ("image", ">u8", (2,))])
"""A row whose bytes another one has too, and the uid that represents them."""
PLACED: Final = np.dtype([("image", "i8"), ("shard", "i4"), ("place", "i4")])
"""An image's number, and where its embedding is."""
CLUSTERED: Final = np.dtype([("cluster", "i4"), *((name, PLACED[name]) for name in PLACED.names or ())])
"""An image with its cluster."""
HASHED: Final = np.dtype([("pdq", "u8", (4,)), ("image", "i8")])
"""A hash and an image with it."""
HASH: Final = np.dtype([("pdq", "u8", (4,)), ("image", "i8"), ("several", "?")])
"""A distinct hash and its first image, whose number stands for the hash; whether several images have it."""
MEMBER: Final = np.dtype([("hash", "i8"), ("image", "i8")])
"""A hash that several images have, and one of them."""
FOUND: Final = np.dtype([("left", "i8"), ("right", "i8"), ("distance", "u2")])
"""Two hashes that a band has found, the later one on the right: twice their numbers, plus one if several images."""
PAIR: Final = np.dtype([("source", "i8"), ("target", "i8"), ("distance", "u2")])
"""Two hashes that are near each other, in the one direction or the other."""
NEIGHBOUR: Final = np.dtype([("target", "i8"), ("image", "i8"), ("distance", "u2")])
"""A hash, and an image whose hash is near it or the same."""
EDGE: Final = np.dtype([("a", "i8"), ("b", "i8"), ("distance", "u2")])
"""Two images with near hashes, the first with the lower number."""


def write(path: Path, records: np.ndarray, piece: np.ndarray, pieces: int) -> None:
    """Store records (rows,) by the number of their piece (rows,), from 0 to below `pieces`; in their order in each."""
    order = np.argsort(piece, kind="stable")
    starts = np.searchsorted(piece[order], np.arange(pieces + 1))
    with path.open("wb") as stream:
        stream.write(_BEGIN)
        stream.write(np.r_[pieces, starts].astype(np.int64).tobytes())
        stream.write(records[order].tobytes())


def read(folders: Iterable[Path], name: str, piece: int, kind: np.dtype) -> np.ndarray:
    """Return the records (rows,) of a piece from the file `name` of each folder, in the order of the folders."""
    return read_files((folder / name for folder in folders), piece, kind)


def read_files(paths: Iterable[Path], piece: int, kind: np.dtype) -> np.ndarray:
    """Return the records (rows,) of a piece from each file."""
    found = [np.zeros(0, kind)]
    for path in paths:
        with path.open("rb") as stream:
            stream.seek(len(_BEGIN))
            pieces = int.from_bytes(stream.read(8), "little")
            stream.seek(len(_BEGIN) + 8 * (1 + piece))
            first, last = np.frombuffer(stream.read(16), np.int64).tolist()
            if last > first:
                stream.seek(len(_BEGIN) + 8 * (2 + pieces) + first * kind.itemsize)
                found.append(np.frombuffer(stream.read((last - first) * kind.itemsize), kind))
    return joined(found, kind)


def joined(blocks: Sequence[np.ndarray], kind: np.dtype) -> np.ndarray:
    """Return blocks of records as one, with the byte order of digests, which numpy's own promotion would change."""
    return np.concatenate(blocks, dtype=kind)


def words(raw: np.ndarray) -> np.ndarray:
    """Return digests uint8 (rows, bytes) as big-endian uint64 (rows, bytes / 8), which sort as the digests do."""
    return np.ascontiguousarray(raw).view(">u8")


def raw(digests: np.ndarray) -> np.ndarray:
    """Return digests, big-endian uint64 (rows, words), as bytes, uint8 (rows, 8 * words)."""
    return np.ascontiguousarray(digests).view(np.uint8).reshape(len(digests), 8 * digests.shape[1])


def range_of(digests: np.ndarray, pieces: int) -> np.ndarray:
    """Return the range of digests, uint64 (rows, words): as many ranges of equal width as there are pieces."""
    return ((digests[:, 0].astype(np.uint64) >> _TOP) * np.uint64(pieces) >> _TOP).astype(np.int64)


def spread_of(hashes: np.ndarray, pieces: int) -> np.ndarray:
    """Return a piece for each perceptual hash, uint64 (rows, 4), the same for equal ones; near hashes lie apart."""
    mixed = np.bitwise_xor.reduce(hashes * _ODD, axis=1) * _ODD[0]
    return range_of(mixed[:, None], pieces)


_ODD: Final = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64
)  # of splitmix64: they spread bits over a word


def runs(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each run of equal keys, and the number of its rows; keys (rows,) or (rows, columns)."""
    rows = len(keys[0])
    new = np.zeros(rows, bool)
    new[:1] = True
    for key in keys:
        differs = key[1:] != key[:-1]
        new[1:] |= differs if differs.ndim == 1 else differs.any(axis=1)
    first = np.flatnonzero(new)
    return first, np.diff(np.r_[first, rows])


def order_of(digests: np.ndarray, then: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Return the order of digests, uint64 (rows, words), and of equal ones by `then`."""
    # Numbers of the machine's own byte order sort faster.
    return np.lexsort([one.astype(one.dtype.newbyteorder("=")) for one in (*reversed(then), *digests.T[::-1])])
