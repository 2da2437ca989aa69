"""Write and check manifest.json: the digest of every file of a release, the Merkle root, and its origin.

`check` compares a copy of the folder with it, offline, and lists files that differ, are missing or are extra.
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
from types import MappingProxyType
from typing import Any, Final, Literal

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.release import composition, manifest_counts, merkle
from laion_dask.schema.values import SPLITS
from laion_dask.storage.files import sha256

NAME: Final = "manifest.json"
FORMAT: Final = 2
"""Version of the manifest's format: 1 had neither the Merkle root nor the digests of lists."""
_PACKAGES: Final = (
    *("dask", "duckdb", "fastwarc", "fasttext", "mmh3", "numpy", "open_clip_torch", "pillow", "pyarrow", "torch"),
    *("transformers", "warcio", "zarr"),
)
# Digests are computed without the GIL; more threads do not make disks faster.
_THREADS: Final = 4
_UIDS_AT_ONCE: Final = 65_536


class ManifestError(Exception):
    """A manifest is missing, unreadable or inconsistent; the message has the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a release and its manifest, in a file or in the Merkle root."""

    path: str
    what: Literal["missing", "extra", "size differs", "content differs", "unreadable", "uids differ", "counts differ"]
    detail: str


@dataclass(frozen=True, slots=True)
class Entries:
    """A list that was applied: its number of entries and the digest of its file; never the entries."""

    path: str
    entries: int
    sha256: str

    @classmethod
    def of(cls, path: Path, entries: int) -> Entries:
        """Describe a list file."""
        return cls(path.as_posix(), entries, sha256(path))


@dataclass(frozen=True, slots=True)
class Made:
    """The inputs of a release: everything in the manifest that is not computed from its folder."""

    settings: params.Params
    counts: Mapping[str, Any]
    models: Mapping[str, Mapping[str, str]]
    lists: Sequence[Entries]
    removals: Entries
    wats: Sequence[tuple[str, str]]
    """(crawl, path inside the crawl) of every WAT."""
    pages: tuple[str, str] = ("", "")
    """When the oldest and the newest page were fetched, ISO 8601; empty without pages."""

    def crawls(self) -> dict[str, int]:
        """Return the WATs of each crawl."""
        return dict(sorted(Counter(crawl for crawl, _ in self.wats).items()))

    def published(self) -> str:
        """Return the day of publication: the parameter, else the day of the newest page, but never today's date."""
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
            # Parameters of the report do not change a version.
            "parameters": self.settings.model_dump(mode="json", exclude={"report"}),
            "packages": {name: version(name) for name in _PACKAGES},
        }


def describe(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, dict[str, Any]]:
    """Return bytes and sha256 of every file but the manifest, by path, and the number of rows of tables.

    `known` has the sha256 of files that need not be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    names = [path.relative_to(folder).as_posix() for path in paths]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = list(pool.map(lambda name: known.get(name) or sha256(folder / name), names))
    files = {}
    for name, path, digest in zip(names, paths, digests, strict=True):
        rows = {"rows": pq.read_metadata(path).num_rows} if path.suffix == ".parquet" else {}
        files[name] = {**rows, "bytes": path.stat().st_size, "sha256": digest}
    return files


def uids(folder: Path) -> Iterator[str]:
    """Yield the uids of the main table in order, by merging its sorted splits."""
    by_split = [[path for path in composition.files(folder) if path.name.startswith(f"{split}-")] for split in SPLITS]
    return heapq.merge(*(_uids(paths) for paths in by_split))


def _uids(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(_UIDS_AT_ONCE, columns=["uid"]):
                yield from batch.column("uid").to_pylist()


def root(folder: Path) -> dict[str, Any]:
    """Return the Merkle root over the uids of the main table."""
    root_digest, leaves = merkle.root(uids(folder))
    return {"algorithm": merkle.ALGORITHM, "leaves": leaves, "root": root_digest}


def write(
    out: Path, made: Made, merkle_root: Mapping[str, Any], tombstones: int, files: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Write `manifest.json` and return its content; `files` come from `describe`.

    `ManifestError` if rows, leaves and counts do not add up: then files are missing, or from another run.
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
            f"the release does not add up: {'; '.join(f'{where}: {cause}' for where, cause in wrong)}. Remedy: check "
            "that all workers have the project's folder at the same path, then remove data/filter and run `dvc repro`"
        )
        raise ManifestError(message)
    (out / NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def read(folder: Path) -> dict[str, Any]:
    """Read the manifest of a release; `ManifestError` if it is missing or malformed."""
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
        message = f"{path} is not a manifest of a release ({type(error).__name__}: {error}). Remedy: copy it again"
        raise ManifestError(message) from error
    return dict(manifest)


def size(folder: Path) -> int:
    """Return the size of all files in bytes, for the progress of `check`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def check(folder: Path, progress: Callable[[int], object] = lambda _: None) -> list[Finding]:
    """Compare a release with its manifest; return the differences, by path.

    `progress` is called with the number of bytes that were read, from several threads. The Merkle root is computed
    again if every file of the main table can be read. `ManifestError` if there is no manifest.
    """
    manifest = read(folder)
    listed: Mapping[str, Mapping[str, Any]] = manifest["files"]
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {NAME}
    if "manifest" not in manifest:
        present.discard("README.md")  # format 1 named tables only
    findings = [Finding(name, "missing", "is in the manifest") for name in sorted(listed.keys() - present)]
    findings += [Finding(name, "extra", "is not in the manifest") for name in sorted(present - listed.keys())]
    common = sorted(listed.keys() & present)
    with ThreadPoolExecutor(_THREADS) as pool:
        compared = pool.map(lambda name: _compare(folder, name, listed[name], progress), common)
        findings += [finding for finding in compared if finding]
    findings += _check_root(folder, manifest)
    findings += [Finding(where, "counts differ", cause) for where, cause in manifest_counts.contradictions(manifest)]
    return sorted(findings, key=lambda finding: (finding.path, finding.what))


def _compare(folder: Path, name: str, entry: Mapping[str, Any], progress: Callable[[int], object]) -> Finding | None:
    path = folder / name
    bytes_ = path.stat().st_size
    if "bytes" in entry and bytes_ != entry["bytes"]:
        progress(bytes_)
        return Finding(name, "size differs", f"{bytes_:,} bytes, {entry['bytes']:,} in the manifest")
    try:
        digest = sha256(path, progress)
    except OSError as error:
        return Finding(name, "unreadable", str(error))
    if digest != entry["sha256"]:
        return Finding(name, "content differs", f"sha256 {digest[:16]}…, {entry['sha256'][:16]}… in the manifest")
    if "rows" in entry and (rows := pq.read_metadata(path).num_rows) != entry["rows"]:
        return Finding(name, "counts differ", f"{rows:,} rows, {entry['rows']:,} in the manifest")
    return None


def _check_root(folder: Path, manifest: Mapping[str, Any]) -> list[Finding]:
    recorded = manifest.get("merkle")
    if not recorded:
        return []  # format 1
    try:
        computed = root(folder)
    except (OSError, ValueError, KeyError, merkle.MerkleError) as error:
        return [Finding("the main table", "uids differ", f"its uids cannot be read: {error}")]
    if (computed["root"], computed["leaves"]) != (recorded["root"], recorded["leaves"]):
        detail = (
            f"{computed['leaves']:,} uids with root {computed['root'][:16]}…, "
            f"{recorded['leaves']:,} and {recorded['root'][:16]}… in the manifest"
        )
        return [Finding("the main table", "uids differ", detail)]
    return []
