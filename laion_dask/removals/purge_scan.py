"""Search every file of a project for traces of removed pairs, and describe the search as proof."""

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
from laion_dask.storage.durations import duration

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
    """The traces that a search of all files found."""

    found: dict[Path, str] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    """Git objects with a trace, by their name."""
    seen: Seen = field(default_factory=Seen)
    git_objects: int = 0


class ScanProgress:
    """Reports files done, speed and remaining time on standard error."""

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
        print(  # noqa: T201 - reading terabytes takes hours
            f"{self._what}: {self._done:,} of {self._files:,} files, {rate / 1e6:,.0f} MB/s, "
            f"about {duration(left)} left",
            file=sys.stderr,
        )


def scan(
    wanted: Traces, places: Places, what: str, *, but: Collection[Path] = (), ledgers: Iterable[str] = ()
) -> TraceScan:
    """Search all files and all Git objects; `but` are files of the cache to skip.

    A file with several paths, by links of any kind, is read once and reported under each.
    """
    result = TraceScan()
    result.seen.unread.update(places.unread)
    trace_of: dict[tuple[int, int], str] = {}
    sizes = {path: _size(path) for path in places.files if path not in but}
    progress = ScanProgress(what, len(sizes), sum(sizes.values()))
    for path, size in sizes.items():
        identity = _identity(path)
        if identity not in trace_of:
            trace_of[identity] = traces.look(path, wanted, result.seen)
        trace = trace_of[identity] or traces.look_at_name(path, wanted)
        if trace:
            result.found[path] = trace
        progress.add(size)
    for folder in places.repositories:
        _objects(wanted, folder, result, frozenset(ledgers))
    return result


def _objects(wanted: Traces, folder: Path, result: TraceScan, ledgers: frozenset[str]) -> None:
    project = folder.parent
    ours = purge_git.of_paths(project, ledgers)
    counted = Seen()
    try:
        for name, content in purge_git.objects(purge_git.folder_of(project, folder)):
            result.git_objects += 1
            if name in ours or purge_git.is_ledger(content):
                continue
            trace = traces.look_at(f"{folder.as_posix()} object {name}", content, wanted, counted)
            if trace:
                result.objects[f"{folder.as_posix()} object {name}"] = trace
    except (purge_git.GitError, OSError) as error:
        result.seen.unread[folder.as_posix()] = str(error)
    counted.files = 0
    result.seen.add(counted)


def proof(
    result: TraceScan, places: Places, tables: Tables, wanted: Traces, remotes: Collection[str]
) -> dict[str, Any]:
    """Return what was searched, what was not, and how: the proof in purges.json."""
    return {
        "scanned": result.seen.files,
        "bytes": result.seen.bytes,
        "members": result.seen.members,
        "git_objects": result.git_objects,
        "left": 0,
        "kinds": dict(sorted(result.seen.kinds.items())),
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
        status = path.stat()
    except OSError:
        return -1, hash(path)
    return status.st_dev, status.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
