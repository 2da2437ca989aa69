"""Read all objects of Git repositories, whether committed, staged or stashed.

Git packs them, so a search of files cannot see them. All are read, also those that no branch reaches any more.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from laion_dask.blocklists.removal_ledger import COLUMNS
from laion_dask.removals.purge_versions import git


class GitError(Exception):
    """Git cannot list its objects; the message has its error."""


def objects(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every object of the repository in `folder` (.git, or a bare one)."""
    command = ["git", f"--git-dir={folder.resolve()}", "cat-file", "--batch-all-objects", "--batch", "--unordered"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        if process.stdout is None or process.stderr is None:
            raise GitError(f"{folder}: git has no output")
        yield from _read(process.stdout)
        message = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise GitError(f"{folder}: {message}. Remedy: `git fsck`")


def _read(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    while head := stream.readline():
        name, _, size = head.decode().split()
        content = stream.read(int(size))
        stream.read(1)
        yield name, content


def of_paths(project: Path, paths: Iterable[str]) -> frozenset[str]:
    """Return the names of all objects that any commit has at or below one of these paths."""
    prefixes = tuple(Path(path).as_posix() for path in paths if not Path(path).is_absolute())
    if not prefixes:
        return frozenset()
    prefix = git(project, "rev-parse", "--show-prefix").decode().strip()
    listed = git(project, "rev-list", "--all", "--reflog", "--objects", "--", *prefixes).decode("utf-8", "replace")
    rows = [(name, path.removeprefix(prefix)) for name, _, path in map(_parted, listed.splitlines())]
    return frozenset(name for name, path in rows if any(f"{path}/".startswith(f"{one}/") for one in prefixes))


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def is_ledger(content: bytes) -> bool:
    """Tell whether an object is a ledger of removals, even if no commit has it any more."""
    return content.removeprefix(b"\xef\xbb\xbf").startswith(",".join(COLUMNS).encode())


def folder_of(project: Path, place: Path) -> Path:
    """Return the folder of a working tree's objects, given its .git, which in a worktree is a file."""
    if place.is_dir():
        return place
    answer = git(project, "rev-parse", "--git-common-dir").decode().strip()
    return project / answer if answer else place
