"""The record of a purge: what it is about to do, written first, and the proof afterwards (purges.json).

purges.json lies in Git and has digests only. An entry is written before anything is deleted, so that no deletion goes
unrecorded, and gets its proof when a scan has found nothing left. What is searched for is written down as well until
then, in a file of its user in the work folder: a purge that was stopped half-way has emptied the tables that knew it.
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
"""In the work folder, while a purge is under way."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """One file that held traces: where, why, its digest, and whether a file without them takes its place."""

    path: str
    why: str
    bytes: int
    sha256: str
    rewritten: bool


def pending(home: Path) -> Traces:
    """Return what a purge that did not come to its end was searching for; nothing where there is none."""
    path = home / TRACES
    known = json.loads(path.read_bytes()) if path.is_file() else {}
    return Traces(**{name: frozenset(values) for name, values in known.items()})


def unfinished(record: Path) -> dict[str, Any] | None:
    """Return the entry without a proof: that of a purge that was stopped."""
    entries = _read(record)
    return entries[-1] if entries and not entries[-1].get("proof", True) else None


def clean(record: Path, home: Path) -> None:
    """Delete what a purge that was killed has half written here."""
    for path in (record, home / TRACES):
        _half(path).unlink(missing_ok=True)


def begin(
    record: Path, home: Path, wanted: Traces, files: Sequence[Deleted], objects: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write down what will be deleted, and what it is known by; return the entry: an unfinished one goes on."""
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
    """Put the proof into the entry, and forget what was searched for."""
    entry = unfinished(record)
    if entry is not None:
        _write(record, [*_read(record)[:-1], {**entry, "ledger_sha256": sha256(ledger), "proof": dict(proof)}])
    (home / TRACES).unlink(missing_ok=True)


def _joined(before: Sequence[Any], now: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """Join two lists of what was there; the same content at the same place is told once."""
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
