"""One project as a purge sees it: its folders, the tables of its versions, and which files are only copies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.removals import purge_dvc, purge_places, purge_versions
from laion_dask.removals.purge import Copies
from laion_dask.removals.purge_places import Places
from laion_dask.removals.purge_versions import WEB, Tables
from laion_dask.removals.traces.traces import Seen, Traces
from laion_dask.runner import trace_file

_EXPERIMENTS = Path(".dvc/tmp/exps")
"""DVC's working copies of experiments, which stay there after a failure."""


@dataclass(frozen=True)
class Project:
    """A project's folders, and the tables of its versions."""

    root: Path
    data: Path
    home: Path
    settings: Params
    also: tuple[Path, ...]
    cache: Path | None
    """DVC's cache; None where DVC has no recorded version."""
    tables: Tables
    kept: frozenset[str]
    """md5 of objects of the crawl, which are not purged."""

    @classmethod
    def open(cls, root: Path, data: Path, home: Path, settings: Params, also: tuple[Path, ...]) -> Project:
        """Read the project's versions from DVC and Git; without these it has only the current one."""
        for folder in also:
            if not folder.exists():
                raise purge_places.PlaceError(f"--also {folder} does not exist. Remedy: name an existing folder")
        if not purge_dvc.is_repository(root):
            return cls(root, data, home, settings, also, None, purge_versions.current(data), frozenset())
        cache = purge_dvc.folder(root)
        tables = purge_versions.of_project(root, data, cache)
        return cls(root, data, home, settings, also, cache, tables, purge_dvc.spared(data / WEB, tables.web))

    @property
    def ledgers(self) -> list[str]:
        """Paths in Git of the ledger, the lists of known content, and the demo's sources."""
        demo = [purge_places.DEMO] if self.settings.crawl.source == "demo" else []
        return [self.settings.catalog.removals, *(one.file for one in self.settings.catalog.lists), *demo]

    def places(self, *, with_database: bool = True) -> Places:
        """List the files to search; the embedded database only after its deletion, to check that."""
        found = purge_places.find(self.root, self.data, self.home, self.settings, self.also)
        if self.cache is not None:
            purge_places.add(found, self.cache)
        if not with_database:
            database = self.home / "postgresql"
            found.files = [path for path in found.files if database not in path.parents]
        return found

    def web(self, places: Places) -> frozenset[Path]:
        """Return the cached objects of the crawl, which a purge keeps."""
        objects = self._objects(places)
        if objects:
            places.spared["objects of data/crawl in DVC's cache"] = "stand for the web"
        return frozenset(path for path, md5 in objects.items() if md5 in self.kept)

    def copies(self, places: Places) -> Copies:
        """Return the files and folders that may be deleted whole."""
        times = self.data / trace_file.FOLDER  # of runs: nothing depends on them
        folders = [folder.absolute() for folder in (*places.artifacts, self.root / _EXPERIMENTS, times)]
        files = {path for path in places.files if any(folder in path.absolute().parents for folder in folders)}
        objects = (path for path, md5 in self._objects(places).items() if md5 not in self.kept)
        return Copies(frozenset({*files, *objects}), tuple(sorted((self.home / "parts").glob("*/*"))))

    def in_remotes(self, names: list[str], wanted: Traces, seen: Seen) -> list[tuple[Any, str, dict[str, Any]]]:
        """Return the objects of remotes that hold traces."""
        return [found for name in names for found in purge_dvc.in_remote(self.root, self.kept, name, wanted, seen)]

    def _objects(self, places: Places) -> dict[Path, str]:
        """Return the md5 of each file among `places` that is an object of the cache; links are left out."""
        if self.cache is None:
            return {}
        known = {path.parent.resolve() / path.name: md5 for path, md5 in purge_dvc.objects(self.cache).items()}
        paths = {path: path.parent.resolve() / path.name for path in places.files if not path.is_symlink()}
        return {path: known[real] for path, real in paths.items() if real in known}
