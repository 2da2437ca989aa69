"""Take the tables that the history reads out of DVC's cache; pictures are left there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from laion_dask.versions import checkout
from laion_dask.versions.histories import HistoryError, VersionTables

_STAGES: Final = ("extract", "download", "score", "filter", "release")


@contextmanager
def opened(name: str, project: Path = Path()) -> Iterator[VersionTables]:
    """Yield the tables of a Git revision or DVC experiment for as long as they are needed. Raises `HistoryError`."""
    from dvc.api import DVCFileSystem  # noqa: PLC0415 - half a second, and only revisions need it
    from dvc.exceptions import DvcException  # noqa: PLC0415

    commit = checkout.find_commit(name, project)
    with tempfile.TemporaryDirectory(prefix="laion-dask-") as folder:
        try:
            there = DVCFileSystem(str(project.resolve()), rev=commit)
            for stage in _STAGES:
                for path in there.find(f"data/{stage}") if there.exists(f"data/{stage}") else ():
                    if path.endswith(".parquet") or path == "data/release/manifest.json":
                        target = Path(folder) / path
                        target.parent.mkdir(parents=True, exist_ok=True)
                        there.get_file(path, str(target))
        except (DvcException, OSError) as error:
            message = (
                f"the tables of {name} ({commit[:10]}) cannot be had from DVC's cache ({error}). Remedy: `dvc fetch "
                "--all-commits`; what was purged from it does not come back"
            )
            raise HistoryError(message) from error
        yield VersionTables(name, Path(folder) / "data")
