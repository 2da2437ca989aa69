"""Copy the tables that the history reads from DVC's cache, without pictures."""

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
    """Yield the tables of a Git revision or DVC experiment, in a temporary folder. Raises `HistoryError`."""
    from dvc.api import DVCFileSystem  # noqa: PLC0415 - half a second, and only revisions need it
    from dvc.exceptions import DvcException  # noqa: PLC0415
    from dvc_data.index import DataIndexDirError  # noqa: PLC0415

    commit = checkout.find_commit(name, project)
    with tempfile.TemporaryDirectory(prefix="laion-dask-") as folder:
        try:
            system = DVCFileSystem(str(project.resolve()), rev=commit)
            for stage in _STAGES:
                for path in system.find(f"data/{stage}") if system.exists(f"data/{stage}") else ():
                    if path.endswith(".parquet") or path == "data/release/manifest.json":
                        target = Path(folder) / path
                        target.parent.mkdir(parents=True, exist_ok=True)
                        system.get_file(path, str(target))
        except (DvcException, DataIndexDirError, OSError) as error:
            message = (
                f"the tables of {name} ({commit[:10]}) cannot be read from DVC's cache ({error}). Remedy: `dvc fetch "
                "--all-commits`; purged files cannot be restored"
            )
            raise HistoryError(message) from error
        yield VersionTables(name, Path(folder) / "data")
