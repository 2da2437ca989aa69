"""List and delete objects of a DVC repository's cache and remotes.

DVC stores a directory as an object that lists digests (`….dir`). A rewritten file has another digest: `dvc commit` adds
an object for it and a new list, and records that in dvc.lock. Then only older commits name the old objects; deleting
these removes just those files from those versions. `dvc gc` would keep them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laion_dask.removals.traces import traces
from laion_dask.removals.traces.traces import Seen, Traces
from laion_dask.storage.files import sha256

_LIST = ".dir"


class DvcError(Exception):
    """A DVC command failed; the message has its error."""


def is_repository(project: Path) -> bool:
    """Tell whether a folder is a DVC project with a recorded version."""
    return (project / ".dvc").is_dir() and (project / "dvc.lock").is_file()


def folder(project: Path) -> Path:
    """Return the folder of DVC's cache, as DVC's configuration names it."""
    from dvc.repo import Repo  # noqa: PLC0415 - a second, and only here

    with Repo(str(project)) as repo:
        return Path(repo.cache.local.path)


def spared(web: Path, old: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the names (md5) of objects of the crawl, which a purge keeps: of its folder now and of older versions."""
    digests = set(old)
    for path in web.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                digests.add(hashlib.file_digest(stream, "md5").hexdigest())
    return frozenset(digests)


def objects(cache: Path) -> dict[Path, str]:
    """Return the name (md5) of each object of the cache, without the lists of directories."""
    paths = (path for path in sorted(cache.glob("??/*")) if path.is_file() and not path.suffix)
    return {path: path.parent.name + path.name for path in paths}


def commit(project: Path) -> None:
    """Record the outs as they are now, so that no stage runs again."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "--force", "--quiet"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DvcError(
            f"dvc commit: {(done.stderr or done.stdout).strip()}. Remedy: fix the cause, then `dvc commit --force`"
        )


def in_remote(
    project: Path, kept: frozenset[str], name: str, wanted: Traces, seen: Seen
) -> Iterator[tuple[Any, str, dict[str, Any]]]:
    """Yield (file system, path, description) of each object of a remote that holds traces, without reading `kept`."""
    from dvc.exceptions import DvcException  # noqa: PLC0415
    from dvc.repo import Repo  # noqa: PLC0415

    with Repo(str(project)) as repo, tempfile.TemporaryDirectory(prefix="laion-dask-") as folder:
        try:
            remote = repo.cloud.get_remote_odb(name)
        except DvcException as error:
            raise DvcError(f"remote {name}: {error}. Remedy: `dvc remote list`") from error
        for oid in sorted(remote.all()):
            if oid.endswith(_LIST) or oid in kept:
                continue
            path, copy = remote.oid_to_path(oid), Path(folder) / "object"
            remote.fs.get_file(path, str(copy))
            unread = Seen()
            trace = traces.look(copy, wanted, unread)
            unread.unread = {f"{name}: object {oid}": why for why in unread.unread.values()}
            seen.add(unread)
            if trace:
                digest = sha256(copy)
                size = copy.stat().st_size
                yield remote.fs, path, {"remote": name, "oid": oid, "why": trace, "bytes": size, "sha256": digest}
            copy.unlink()
