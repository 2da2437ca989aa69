"""List every file that a purge has to search, and those that it skips with the reason.

It searches the project's whole folder, DVC's cache, MLflow's artifacts by its database, and folders that the user
names. Links are followed. It skips inputs and lists of what to remove: the crawl, files that parameters name as input,
the ledger, lists of known content.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from laion_dask.params import Params
from laion_dask.removals import purge_record
from laion_dask.removals.purge_versions import WEB

_CACHES: Final = frozenset({"pyvenv.cfg"})
"""A folder with one of these files is a virtual environment, which holds installed programs and no data."""


_OF_GIT: Final = ("HEAD", "objects", "refs")
"""Every Git repository has these, also a bare one and that of a submodule."""
_ASKED: Final = "objects of Git are asked of it"


class PlaceError(Exception):
    """A folder that should be searched does not exist; the message names it."""


DEMO: Final = "laion_dask/demo"
"""In a clone of this repository: its files have the captions of the demo's pairs."""


@dataclass
class Places:
    """The files that a purge searches, and those that it skips."""

    files: list[Path] = field(default_factory=list)
    """Each path once; several may be links to the same content."""
    repositories: list[Path] = field(default_factory=list)
    """Git's folders."""
    spared: dict[str, str] = field(default_factory=dict)
    """Skipped paths with the reason."""
    unread: dict[str, str] = field(default_factory=dict)
    artifacts: list[Path] = field(default_factory=list)
    """Folders of MLflow's artifacts."""


def find(project: Path, data: Path, home: Path, settings: Params, more: Iterable[Path] = ()) -> Places:
    """List the files of a project and of further folders, in order."""
    places = Places()
    spared = _spared(data, home, settings)
    places.artifacts = _artifacts(project, places)
    folders = [project, data, home, *places.artifacts, *more]
    visited: set[tuple[int, int]] = set()
    listed: set[Path] = set()
    for folder in folders:
        for path in _walk(folder, spared, visited, places):
            if path not in listed:
                listed.add(path)
                places.files.append(path)
    return places


def add(places: Places, folder: Path) -> None:
    """Add the files of one more folder, such as a cache outside of the project."""
    listed = {path.parent.resolve() / path.name for path in places.files}
    fresh = _walk(folder, {}, set(), places)
    places.files += [path for path in fresh if path.parent.resolve() / path.name not in listed]


def _spared(data: Path, home: Path, settings: Params) -> dict[Path, str]:
    """Return the paths to skip, with the reason."""
    skipped = {
        data / WEB: "stands for the web",
        Path(settings.catalog.removals): "the ledger: it says what must be kept out",
        home / purge_record.TRACES: "what is searched for, until this purge has ended",
    }
    if settings.crawl.source == "demo":
        skipped[Path(DEMO)] = "makes the demo's web, captions too"
    listed = "a list of known content: it says what must be kept out"
    skipped |= dict.fromkeys((Path(one.file) for one in settings.catalog.lists), listed)
    for name, globs in (("crawl.files", settings.crawl.files), ("download.warcs", settings.download.warcs)):
        for glob in globs:
            if "://" in glob:
                continue
            here = Path(glob)
            paths = Path(here.anchor).glob(str(here.relative_to(here.anchor))) if here.anchor else Path().glob(glob)
            skipped |= dict.fromkeys(paths, f"an input that {name} names: it stands for the web")
    return {path.absolute(): why for path, why in skipped.items()}


def _walk(folder: Path, spared: dict[Path, str], visited: set[tuple[int, int]], places: Places) -> Iterator[Path]:
    """Yield the files below a folder, in order; a folder with several links only once."""
    if folder.is_file():
        yield folder
        return
    for path in _entries(folder, visited, places):
        why = spared.get(path.absolute())
        if why:
            places.spared |= {path.as_posix(): why} if why != _ASKED else {}
        elif path.name == ".git" and path.is_file():
            places.repositories.append(path)
        elif path.is_dir() and all((path / name).exists() for name in _OF_GIT):
            # Git itself lists its objects; its other files (messages, logs, git-lfs) are searched like all files.
            places.repositories.append(path)
            yield from _walk(path, spared | {(path / "objects").absolute(): _ASKED}, visited, places)
        elif path.is_dir():
            yield from _walk(path, spared, visited, places)
        elif path.is_file():
            yield path
        elif path.is_symlink():
            places.spared[path.as_posix()] = "a link to nothing"


def _entries(folder: Path, visited: set[tuple[int, int]], places: Places) -> list[Path]:
    """List a folder; nothing if it was visited before or cannot be read."""
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            return []
        visited.add((status.st_dev, status.st_ino))
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        places.unread[folder.as_posix()] = error.strerror or str(error)
        return []
    if not _CACHES.isdisjoint(names):
        places.spared[folder.as_posix()] = "an environment of Python"
        return []
    return [folder / name for name in names]


def _artifacts(project: Path, places: Places) -> list[Path]:
    """Return the folders of MLflow's artifacts: `mlruns`, and those that its database names."""
    folders = dict.fromkeys([project / "mlruns"])
    address = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    if not address.startswith("sqlite:///"):
        places.spared[address] = "MLflow's server: its artifacts are not looked into"
        return list(folders)
    database = project / address.removeprefix("sqlite:///")
    if not database.is_file():
        return list(folders)
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "select artifact_location from experiments union select artifact_uri from runs"
            ).fetchall()
    except sqlite3.Error as error:
        places.unread[database.as_posix()] = f"MLflow's database: {error}"
        return list(folders)
    for (location,) in sorted(row for row in rows if row[0]):
        parts = urlsplit(location)
        if parts.scheme in {"", "file"}:
            # A relative address is read from the folder of the database, as it is written.
            folders[database.parent / (unquote(parts.path) if parts.scheme else location)] = None
        else:
            places.spared[location] = "artifacts of MLflow elsewhere: not looked into"
    resolved = [folder.resolve() for folder in folders]
    return [folder for folder in folders if not any(one in folder.resolve().parents for one in resolved)]
