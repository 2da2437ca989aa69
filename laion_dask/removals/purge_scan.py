"""Search every file of a project for traces of removed pairs, and say what that proves."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from laion_dask.removals import purge_git
from laion_dask.removals.purge_places import Places
from laion_dask.removals.purge_versions import Tables
from laion_dask.removals.traces import traces
from laion_dask.removals.traces.traces import Seen, Traces

_PRINTED_S: Final = 5.0
METHOD: Final = (
    "Every file is read, its name too. Its bytes are searched for each trace as it is and with the escapes of JSON, "
    "HTML, URLs and CSV undone, in UTF-8, UTF-16 and Latin-1; containers are opened and their members searched in the "
    "same way; sha256 and md5 of each file and member are compared with those of the pictures. A trace inside of a "
    "longer value of a pair that stays is that value."
)
LIMITS: Final = (
    "what is encrypted or packed and has no known beginning is searched as bytes only",
    "addresses and texts in base64, and values beside a uid in a file that is no table, are not recognised",
    "texts in encodings other than UTF-8, UTF-16 and Latin-1, and what is broken over lines, are not recognised",
    "a picture that was encoded anew is not recognised by its looks",
    "texts of fewer than 8 characters, and those inside of more than 1,000 kept texts, are not searched for",
    "copies that others have, and artifacts or remotes that are not named here, are not looked into",
)


@dataclass
class TraceScan:
    """What a reading of all files has found."""

    found: dict[Path, str] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    """Objects of Git with a trace, by their name."""
    seen: Seen = field(default_factory=Seen)
    git_objects: int = 0


class ScanProgress:
    """Tells on standard error how far a reading has come, how fast it is and what is left."""

    def __init__(self, what: str, files: int, size: int) -> None:
        self._what, self._files, self._size = what, files, size
        self._done = self._bytes = 0
        self._began = self._printed = time.monotonic()

    def add(self, size: int) -> None:
        """Count one more file."""
        self._done += 1
        self._bytes += size
        now = time.monotonic()
        if now - self._printed < _PRINTED_S:
            return
        self._printed = now
        rate = self._bytes / max(now - self._began, 1e-3)
        left = (self._size - self._bytes) / max(rate, 1.0)
        print(  # noqa: T201 - a reading of terabytes is no matter of silence
            f"{self._what}: {self._done:,} of {self._files:,} files, {rate / 1e6:,.0f} MB/s, about {left:,.0f} s left",
            file=sys.stderr,
        )


def scan(
    wanted: Traces, places: Places, what: str, *, but: Collection[Path] = (), ledgers: Iterable[str] = ()
) -> TraceScan:
    """Look into all files and all objects of Git; `but` are files of the cache that are left alone.

    A content that has several names, by links of any kind, is read once and told under each.
    """
    told = TraceScan()
    told.seen.unread.update(places.unread)
    known: dict[tuple[int, int], str] = {}
    sizes = {path: _size(path) for path in places.files if path not in but}
    progress = ScanProgress(what, len(sizes), sum(sizes.values()))
    for path, size in sizes.items():
        identity = _identity(path)
        if identity not in known:
            known[identity] = traces.look(path, wanted, told.seen)
        found = known[identity] or traces.look_at_name(path, wanted)
        if found:
            told.found[path] = found
        progress.add(size)
    for folder in places.repositories:
        _objects(wanted, folder, told, frozenset(ledgers))
    return told


def _objects(wanted: Traces, folder: Path, told: TraceScan, ledgers: frozenset[str]) -> None:
    project = folder.parent
    ours = purge_git.of_paths(project, ledgers)
    counted = Seen()
    try:
        for name, content in purge_git.objects(purge_git.folder_of(project, folder)):
            told.git_objects += 1
            if name in ours or purge_git.is_ledger(content):
                continue
            what = traces.look_at(f"{folder.as_posix()} object {name}", content, wanted, counted)
            if what:
                told.objects[f"{folder.as_posix()} object {name}"] = what
    except (purge_git.GitError, OSError) as error:
        told.seen.unread[folder.as_posix()] = str(error)
    counted.files = 0
    told.seen.add(counted)


def proof(told: TraceScan, places: Places, tables: Tables, wanted: Traces, remotes: Collection[str]) -> dict[str, Any]:
    """Say what was looked into, what was not, and how: what stands in purges.json beside the record."""
    return {
        "scanned": told.seen.files,
        "bytes": told.seen.bytes,
        "members": told.seen.members,
        "git_objects": told.git_objects,
        "left": 0,
        "kinds": dict(sorted(told.seen.kinds.items())),
        "remotes": sorted(remotes),
        "traces": {
            name: len(getattr(wanted, name)) for name in ("urls", "domains", "texts", "digests", "pictures", "bodies")
        },
        "versions": {"looked_into": tables.versions, "tables_missing": list(tables.without)},
        "not_looked_into": dict(sorted(places.spared.items())),
        "unread": {},
        "method": METHOD,
        "limits": list(LIMITS),
    }


def _identity(path: Path) -> tuple[int, int]:
    try:
        about = path.stat()
    except OSError:
        return -1, hash(path)
    return about.st_dev, about.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
