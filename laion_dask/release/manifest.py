"""Write and check manifest.json: the digest of every file of a release, the Merkle root, and what made it.

`check` reads it back: offline, wherever the folder was copied to, each file that differs, is missing or is extra.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.release import composition, manifest_counts, merkle
from laion_dask.schema.values import SPLITS
from laion_dask.storage.files import sha256

NAME: Final = "manifest.json"
FORMAT: Final = 2
"""Of the manifest: 1 had neither the Merkle root nor the digests of lists."""
_PACKAGES: Final = (
    *("dask", "duckdb", "fastwarc", "fasttext", "mmh3", "numpy", "open_clip_torch", "pillow", "pyarrow", "torch"),
    *("transformers", "warcio", "zarr"),
)
# Digests are computed outside of Python's lock; disks do not get faster by more.
_THREADS: Final = 4
_UIDS_AT_ONCE: Final = 65_536


class ManifestError(Exception):
    """A manifest is missing, cannot be read or would not add up; the message has what and the remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a release and its manifest: of a file by its path, or of the Merkle root."""

    path: str
    what: Literal["missing", "extra", "size differs", "content differs", "unreadable", "uids differ", "counts differ"]
    detail: str


@dataclass(frozen=True, slots=True)
class Entries:
    """A list that took part: how many entries, and the digest of the file; never the entries."""

    path: str
    entries: int
    sha256: str

    @classmethod
    def of(cls, path: Path, entries: int) -> Entries:
        """Describe a list file."""
        return cls(path.as_posix(), entries, sha256(path))


@dataclass(frozen=True, slots=True)
class Made:
    """What a release was made with and from: everything of the manifest that is not in the folder itself."""

    settings: params.Params
    counts: Mapping[str, Any]
    models: Mapping[str, Mapping[str, str]]
    lists: Sequence[Entries]
    removals: Entries
    wats: Sequence[tuple[str, str]]
    """(crawl, path inside the crawl) of every WAT."""
    pages: tuple[str, str] = ("", "")
    """When the oldest and the newest page were fetched, ISO 8601; empty where no page is known."""

    def crawls(self) -> dict[str, int]:
        """Return the WATs of each crawl."""
        return dict(sorted(Counter(crawl for crawl, _ in self.wats).items()))

    def published(self) -> str:
        """Return the day of publication: as given, else that of the newest page. Never today: it would be a clock."""
        given = self.settings.release.published
        return given.isoformat() if given else self.pages[1][:10] or "1970-01-01"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        lines = "".join(f"{crawl} {wat}\n" for crawl, wat in sorted(self.wats))
        return {
            "crawls": self.crawls(),
            "pages": list(self.pages),
            "wats": {"count": len(self.wats), "sha256": hashlib.sha256(lines.encode()).hexdigest()},
            "recipe": list(self.settings.recipe),
            "counts": self.counts,
            "models": {name: dict(model) for name, model in self.models.items()},
            "lists": [{"path": one.path, "entries": one.entries, "sha256": one.sha256} for one in self.lists],
            "removals": {"entries": self.removals.entries, "sha256": self.removals.sha256},
            # How a version is reported does not make it another version.
            "parameters": self.settings.model_dump(mode="json", exclude={"report"}),
            "packages": {name: version(name) for name in _PACKAGES},
        }


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Return bytes and sha256 of every file of a release but the manifest, by path, and rows of the tables."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(sha256, paths))
    files = {}
    for path, digest in zip(paths, digests, strict=True):
        rows = {"rows": pq.read_metadata(path).num_rows} if path.suffix == ".parquet" else {}
        files[path.relative_to(folder).as_posix()] = {**rows, "bytes": path.stat().st_size, "sha256": digest}
    return files


def uids(folder: Path) -> Iterator[str]:
    """Yield the uids of the main table in order: its splits are sorted each, and merged here."""
    by_split = [[path for path in composition.files(folder) if path.name.startswith(f"{split}-")] for split in SPLITS]
    return heapq.merge(*(_uids(paths) for paths in by_split))


def _uids(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(_UIDS_AT_ONCE, columns=["uid"]):
                yield from batch.column("uid").to_pylist()


def root(folder: Path) -> dict[str, Any]:
    """Return the Merkle root over the uids of the main table."""
    found, leaves = merkle.root(uids(folder))
    return {"algorithm": merkle.ALGORITHM, "leaves": leaves, "root": found}


def write(
    out: Path, made: Made, merkle_root: Mapping[str, Any], tombstones: int, files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Write `manifest.json` and return what it holds; `files` as `describe` returns them, of all that is there.

    `ManifestError` where rows, leaves and counts do not add up: something is missing, or from elsewhere.
    """
    release = made.settings.release
    manifest = {
        "manifest": FORMAT,
        "name": release.name,
        "version": release.version,
        "merkle": dict(merkle_root),
        "tombstones": tombstones,
        "files": files,
        **made.as_dict(),
    }
    if wrong := manifest_counts.contradictions(manifest):
        message = (
            f"the release does not add up: {'; '.join(f'{where}: {told}' for where, told in wrong)}. Remedy: see that "
            "all workers have the project's folder under one path, then remove data/filter and run `dvc repro` again"
        )
        raise ManifestError(message)
    (out / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest of a release; `ManifestError` where there is none, or it is no manifest of this format."""
    path = folder / NAME
    if not path.is_file():
        message = f"{path} is missing. Remedy: give the folder of a release; `make repro` writes data/release"
        raise ManifestError(message)
    try:
        manifest = json.loads(path.read_bytes())
        files = manifest["files"]
        for name, file in files.items():
            pure = PurePosixPath(name)
            if pure.is_absolute() or ".." in pure.parts or not isinstance(file["sha256"], str):
                raise ValueError(name)  # noqa: TRY301 - reported below with the path
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path} is no manifest of a release ({type(error).__name__}: {error}). Remedy: copy it anew"
        raise ManifestError(message) from error
    return dict(manifest)


def size(folder: Path) -> int:
    """Return the bytes that `check` reads: every file once, and the column of the uids again."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check(folder: Path, progress: Callable[[int], object] = lambda _: None) -> list[Finding]:
    """Compare a release with its manifest; return what differs, by path: nothing where it is what it was.

    `progress` is called with the number of bytes that were read, from several threads. The Merkle root is computed
    again where every file of the main table can be read. `ManifestError` where there is no manifest.
    """
    manifest = read(folder)
    named: Mapping[str, Mapping[str, Any]] = manifest["files"]
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {NAME}
    if "manifest" not in manifest:
        there.discard("README.md")  # format 1 named tables only
    findings = [Finding(name, "missing", "is in the manifest") for name in sorted(named.keys() - there)]
    findings += [Finding(name, "extra", "is not in the manifest") for name in sorted(there - named.keys())]
    common = sorted(named.keys() & there)
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _compare(folder, name, named[name], progress), common)
        findings += [finding for finding in found if finding]
    findings += _check_root(folder, manifest)
    findings += [Finding(where, "counts differ", told) for where, told in manifest_counts.contradictions(manifest)]
    return sorted(findings, key=lambda finding: (finding.path, finding.what))


def _compare(folder: Path, name: str, wanted: Mapping[str, Any], progress: Callable[[int], object]) -> Finding | None:
    path = folder / name
    bytes_ = path.stat().st_size
    if "bytes" in wanted and bytes_ != wanted["bytes"]:
        progress(bytes_)
        return Finding(name, "size differs", f"{bytes_:,} bytes, {wanted['bytes']:,} in the manifest")
    try:
        found = sha256(path, progress)
    except OSError as error:
        return Finding(name, "unreadable", str(error))
    if found != wanted["sha256"]:
        return Finding(name, "content differs", f"sha256 {found[:16]}…, {wanted['sha256'][:16]}… in the manifest")
    if "rows" in wanted and (rows := pq.read_metadata(path).num_rows) != wanted["rows"]:
        return Finding(name, "counts differ", f"{rows:,} rows, {wanted['rows']:,} in the manifest")
    return None


def _check_root(folder: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    wanted = manifest.get("merkle")
    if not wanted:
        return []  # of format 1
    try:
        found = root(folder)
    except (OSError, ValueError, KeyError, merkle.MerkleError) as error:
        return [Finding("the main table", "uids differ", f"its uids cannot be read: {error}")]
    if (found["root"], found["leaves"]) != (wanted["root"], wanted["leaves"]):
        told = (
            f"{found['leaves']:,} uids with root {found['root'][:16]}…, {wanted['leaves']:,} and {wanted['root'][:16]}…"
        )
        return [Finding("the main table", "uids differ", f"{told} in the manifest")]
    return []
