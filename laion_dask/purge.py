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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

from laion_dask import embeddings, shards, takedown, traces
from laion_dask.removals import Removal
from laion_dask.traces import Traces
from laion_dask.verdict import WITHHELD

RECORD: Final = Path("purges.json")
WEB: Final = "crawl"
"""The stage whose files stand in for the web: what the web says is not ours to delete."""
DERIVED: Final = ("release", "report")
_SHORT: Final = 8
"""Texts below so many characters are no traces: many pages have them."""


class PurgeError(Exception):
    """Nothing was purged, or something was left; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """One file that held traces: where, why, its digest, and whether a file without them took its place."""

    path: str
    why: str
    bytes: int
    sha256: str
    rewritten: bool


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
    for tar in sorted(data.glob("download/*.tar")):
        gone = _keys(tar.with_suffix(".parquet"), uids)
        for key, body in shards.read_shard(tar) if gone else ():
            (sets if key in gone else stays)["pictures"].add(hashlib.sha256(body).hexdigest())
    alone = {name: sets[name] - stays[name] - {""} for name in sets}
    alone["texts"] = {text for text in alone["texts"] if len(text) >= _SHORT}
    urls, texts, digests, pictures = (frozenset(alone[name]) for name in ("urls", "texts", "digests", "pictures"))
    return Traces(uids, urls, texts, digests, pictures)


def _keys(parquet: Path, uids: frozenset[str]) -> set[str]:
    table = pq.read_table(parquet, columns=["uid", "key"])
    return set(table.filter(pa.array(traces.rows_of(table, uids)))["key"].to_pylist())


def plan(wanted: Traces, data: Path, copies: Iterable[Path]) -> Plan:
    """Look into every file: of a stage's out it is written anew, of `copies` (files, or folders of them) deleted.

    Raises `PurgeError` where a release or report still has a pair: then the version is older than the ledger.
    """
    why: dict[Path, str] = {}
    rewrite = []
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
            rewrite.append(path)
    delete = []
    for folder in copies:
        files = list(_files(folder)) if folder.is_dir() else [folder]
        told = next((told for path in files if (told := traces.found_in(path, wanted))), "")
        if told:
            why[folder] = told
            delete.append(folder)
    return Plan(wanted, tuple(rewrite), tuple(delete), why)


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


def carry_out(found: Plan, data: Path) -> list[Deleted]:
    """Write anew and delete what is planned; return what was there."""
    # The keys of a tar stand in its table, so tars go first; the same for embeddings and the scores beside them.
    order = sorted(found.rewrite, key=lambda path: (path.suffix == ".parquet", path))
    done = []
    for path in order:
        told = _described(path, found.why[path], rewritten=True)
        _rewrite(path, data, found.traces)
        done.append(told)
    for path in found.delete:
        done += [
            _described(file, found.why[path], rewritten=False) for file in ([path] if path.is_file() else _files(path))
        ]
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return done


def _described(path: Path, why: str, *, rewritten: bool) -> Deleted:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Deleted(str(path), why, path.stat().st_size, digest, rewritten)


def _rewrite(path: Path, data: Path, wanted: Traces) -> None:
    """Put a file without the pairs in the place of another: never into it, it may be linked to DVC's cache."""
    fresh = path.with_name(f".{path.name}.purged")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            # A table without a uid that holds a trace is none of ours to mend.
            changed = traces.blanked(table, wanted.uids) if "uid" in table.column_names else None
            pq.write_table(table if changed is None else changed, fresh, compression="zstd")
        elif path.suffix == ".tar":
            left = _without_members(path, fresh, _keys(path.with_suffix(".parquet"), wanted.uids))
            _resize(path.with_name(shards.SIZES), path.name, left)
        elif data / "score" / embeddings.STORE in path.parents:
            shutil.copyfile(path, fresh)
        else:
            message = f"{path} holds traces and is no table, tar or array. Remedy: run its stage again, then purge"
            raise PurgeError(message)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    if data / "score" / embeddings.STORE in path.parents:
        store = data / "score" / embeddings.STORE
        number = int(path.parent.name)
        values = embeddings.array(zarr.open_group(store, mode="r+"), "/".join(path.relative_to(store).parts[:2]))
        table = min((data / "score").glob(f"{number:0>5}.parquet"))
        rows = values.shards[0] if values.shards else values.chunks[0]
        whole = np.asarray(values[number * rows : (number + 1) * rows])
        whole[[slot - number * rows for slot in _slots(table, wanted.uids)]] = np.nan
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
        fresh = sizes.with_name(f".{sizes.name}.purged")
        fresh.write_text(json.dumps(known | {name: images}, indent=2) + "\n", encoding="utf-8")
        fresh.replace(sizes)


def record(
    path: Path, ledger: Path, uids: frozenset[str], deleted: Sequence[Deleted], elsewhere: Sequence[dict[str, Any]]
) -> None:
    """Add a purge to the record that lies beside the ledger in Git: digests only, of pairs and of files."""
    before = json.loads(path.read_text()) if path.is_file() else []
    entry = {
        "ledger_sha256": hashlib.sha256(ledger.read_bytes()).hexdigest(),
        "pairs": len(uids),
        "uids_sha256": sorted(hashlib.sha256(uid.encode()).hexdigest() for uid in uids),
        "files": [asdict(one) for one in deleted],
        "objects": list(elsewhere),
    }
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(json.dumps([*before, entry], indent=1) + "\n")
    fresh.replace(path)
