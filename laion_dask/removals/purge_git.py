"""Read the objects of Git repositories: whatever was ever committed, staged or stashed.

Git keeps them packed, so that no search of files sees them. All are read, also those that no branch reaches any more.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from laion_dask.blocklists.removal_ledger import COLUMNS
from laion_dask.removals.purge_versions import git


class GitError(Exception):
    """Git does not give its objects; the message has what it says."""


def objects(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every object of the repository whose folder is `folder` (.git, or a bare one)."""
    command = ["git", f"--git-dir={folder.resolve()}", "cat-file", "--batch-all-objects", "--batch", "--unordered"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if process.stdout is None or process.stderr is None:
            raise GitError(f"{folder}: git has no output")
        yield from _read(process.stdout)
        told = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise GitError(f"{folder}: {told}. Remedy: `git fsck`")


def _read(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    while head := stream.readline():
        name, _, size = head.decode().split()
        content = stream.read(int(size))
        stream.read(1)
        yield name, content


def of_paths(project: Path, paths: Iterable[str]) -> frozenset[str]:
    """Return the names of all objects that any commit has at one of these paths, or below it."""
    wanted = tuple(Path(path).as_posix() for path in paths if not Path(path).is_absolute())
    if not wanted:
        return frozenset()
    prefix = git(project, "rev-parse", "--show-prefix").decode().strip()
    listed = git(project, "rev-list", "--all", "--reflog", "--objects", "--", *wanted).decode("utf-8", "replace")
    rows = [(name, path.removeprefix(prefix)) for name, _, path in map(_parted, listed.splitlines())]
    return frozenset(name for name, path in rows if any(f"{path}/".startswith(f"{one}/") for one in wanted))


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def is_ledger(content: bytes) -> bool:
    """Tell whether an object is a ledger of removals that no commit has any more: it names what is removed."""
    return content.removeprefix(b"\xef\xbb\xbf").startswith(",".join(COLUMNS).encode())


def folder_of(project: Path, place: Path) -> Path:
    """Return where a working tree keeps its objects: `place` is its .git, which in a worktree is a file."""
    if place.is_dir():
        return place
    told = git(project, "rev-parse", "--git-common-dir").decode().strip()
    return project / told if told else place
