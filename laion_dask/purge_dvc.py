"""A DVC repository in, the objects of its cache and remotes out, and those that are not wanted deleted.

A directory that DVC tracks is a list of digests, an object of its own (`….dir`). A file that is written anew has
another digest: `dvc commit` makes it an object, and another list, and puts that into dvc.lock. The old objects are then
named by older commits only; deleting them takes just those files from those versions. `dvc gc` would keep them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laion_dask import traces
from laion_dask.traces import Traces

_LIST = ".dir"


class DvcError(Exception):
    """DVC refuses; the message has what it says."""


def is_repository(project: Path) -> bool:
    """Tell whether a folder is a DVC project with a recorded version."""
    return (project / ".dvc").is_dir() and (project / "dvc.lock").is_file()


def spared(web: Path) -> frozenset[str]:
    """Return the names (md5) that the files of a folder have as objects: those of what stands for the web."""
    found = set()
    for path in web.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                found.add(hashlib.file_digest(stream, "md5").hexdigest())
    return frozenset(found)


def cached(project: Path, web: Path) -> list[Path]:
    """Return all objects of the cache that hold content, but for what stands for the web."""
    from dvc.repo import Repo  # noqa: PLC0415 - a second, and only here

    with Repo(str(project)) as repo:
        folder = Path(repo.cache.local.path)
    kept = spared(web)
    objects = (path for path in sorted(folder.glob("??/*")) if path.is_file())
    return [path for path in objects if not path.suffix and path.parent.name + path.name not in kept]


def commit(project: Path) -> None:
    """Record the outs as they are now, so that no stage runs again for them."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DvcError(
            f"dvc commit: {(done.stderr or done.stdout).strip()}. Remedy: mend it, then `dvc commit --force`"
        )


def in_remote(project: Path, web: Path, name: str, wanted: Traces) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Yield (file system, path, description) of each object of a remote that holds traces; all are read."""
    from dvc.exceptions import DvcException  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    with Repo(str(project)) as repo, tempfile.TemporaryDirectory(prefix="laion-dask-") as folder:
        try:
            remote = repo.cloud.get_remote_odb(name)
        except DvcException as error:
            raise DvcError(f"remote {name}: {error}. Remedy: `dvc remote list`") from error
        kept = spared(web)
        for oid in sorted(remote.all()):
            if oid.endswith(_LIST) or oid in kept:
                continue
            path, copy = remote.oid_to_path(oid), Path(folder) / "object"
            remote.fs.get_file(path, str(copy))
            told = traces.found_in(copy, wanted)
            if told:
                with copy.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size = copy.stat().st_size
                yield remote.fs, path, {"remote": name, "oid": oid, "why": told, "bytes": size, "sha256": digest}
            copy.unlink()
