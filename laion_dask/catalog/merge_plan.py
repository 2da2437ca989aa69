"""Plan which files of pairs are merged before buckets are read: groups of WATs of one crawl, and a part for each.

A group depends only on the files in it and on those before it in its crawl. So a further crawl leaves the groups of
earlier ones, and a further WAT at the end of a crawl changes its last group only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow.parquet as pq

from laion_dask.catalog import merged_pairs
from laion_dask.catalog.pair_manifest import Listed
from laion_dask.runner import part_files
from laion_dask.runner.part import Done, Part
from laion_dask.storage.files import digest, sha256

FEW_FILES: Final = 64
"""A crawl of so many files is not merged: each bucket opens them all. A merged group has more, unless its WATs are
large: 64 WATs of Common Crawl."""
OPEN_ROWS: Final = 640_000
"""Most rows that a merging task holds of all files of its group: with those of a step, its process has 0.65 GB."""
BATCH_ROWS: Final = 4_096
"""A group of small WATs is large enough when its buckets have so many rows on average: a batch of them takes 0.7 ms to
write and read, whatever its size, and 0.8 us a row."""

_ROW_GROUP: Final = 10_000  # of the stage extract, at most
_LEAST_ROWS: Final = 300  # that a file is counted as: its footer takes memory too
_PAIRS: Final = "pairs.parquet"  # in the folder of a part of the stage extract


class PairFile(NamedTuple):
    """The pairs of one WAT, as the stage extract has published them."""

    path: Path
    crawl: str
    pairs: int
    sha256: str
    """Of its content."""


class Group(NamedTuple):
    """Files of one crawl that buckets read together."""

    files: tuple[PairFile, ...]
    merged: bool

    @property
    def crawl(self) -> str:
        """The crawl of all its files."""
        return self.files[0].crawl

    @property
    def name(self) -> str:
        """Unique among the groups of a stage, and the same whatever groups there are beside it."""
        return f"merge-{self.files[0].path.stem}"


def listed(extract: Path, parts: Path) -> list[PairFile]:
    """List the files of pairs in the out of the stage extract, in the order of its WATs; `parts` has its parts."""
    # Not by read_table: it imports pandas, which takes longer than a small run of this stage.
    rows = pq.ParquetFile(extract / "reads.parquet").read(["order", "crawl", "pairs"]).sort_by("order").to_pylist()
    paths = [extract / "pairs" / f"{row['order']:06d}.parquet" for row in rows]
    digests = _digests(paths, parts)
    return [PairFile(path, row["crawl"], row["pairs"], of) for path, row, of in zip(paths, rows, digests, strict=True)]


def by_crawl(files: Iterable[PairFile]) -> dict[str, list[PairFile]]:
    """Return the files of each crawl, crawls in the order of their first WAT."""
    found: dict[str, list[PairFile]] = {}
    for file in files:
        found.setdefault(file.crawl, []).append(file)
    return found


def groups(files: Iterable[PairFile], buckets: int) -> list[Group]:
    """Cut the files of each crawl into groups, in their order; a crawl of few files is one group, and not merged."""
    found = []
    for _, of_crawl in groupby(files, key=lambda file: file.crawl):
        few = list(of_crawl)
        if len(few) <= FEW_FILES:
            found.append(Group(tuple(few), merged=False))
        else:
            found += [Group(tuple(cut), merged=True) for cut in _cut(few, buckets)]
    return found


def parts(found: Iterable[Group], buckets: int) -> list[Part]:
    """Return a part of `merged_pairs.merge` for each group that is merged."""
    return [
        Part(
            group.name,
            digest("merge", [file.sha256 for file in group.files], buckets),
            {"files": [file.path for file in group.files], "buckets": buckets},
            weight=sum(file.pairs for file in group.files),
        )
        for group in found
        if group.merged
    ]


def entries(found: Iterable[Group], done: Sequence[Done]) -> list[Listed]:
    """List the files that buckets read of some groups, for their manifest; `done` has the parts that are merged."""
    folders = {one.part.name: one.folder for one in done}
    return [entry for group in found for entry in _entries(group, folders)]


def _entries(group: Group, folders: Mapping[str, Path]) -> Iterator[Listed]:
    if group.merged:
        yield Listed.of(folders[group.name] / merged_pairs.FILE, merged=True)
    else:
        yield from (Listed.of(file.path, merged=False) for file in group.files)


def _cut(files: Sequence[PairFile], buckets: int) -> Iterator[list[PairFile]]:
    """Yield groups that end before they would have too many rows open, or once they have enough pairs and files."""
    group: list[PairFile] = []
    rows = pairs = 0
    for file in files:
        more = min(max(file.pairs, _LEAST_ROWS), _ROW_GROUP)
        if group and (rows + more > OPEN_ROWS or (pairs >= BATCH_ROWS * buckets and len(group) >= FEW_FILES)):
            yield group
            group, rows, pairs = [], 0, 0
        group.append(file)
        rows, pairs = rows + more, pairs + file.pairs
    yield group


def _digests(paths: Sequence[Path], parts: Path) -> list[str]:
    """Return the sha256 of each file: that which its part of the stage extract has noted, or computed here.

    What a part has noted is taken where the published file is the part's own (a hard link), and nothing was written to
    it since.
    """
    known = _noted({_identity(path) for path in paths}, parts)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda path: known.get(_identity(path)) or sha256(path), paths))


def _identity(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino


def _noted(wanted: set[tuple[int, int]], parts: Path) -> dict[tuple[int, int], str]:
    """Return the sha256 that finished parts have noted of these files, by device and inode."""
    found = {}
    for folder in parts.iterdir() if parts.is_dir() else ():
        try:
            about = (folder / _PAIRS).stat()
            if (about.st_dev, about.st_ino) not in wanted:
                continue
            finished = part_files.read(folder)
            noted = (folder / part_files.COUNTS_FILE).stat()
        except (OSError, part_files.DamagedPartError):
            continue
        size, of = finished.files.get(_PAIRS, (-1, "")) if finished else (-1, "")
        if size == about.st_size and about.st_mtime_ns <= noted.st_mtime_ns:
            found[about.st_dev, about.st_ino] = of
    return found
