"""Find images with near hashes, in parts by value of a band and by range of images.

Distinct hashes meet by value (`hashes`), and again in each band by its upper bits (`band`). Pairs that several bands
have found meet by their later hash (`meet`). Then each of its two hashes is replaced by the images with it: the source
(`expand`), and the target (`link`). Edges meet by the later image (`near`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask.group import slices, stored
from laion_dask.images import pdq_index

_CHUNK: Final = 1 << 18  # candidates in memory at once
_FLUSHED: Final = 1 << 18  # records that are stored at once
_COSINES: Final = 1 << 14  # edges with their vectors: with 768 features, some 200 MB


def hashes(out: Path, *, numbered: Sequence[Path], piece: int, pieces: int, bits: int) -> dict[str, Any]:
    """Find the distinct hashes of one piece and the images with each; store them by band, and by its upper `bits`."""
    rows = slices.read(numbered, "hashes", piece, slices.HASHED)
    rows = rows[slices.order_of(rows["pdq"], [rows["image"]])]
    first, sizes = slices.runs(rows["pdq"])
    # A hash of one image needs no list of its images.
    several = np.repeat(sizes > 1, sizes)
    members = np.zeros(int(several.sum()), slices.MEMBER)
    members["hash"] = np.repeat(rows["image"][first], sizes)[several]
    members["image"] = rows["image"][several]
    slices.write(out / "members", members, members["hash"] >> slices.RANGE_BITS, pieces)
    distinct = np.zeros(len(first), slices.HASH)
    distinct["pdq"], distinct["image"], distinct["several"] = rows["pdq"][first], rows["image"][first], sizes > 1
    distinct = distinct[np.argsort(distinct["image"])]
    values = np.ascontiguousarray(distinct["pdq"]).view(np.uint16)
    for number in range(pdq_index.BANDS):
        upper = values[:, number].astype(np.int64) >> (pdq_index.BAND_BITS - bits)
        slices.write(out / _band_file(number), distinct, upper, 1 << bits)
    return {"hashes": len(distinct)}


def _band_file(number: int) -> str:
    return f"band-{number:02d}"


def band(
    out: Path,
    *,
    hashed: Sequence[Path],
    number: int,
    piece: int,
    bits: int,
    total: int,
    pieces: int,
    radius: int,
    neighbours: int,
) -> dict[str, Any]:
    """Find the pairs of distinct hashes whose later one has the value `piece` in the upper `bits` of a band."""

    def load(other: int) -> pdq_index.Piece:
        rows = slices.read(hashed, _band_file(number), other, slices.HASH)
        rows = rows[np.argsort(rows["image"])]
        numbers = (rows["image"] << 1) + rows["several"]
        return pdq_index.Piece(np.ascontiguousarray(rows["pdq"]).view(np.uint8), numbers)

    mine = load(piece)
    limits = pdq_index.Limits(radius, neighbours, pdq_index.crowd(total))
    pairs = _Runs(out, "pairs", pieces)
    crowded = 0
    for found in pdq_index.within_piece(mine, load, piece, bits, number, limits):
        block = np.zeros(len(found.left), slices.FOUND)
        block["left"], block["right"], block["distance"] = found.left, found.right, found.distance
        pairs.add(block, block["right"] >> 1)
        crowded += found.crowded
    pairs.close()
    # Every band has all hashes: one of them counts.
    return {"crowded_buckets": crowded, **({"hashes": len(mine.numbers)} if number == 0 else {})}


class _Runs:
    """Records that are stored as they come, some 262,144 in a file, to limit memory."""

    def __init__(self, out: Path, name: str, pieces: int) -> None:
        self._out, self._name, self._pieces = out, name, pieces
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._files = 0

    def add(self, records: np.ndarray, images: np.ndarray) -> None:
        """Add records for the parts of the ranges that these images are in."""
        self._waiting.append((records, images >> slices.RANGE_BITS))
        if sum(len(one) for one, _ in self._waiting) >= _FLUSHED:
            self.close()

    def close(self) -> None:
        """Store what was added since the last file."""
        if self._waiting:
            records, piece = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
            slices.write(self._out / f"{self._name}-{self._files:06d}", records, piece, self._pieces)
            self._files += 1
            self._waiting = []


def _runs(folders: Sequence[Path], name: str) -> Iterator[Path]:
    return (path for folder in folders for path in sorted(folder.glob(f"{name}-*")))


def meet(out: Path, *, bands: Sequence[Path], piece: int, pieces: int) -> dict[str, Any]:
    """Make pairs unique whose later hash is in one range; store those as neighbours whose source has one image."""
    found = slices.read_files(_runs(bands, "pairs"), piece, slices.FOUND)
    found = found[np.lexsort((found["left"], found["right"]))]
    found = found[slices.runs(found["right"], found["left"])[0]]
    several = (found["left"] & 1).astype(bool)
    left, right = found["left"] >> 1, found["right"] >> 1
    single = np.zeros(int((~several).sum()), slices.NEIGHBOUR)
    single["target"], single["image"], single["distance"] = right[~several], left[~several], found["distance"][~several]
    neighbours = _Runs(out, "neighbours", pieces)
    neighbours.add(single, single["target"])
    neighbours.close()
    # Of several images with the earlier hash some can be later than those with the other one.
    pairs = np.zeros(2 * int(several.sum()), slices.PAIR)
    pairs["source"] = np.concatenate([left[several], right[several]])
    pairs["target"] = np.concatenate([right[several], left[several]])
    pairs["distance"] = np.tile(found["distance"][several], 2)
    slices.write(out / "pairs", pairs, pairs["source"] >> slices.RANGE_BITS, pieces)
    return {}


class _Members:
    """The images of each hash whose number is in one range: its own, and others where several images have it."""

    def __init__(self, hashed: Sequence[Path], piece: int) -> None:
        rows = slices.read(hashed, "members", piece, slices.MEMBER)
        rows = rows[np.lexsort((rows["image"], rows["hash"]))]
        self._images = rows["image"]
        self._first, self._sizes = slices.runs(rows["hash"])
        self.shared = rows["hash"][self._first]

    def sizes(self, of: np.ndarray) -> np.ndarray:
        """Return how many images each hash has, int64 (hashes,)."""
        where, known = self._where(of)
        return np.where(known, np.append(self._sizes, 1)[where], 1)

    def take(self, of: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Return the image with a rank among those of each hash, int64 (hashes,)."""
        where, known = self._where(of)
        place = np.where(known, np.append(self._first, 0)[where] + rank, len(self._images))
        return np.where(known, np.append(self._images, 0)[place], of)

    def _where(self, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        where = np.searchsorted(self.shared, of)
        return where, np.append(self.shared, -1)[where] == of


def expand(
    out: Path, *, met: Sequence[Path], hashed: Sequence[Path], piece: int, pieces: int, neighbours: int
) -> dict[str, Any]:
    """Replace the source of each pair by its images, for sources in one range."""
    members = _Members(hashed, piece)
    # Images with the same hash are near each other, too.
    same = np.zeros(len(members.shared), slices.PAIR)
    same["source"] = same["target"] = members.shared
    found = _Runs(out, "neighbours", pieces)
    for pairs in chain([same], (slices.read([folder], "pairs", piece, slices.PAIR) for folder in met)):
        # Later images of a source have a higher number at the same distance: none of them is among the nearest.
        widths = np.minimum(members.sizes(pairs["source"]), neighbours)
        each = np.repeat(np.arange(len(pairs)), widths)
        block = np.zeros(len(each), slices.NEIGHBOUR)
        block["target"], block["distance"] = pairs["target"][each], pairs["distance"][each]
        block["image"] = members.take(pairs["source"][each], _ranks(widths))
        found.add(block, block["target"])
    found.close()
    return {}


def link(
    out: Path, *, expanded: Sequence[Path], hashed: Sequence[Path], piece: int, pieces: int, neighbours: int
) -> dict[str, Any]:
    """Replace the target of each pair by its images, for targets in one range, and keep the nearest of each image.

    `expanded` are the folders of `meet` and of `expand`.
    """
    rows = slices.read_files(_runs(expanded, "neighbours"), piece, slices.NEIGHBOUR)
    rows = rows[np.lexsort((rows["image"], rows["distance"], rows["target"]))]
    edges = _Runs(out, "edges", pieces)
    for block in _linked(rows, _Members(hashed, piece), neighbours):
        edges.add(block, block["b"])
    edges.close()
    return {}


def _linked(rows: np.ndarray, members: _Members, neighbours: int) -> Iterator[np.ndarray]:
    """Yield the edges to the nearest images of each image with a target hash; `rows` by target, distance and image."""
    first, candidates = slices.runs(rows["target"])
    sizes = members.sizes(rows["target"][first])
    group = np.repeat(np.arange(len(first)), sizes)
    images = members.take(rows["target"][first][group], _ranks(sizes))
    widths = candidates[group]
    ends = np.cumsum(widths)
    low = 0
    while low < len(images):
        done = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        chunk = slice(low, high)
        row = np.repeat(first[group[chunk]], widths[chunk]) + _ranks(widths[chunk])
        edges = np.zeros(len(row), slices.EDGE)
        edges["a"], edges["b"] = rows["image"][row], np.repeat(images[chunk], widths[chunk])
        edges["distance"] = rows["distance"][row]
        edges = edges[edges["a"] < edges["b"]]
        yield edges[_ranks(slices.runs(edges["b"])[1]) < neighbours]
        low = high


def _ranks(sizes: np.ndarray) -> np.ndarray:
    """Return 0, 1, ... for each of so many rows."""
    return np.asarray(np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))


def near(
    out: Path, *, linked: Sequence[Path], numbered: Sequence[Path], parts: Sequence[Path], piece: int, neighbours: int
) -> dict[str, Any]:
    """Write the edges whose later image is in one range, with the cosine of each: `near.parquet`, schema EDGES."""
    edges = slices.read_files(_runs(linked, "edges"), piece, slices.EDGE)
    edges = edges[np.lexsort((edges["a"], edges["distance"], edges["b"]))]
    images = stored.Images(numbered, parts)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        for low in range(0, len(edges), _COSINES):
            block = edges[low : low + _COSINES]
            cosines = np.einsum("ij,ij->i", images.vectors(block["a"]), images.vectors(block["b"]))
            yield block["a"], block["b"], block["distance"].astype(np.int32), cosines

    stored.write_edges(out / "near.parquet", images, blocks())
    return {"near": len(edges), "full_near": stored.full(edges["b"], neighbours)}
