"""The record of a purge (purges.json): its plan, written first, and the proof afterwards.

purges.json is in Git and has only digests. An entry is written before anything is deleted, so that no deletion goes
unrecorded, and gets its proof when a scan finds no trace. Until then the traces themselves are saved in the work
folder, readable by this user only: an interrupted purge may have removed them from the tables already.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from laion_dask.removals.traces.traces import Traces
from laion_dask.storage.files import sha256

RECORD: Final = Path("purges.json")
TRACES: Final = "purge.json"
"""In the work folder, during a purge."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """One file that held traces: path, reason, digest, and whether it was rewritten instead of deleted."""

    path: str
    why: str
    bytes: int
    sha256: str
    rewritten: bool


def pending(home: Path) -> Traces:
    """Return the traces of an interrupted purge; none if there is no such purge."""
    path = home / TRACES
    saved = json.loads(path.read_bytes()) if path.is_file() else {}
    return Traces(**{name: frozenset(values) for name, values in saved.items()})


def unfinished(record: Path) -> dict[str, Any] | None:
    """Return the entry of an interrupted purge, which has no proof; None if there is none."""
    entries = _read(record)
    return entries[-1] if entries and not entries[-1].get("proof", True) else None


def clean(record: Path, home: Path) -> None:
    """Delete temporary files of a killed purge."""
    for path in (record, home / TRACES):
        _half(path).unlink(missing_ok=True)


def begin(
    record: Path, home: Path, wanted: Traces, files: Sequence[Deleted], objects: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Record the files to delete and the traces; return the entry, which continues an unfinished one."""
    home.mkdir(parents=True, exist_ok=True)
    sets = {one.name: sorted(getattr(wanted, one.name)) for one in fields(wanted) if one.init}
    _write(home / TRACES, sets)
    (home / TRACES).chmod(0o600)
    before = _read(record)
    entry = unfinished(record) or {"ledger_sha256": None, "files": [], "objects": [], "proof": None}
    if entry in before:
        before.remove(entry)
    fresh = {
        "ledger_sha256": None,
        "pairs": len(wanted.uids),
        "uids_sha256": sorted(hashlib.sha256(uid.encode()).hexdigest() for uid in wanted.uids),
        "files": _joined(entry["files"], map(asdict, files), "path"),
        "objects": _joined(entry["objects"], objects, "oid"),
        "proof": None,
    }
    _write(record, [*before, fresh])
    return fresh


def end(record: Path, home: Path, ledger: Path, proof: Mapping[str, Any]) -> None:
    """Add the proof to the entry, and delete the saved traces."""
    entry = unfinished(record)
    if entry is not None:
        _write(record, [*_read(record)[:-1], {**entry, "ledger_sha256": sha256(ledger), "proof": dict(proof)}])
    (home / TRACES).unlink(missing_ok=True)


def _joined(before: Sequence[Any], now: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """Join two lists of files; the same content at the same path is listed once."""
    known = {(one[name], one["sha256"]) for one in before}
    return [*before, *(dict(one) for one in now if (one[name], one["sha256"]) not in known)]


def _read(record: Path) -> list[dict[str, Any]]:
    return list(json.loads(record.read_bytes())) if record.is_file() else []


def _write(path: Path, value: object) -> None:
    fresh = _half(path)
    fresh.touch(0o600 if path.name == TRACES else 0o666)
    fresh.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    fresh.replace(path)


def _half(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
