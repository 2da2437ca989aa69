"""Delete what a project stores of removed pairs, and keep a public record of what was deleted.

Files of the stages are rewritten without the pairs: their rows keep uid and verdict, so that every table can still be
joined and counted. Finished parts, cached objects and other copies are deleted. `dvc commit` records the rewritten
files, so that no stage runs again. The old objects are deleted even if older commits name them, and the record lists
them.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr

from laion_dask.removals import purge_gather, purge_versions
from laion_dask.removals.purge_record import Deleted
from laion_dask.removals.purge_versions import WEB
from laion_dask.removals.traces import traces
from laion_dask.removals.traces.traces import Traces
from laion_dask.runner import trace_file
from laion_dask.storage import embeddings, numbered, shards
from laion_dask.storage.files import sha256

DERIVED: Final = ("release", "report")
_HALF: Final = "purged"
"""Extension of files being written or deleted: the next purge deletes what a killed one left."""
_MOST_NAMED: Final = 5


class PurgeError(Exception):
    """Nothing was purged, or traces remain; the message has the remedy."""


@dataclass(frozen=True)
class PurgePlan:
    """The files that a purge rewrites and deletes."""

    traces: Traces
    rewrite: tuple[Path, ...] = ()
    delete: tuple[Path, ...] = ()
    why: dict[Path, str] = field(default_factory=dict)
    left: dict[Path, str] = field(default_factory=dict)
    """Files that hold traces and belong to the user."""


def gather(uids: frozenset[str], data: Path) -> Traces:
    """Collect the traces of pairs from the tables of the current version."""
    return purge_gather.gather(uids, purge_versions.current(data))


@dataclass(frozen=True)
class Copies:
    """Files and folders that are deleted whole if they hold a trace: they are copies or can be made again."""

    files: frozenset[Path] = frozenset()
    """Artifacts, leftovers of experiments, objects of DVC's cache, times of runs."""
    folders: tuple[Path, ...] = ()
    """Finished parts: one without some of its files would pass for a complete one."""


def plan(wanted: Traces, data: Path, found: Mapping[Path, str], copies: Copies) -> PurgePlan:
    """Plan what happens to each file that holds a trace.

    A file of a stage's out is rewritten, one of `copies` deleted, any other left to the user. Nothing is changed here.
    Raises `PurgeError` if a release or report still has a pair, since then the version is older than the ledger, and if
    a file of a stage holds traces and cannot be rewritten.
    """
    why = dict(found)
    rewrite: list[Path] = []
    refused: list[Path] = []
    for path in _files(data) if data.is_dir() else ():
        stage = path.relative_to(data).parts[0]
        trace = why.get(path, "")
        if trace and stage in DERIVED:
            message = f"{path} still has a removed pair ({trace}). Remedy: `make repro`, then purge again"
            raise PurgeError(message)
        if stage not in {WEB, trace_file.FOLDER} and (
            trace or (stage == "score" and has_embeddings(path, data, wanted.uids))
        ):
            why[path] = trace or "embeddings"
            (rewrite if _can_be_mended(path, data) else refused).append(path)
    if refused:
        names = ", ".join(map(str, refused[:_MOST_NAMED])) + (" and more" if len(refused) > _MOST_NAMED else "")
        message = (
            f"{len(refused)} files hold traces and are not a table of pairs, tar or array: {names}. Nothing was "
            "purged. Remedy: delete them or run their stage again; for archives with download.source: archive"
        )
        raise PurgeError(message)
    folders = {path: next((folder for folder in copies.folders if folder in path.parents), None) for path in found}
    delete = list(dict.fromkeys(folders[path] or path for path in found if folders[path] or path in copies.files))
    why |= {folder: why[path] for path, folder in folders.items() if folder}
    ours = {*rewrite, *delete}
    for_user = {path: trace for path, trace in found.items() if path not in ours and not folders[path]}
    # A tar's keys are in its table, so tars go first; likewise embeddings before the scores beside them.
    rewrite.sort(key=lambda path: (path.suffix == ".parquet", path))
    return PurgePlan(wanted, tuple(rewrite), tuple(delete), why, for_user)


def spare_linked(planned: PurgePlan, files: Iterable[Path]) -> PurgePlan:
    """Remove from the plan's deletions the targets of links that stay, whose content would be lost.

    Raises `PurgeError` if a file to delete is itself a link to a file that is not among `files`: only the link would be
    deleted, and its target would stay unsearched.
    """
    files = list(files)
    _refuse_links_elsewhere(planned, files)
    planned_paths = {*planned.rewrite, *planned.delete}
    links: dict[Path, Path] = {}
    for path in files:
        if path.is_symlink() and path not in planned_paths and not planned_paths.intersection(path.parents):
            links[path.resolve()] = path
    targets = {path: links[path.resolve()] for path in planned.delete if path.resolve() in links}
    left = planned.left | {path: f"{planned.why[path]}; {link} is a link to it" for path, link in targets.items()}
    return replace(planned, delete=tuple(path for path in planned.delete if path not in targets), left=left)


def _refuse_links_elsewhere(planned: PurgePlan, files: Iterable[Path]) -> None:
    inside = [file for path in planned.delete if path.is_dir() for file in _files(path)]
    links = [path for path in (*planned.rewrite, *planned.delete, *inside) if path.is_symlink()]
    if not links:
        return
    known = {path.parent.resolve() / path.name for path in files if not path.is_symlink()}
    elsewhere = [path for path in links if path.resolve() not in known]
    if elsewhere:
        named = ", ".join(f"{path} to {path.resolve()}" for path in elsewhere[:_MOST_NAMED])
        more = " and more" if len(elsewhere) > _MOST_NAMED else ""
        message = (
            f"{len(elsewhere)} files hold traces and are links to files elsewhere: {named}{more}. Nothing was purged"
        )
        raise PurgeError(f"{message}. Remedy: replace the links by the files, or name their folder with --also")


def _can_be_mended(path: Path, data: Path) -> bool:
    if path.suffix == ".parquet":
        return "uid" in pq.read_schema(path).names
    return path.suffix == ".tar" or data / "score" / embeddings.STORE in path.parents


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder by name, with links to files, since DVC may check files out as links."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file())


def has_embeddings(path: Path, data: Path, uids: frozenset[str]) -> bool:
    """Tell whether a file is a shard of embeddings with values for one of the pairs."""
    store = data / "score" / embeddings.STORE
    if store not in path.parents or path.parent.parent.name != "c":
        return False
    number, array = int(path.parent.name), path.relative_to(store).parts[:2]
    table = numbered.table(data / "score", number)
    if table is None:
        return False
    slots = _slots(table, uids)
    values = embeddings.array(zarr.open_group(store, mode="r"), "/".join(array))
    return any(not np.isnan(np.asarray(values[slot])).all() for slot in slots)


def with_embeddings(data: Path, uids: frozenset[str]) -> list[Path]:
    """Return the shards of embeddings that still have values for one of the pairs."""
    store = data / "score" / embeddings.STORE
    return [path for path in _files(store) if has_embeddings(path, data, uids)] if store.is_dir() else []


def _slots(table: Path, uids: frozenset[str]) -> list[int]:
    rows = pq.read_table(table, columns=["uid", "slot"])
    return [int(slot) for slot in rows.filter(pa.array(traces.rows_of(rows, uids)))["slot"].to_pylist()]


def described(found: PurgePlan) -> list[Deleted]:
    """Return the record's entry for each file that is to be rewritten or deleted."""
    entries = [_described(path, found.why[path], rewritten=True) for path in found.rewrite]
    for path in found.delete:
        files = [path] if path.is_file() else _files(path)
        entries += [_described(file, found.why[path], rewritten=False) for file in files]
    return entries


def _described(path: Path, why: str, *, rewritten: bool) -> Deleted:
    # The record is public: for a cache outside of the project it has the object's name and no path of this machine.
    whole, folder = path.absolute(), Path.cwd()
    name = whole.relative_to(folder) if whole.is_relative_to(folder) else Path(*whole.parts[-2:])
    return Deleted(name.as_posix(), why, path.stat().st_size, sha256(path), rewritten)


def clean(*folders: Path) -> None:
    """Delete files that a killed purge left half written or half deleted."""
    for folder in folders:
        # Zarr's own half-written shards have another extension.
        for path in [*folder.rglob(f".*.{_HALF}"), *folder.glob(f"score/{embeddings.STORE}/**/*.partial")]:
            _delete(path)


def carry_out(found: PurgePlan, data: Path) -> None:
    """Rewrite and delete the planned files; after an interruption a new plan has only the remaining ones."""
    for path in found.rewrite:
        _rewrite(path, data, found.traces)
    for path in found.delete:
        if path.is_file():
            path.unlink()
        else:
            # Renamed first: a half-deleted part would pass for a complete one.
            _delete(path.rename(path.with_name(f".{path.name}.{_HALF}")))


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _rewrite(path: Path, data: Path, wanted: Traces) -> None:
    """Replace a file by one without the pairs; never in place, since it may be a link into DVC's cache."""
    fresh = path.with_name(f".{path.name}.{_HALF}")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            changed = traces.blanked(table, wanted.uids)
            pq.write_table(table if changed is None else changed, fresh, compression="zstd")
        elif path.suffix == ".tar":
            images_left = _without_members(path, fresh, purge_gather.keys_of(path.with_suffix(".parquet"), wanted.uids))
            _resize(path.with_name(shards.SIZES), path.name, images_left)
        else:
            shutil.copyfile(path, fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    if data / "score" / embeddings.STORE in path.parents:
        store = data / "score" / embeddings.STORE
        number = int(path.parent.name)
        values = embeddings.array(zarr.open_group(store, mode="r"), "/".join(path.relative_to(store).parts[:2]))
        table = numbered.table(data / "score", number)
        if table is None:
            message = f"{data / 'score'} has embeddings of shard {number} without its table"
            raise FileNotFoundError(message)
        rows = values.shards[0] if values.shards else values.chunks[0]
        whole = np.asarray(values[number * rows : (number + 1) * rows])
        whole[[slot - number * rows for slot in _slots(table, wanted.uids)]] = np.nan
        with embeddings.empty_shards_written():
            values = embeddings.array(zarr.open_group(store, mode="r+"), "/".join(path.relative_to(store).parts[:2]))
            values[number * rows : (number + 1) * rows] = whole


def _without_members(path: Path, fresh: Path, keys: set[str]) -> int:
    """Copy a tar without the files of these keys; return the number of remaining keys."""
    remaining = set()
    with tarfile.open(path, "r|") as members, fresh.open("wb") as out:
        for member in members:
            content, key = members.extractfile(member), member.name.partition(".")[0]
            if content is None or key in keys:
                continue
            remaining.add(key)
            body = content.read()
            out.write(member.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % tarfile.BLOCKSIZE))
        end = out.tell() + 2 * tarfile.BLOCKSIZE
        out.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
    return len(remaining)


def _resize(sizes: Path, name: str, images: int) -> None:
    """Record a tar's new number of images in the file of sizes."""
    if sizes.is_file():
        recorded = json.loads(sizes.read_text(encoding="utf-8"))
        fresh = sizes.with_name(f".{sizes.name}.{_HALF}")
        fresh.write_text(json.dumps(recorded | {name: images}, indent=2) + "\n", encoding="utf-8")
        fresh.replace(sizes)
