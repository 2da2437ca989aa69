"""A project with a ledger of removals in, the same without what was stored of the removed pairs out, and the record.

Files of the stages are written anew without the pairs, and take the places of the old ones: rows keep uid and fate, so
that every table can still be joined and counted. Finished parts, cached objects and other copies are deleted. DVC is
told (`dvc commit`), so that nothing runs again and the old objects are nobody's; they are deleted whether or not older
commits name them, and the record says which.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

from laion_dask import embeddings, shards, takedown, traces
from laion_dask.purge_record import Deleted
from laion_dask.removals import Removal
from laion_dask.traces import Traces
from laion_dask.verdict import WITHHELD

WEB: Final = "crawl"
"""The stage whose files stand in for the web: what the web says is not ours to delete."""
DERIVED: Final = ("release", "report")
_SHORT: Final = 8
"""Texts below so many characters are no traces: many pages have them."""
_HALF: Final = "purged"
"""Ending of what is being written or deleted: what a killed purge leaves under it goes with the next."""
_TOLD: Final = 5


class PurgeError(Exception):
    """Nothing was purged, or something was left; the message has the remedy."""


@dataclass(frozen=True)
class Plan:
    """What a purge deletes."""

    traces: Traces
    rewrite: tuple[Path, ...] = ()
    delete: tuple[Path, ...] = ()
    why: dict[Path, str] = field(default_factory=dict)


def of_version(ledger: Sequence[Removal], data: Path) -> frozenset[str]:
    """Return the uids of all pairs that the ledger or a list of known content takes out of a version."""
    found: set[str] = set()
    for pattern in ("extract/pairs/*.parquet", "download/*.parquet"):
        found.update(takedown.matched(ledger, sorted(data.glob(pattern)))["uid"].to_pylist())
    reasons = pa.array(WITHHELD)
    for path in sorted((data / "filter").glob("*.parquet")):
        table = pq.read_table(path, columns=["uid", "reason"])
        found.update(table.filter(pc.is_in(table["reason"], value_set=reasons))["uid"].to_pylist())
    return frozenset(found)


def gather(uids: frozenset[str], data: Path) -> Traces:
    """Collect what must not be found any more, out of the tables and tars of the version."""
    sets: dict[str, set[str]] = {name: set() for name in ("urls", "texts", "digests", "pictures")}
    stays: dict[str, set[str]] = {name: set() for name in sets}
    columns = {
        "url": "urls",
        "final_url": "urls",
        "text": "texts",
        "caption": "texts",
        "md5": "digests",
        "sha256": "digests",
    }
    tables = [*sorted(data.glob("extract/pairs/*.parquet")), *sorted(data.glob("download/*.parquet"))]
    for goes in (True, False):
        for path in tables:
            names = [name for name in pq.read_schema(path).names if name in columns]
            table = pq.read_table(path, columns=["uid", *names])
            rows = traces.rows_of(table, uids)
            table = table.filter(pa.array(rows if goes else ~rows))
            for name in names:
                known = set(pc.unique(table[name].drop_null()).to_pylist())
                if goes:
                    sets[columns[name]] |= known
                else:
                    stays[columns[name]] |= known & sets[columns[name]]
    _pictures(data, uids, sets["pictures"], stays["pictures"])
    alone = {name: sets[name] - stays[name] - {""} for name in sets}
    alone["texts"] = {text for text in alone["texts"] if len(text) >= _SHORT}
    urls, texts, digests, pictures = (frozenset(alone[name]) for name in ("urls", "texts", "digests", "pictures"))
    return Traces(uids, urls, texts, digests, pictures)


def _pictures(data: Path, uids: frozenset[str], gone: set[str], stays: set[str]) -> None:
    """Add the digests of stored pictures of these pairs to `gone`, and those that another pair has too to `stays`."""
    tars = [(tar, _keys(tar.with_suffix(".parquet"), uids)) for tar in sorted(data.glob("download/*.tar"))]
    for tar, keys in tars:
        gone.update(hashlib.sha256(body).hexdigest() for key, body in shards.read_shard(tar) if key in keys)
    # Of what stays only what is asked for is kept in memory. Any tar may have it.
    for tar, keys in tars if gone else ():
        digests = (hashlib.sha256(body).hexdigest() for key, body in shards.read_shard(tar) if key not in keys)
        stays.update(gone.intersection(digests))


def _keys(parquet: Path, uids: frozenset[str]) -> set[str]:
    table = pq.read_table(parquet, columns=["uid", "key"])
    return set(table.filter(pa.array(traces.rows_of(table, uids)))["key"].to_pylist())


def plan(wanted: Traces, data: Path, copies: Iterable[Path]) -> Plan:
    """Look into every file: of a stage's out it is written anew, of `copies` (files, or folders of them) deleted.

    Nothing is touched. Raises `PurgeError` where a release or report still has a pair: then the version is older than
    the ledger; and where a file has traces that cannot be written anew without them.
    """
    why: dict[Path, str] = {}
    rewrite: list[Path] = []
    refused: list[Path] = []
    for path in _files(data):
        stage = path.relative_to(data).parts[0]
        if stage == WEB:
            continue
        told = traces.found_in(path, wanted)
        if told and stage in DERIVED:
            message = f"{path} still has a removed pair ({told}). Remedy: `make repro`, then purge again"
            raise PurgeError(message)
        if told or (stage == "score" and _embedded(path, data, wanted.uids)):
            why[path] = told or "embeddings"
            (rewrite if _can_be_mended(path, data) else refused).append(path)
    if refused:
        names = ", ".join(map(str, refused[:_TOLD])) + (" and more" if len(refused) > _TOLD else "")
        message = (
            f"{len(refused)} files hold traces and are no table of pairs, tar or array: {names}. Nothing was purged. "
            "Remedy: delete them, or run their stage again; archives with download.source: archive"
        )
        raise PurgeError(message)
    delete = []
    for folder in copies:
        files = list(_files(folder)) if folder.is_dir() else [folder]
        told = next((told for path in files if (told := traces.found_in(path, wanted))), "")
        if told:
            why[folder] = told
            delete.append(folder)
    # The keys of a tar stand in its table, so tars go first; the same for embeddings and the scores beside them.
    rewrite.sort(key=lambda path: (path.suffix == ".parquet", path))
    return Plan(wanted, tuple(rewrite), tuple(delete), why)


def _can_be_mended(path: Path, data: Path) -> bool:
    if path.suffix == ".parquet":
        return "uid" in pq.read_schema(path).names
    return path.suffix == ".tar" or data / "score" / embeddings.STORE in path.parents


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _embedded(path: Path, data: Path, uids: frozenset[str]) -> bool:
    """Tell whether a file is a shard of embeddings in which a pair has any."""
    store = data / "score" / embeddings.STORE
    if store not in path.parents or path.parent.parent.name != "c":
        return False
    number, array = int(path.parent.name), path.relative_to(store).parts[:2]
    table = next(iter(sorted((data / "score").glob(f"{number:0>5}.parquet"))), None)
    if table is None:
        return False
    slots = _slots(table, uids)
    values = embeddings.array(zarr.open_group(store, mode="r"), "/".join(array))
    return any(not np.isnan(np.asarray(values[slot])).all() for slot in slots)


def _slots(table: Path, uids: frozenset[str]) -> list[int]:
    rows = pq.read_table(table, columns=["uid", "slot"])
    return [int(slot) for slot in rows.filter(pa.array(traces.rows_of(rows, uids)))["slot"].to_pylist()]


def described(found: Plan) -> list[Deleted]:
    """Say of each file that is planned to go what it is."""
    told = [_described(path, found.why[path], rewritten=True) for path in found.rewrite]
    for path in found.delete:
        files = [path] if path.is_file() else _files(path)
        told += [_described(file, found.why[path], rewritten=False) for file in files]
    return told


def _described(path: Path, why: str, *, rewritten: bool) -> Deleted:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    # The record is public: of a cache that lies elsewhere it has the object's name, and no folder of this machine.
    whole, here = path.absolute(), Path.cwd()
    name = whole.relative_to(here) if whole.is_relative_to(here) else Path(*whole.parts[-2:])
    return Deleted(name.as_posix(), why, path.stat().st_size, digest, rewritten)


def clean(*folders: Path) -> None:
    """Delete what a purge that was killed has left half written or half deleted."""
    for folder in folders:
        # Zarr's own half-written shards have another ending.
        for path in [*folder.rglob(f".*.{_HALF}"), *folder.glob(f"score/{embeddings.STORE}/**/*.partial")]:
            _delete(path)


def carry_out(found: Plan, data: Path) -> None:
    """Write anew and delete what is planned; what was done already is not in a plan made again."""
    for path in found.rewrite:
        _rewrite(path, data, found.traces)
    for path in found.delete:
        if path.is_file():
            path.unlink()
        else:
            # At once: half a finished part would be taken for a whole one.
            _delete(path.rename(path.with_name(f".{path.name}.{_HALF}")))


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _rewrite(path: Path, data: Path, wanted: Traces) -> None:
    """Put a file without the pairs in the place of another: never into it, it may be linked to DVC's cache."""
    fresh = path.with_name(f".{path.name}.{_HALF}")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            changed = traces.blanked(table, wanted.uids)
            pq.write_table(table if changed is None else changed, fresh, compression="zstd")
        elif path.suffix == ".tar":
            left = _without_members(path, fresh, _keys(path.with_suffix(".parquet"), wanted.uids))
            _resize(path.with_name(shards.SIZES), path.name, left)
        else:
            shutil.copyfile(path, fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    if data / "score" / embeddings.STORE in path.parents:
        store = data / "score" / embeddings.STORE
        number = int(path.parent.name)
        values = embeddings.array(zarr.open_group(store, mode="r"), "/".join(path.relative_to(store).parts[:2]))
        table = min((data / "score").glob(f"{number:0>5}.parquet"))
        rows = values.shards[0] if values.shards else values.chunks[0]
        whole = np.asarray(values[number * rows : (number + 1) * rows])
        whole[[slot - number * rows for slot in _slots(table, wanted.uids)]] = np.nan
        with embeddings.empty_shards_written():
            values = embeddings.array(zarr.open_group(store, mode="r+"), "/".join(path.relative_to(store).parts[:2]))
            values[number * rows : (number + 1) * rows] = whole


def _without_members(path: Path, fresh: Path, keys: set[str]) -> int:
    """Copy a tar without the files of these keys; return how many keys are left."""
    left = set()
    with tarfile.open(path, "r|") as members, fresh.open("wb") as out:
        for member in members:
            content, key = members.extractfile(member), member.name.partition(".")[0]
            if content is None or key in keys:
                continue
            left.add(key)
            body = content.read()
            out.write(member.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % tarfile.BLOCKSIZE))
        end = out.tell() + 2 * tarfile.BLOCKSIZE
        out.write(bytes(2 * tarfile.BLOCKSIZE + -end % tarfile.RECORDSIZE))
    return len(left)


def _resize(sizes: Path, name: str, images: int) -> None:
    """Tell readers of the tars how many images one has now."""
    if sizes.is_file():
        known = json.loads(sizes.read_text(encoding="utf-8"))
        fresh = sizes.with_name(f".{sizes.name}.{_HALF}")
        fresh.write_text(json.dumps(known | {name: images}, indent=2) + "\n", encoding="utf-8")
        fresh.replace(sizes)
