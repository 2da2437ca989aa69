"""Find the tables of every version that the Git history names and DVC's cache still has.

A removed pair may be only in an older version, which stays in DVC's cache until it is deleted. dvc.lock of every
commit, branch, tag, experiment and reflog names the outs of its version, and the cache has their lists of files.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laion_dask.storage.numbered import tables

WEB: Final = "crawl"
"""The stage whose files are inputs from the web, which a purge does not delete."""
STAGES: Final = ("extract", "download", "filter")
"""Stages whose tables have the traces of pairs, or say which are withheld."""
_LOCK: Final = "dvc.lock"
_OUT: Final = re.compile(r"path: data/([a-z]+)\s+(?:hash: md5\s+)?md5: ([0-9a-f]{32})\.dir\b")


@dataclass(frozen=True)
class Tables:
    """Tables with the traces of pairs, of all versions, each file once."""

    pairs: tuple[Path, ...] = ()
    """Of `extract` and `download`."""
    shards: tuple[tuple[Path, Path], ...] = ()
    """Table and tar of `download`."""
    verdicts: tuple[Path, ...] = ()
    old_verdicts: tuple[Path, ...] = ()
    web: frozenset[str] = frozenset()
    """md5 of the crawl's files in any version."""
    versions: int = 0
    without: tuple[str, ...] = ()
    """Versions with a table, or its list of files, missing from the cache."""


def current(data: Path) -> Tables:
    """Return the tables of the version in the project's folder."""
    shards = tables(data / "download")
    return Tables(
        pairs=(*sorted(data.glob("extract/pairs/*.parquet")), *shards),
        shards=tuple((table, tar) for table in shards if (tar := table.with_suffix(".tar")).is_file()),
        verdicts=tuple(sorted((data / "filter").glob("*.parquet"))),
    )


def of_project(project: Path, data: Path, cache: Path) -> Tables:
    """Return the tables of the current version and of all others in the Git history."""
    here = current(data)
    pairs, shards, verdicts = dict.fromkeys(here.pairs), dict.fromkeys(here.shards), dict[Path, None]()
    web: set[str] = set()
    incomplete = []
    locks = _locks(project)
    for name, lock in locks.items():
        whole = True
        for stage, digest in dict.fromkeys(_OUT.findall(lock)):
            if stage != WEB and stage not in STAGES:
                continue
            listed = _listed(cache, digest)
            if stage == WEB:
                web.update((listed or {}).values())
                continue
            objects = {name: cache / md5[:2] / md5[2:] for name, md5 in (listed or {}).items()}
            tables = {name: path for name, path in objects.items() if name.endswith(".parquet") and path.is_file()}
            whole &= listed is not None and len(tables) == sum(name.endswith(".parquet") for name in objects)
            if stage == "filter":
                verdicts.update(dict.fromkeys(tables.values()))
            elif stage == "extract":
                pairs.update(dict.fromkeys(path for name, path in tables.items() if name.startswith("pairs/")))
            else:
                pairs.update(dict.fromkeys(tables.values()))
                tars = {name: objects.get(name.removesuffix(".parquet") + ".tar") for name in tables}
                shards.update({(tables[name], tar): None for name, tar in tars.items() if tar and tar.is_file()})
        if not whole:
            incomplete.append(name)
    return Tables(
        tuple(pairs), tuple(shards), here.verdicts, tuple(verdicts), frozenset(web), len(locks), tuple(incomplete)
    )


def _listed(cache: Path, digest: str) -> dict[str, str] | None:
    """Return the files of a directory and their md5; None if its list is not in the cache."""
    path = cache / digest[:2] / f"{digest[2:]}.dir"
    if not path.is_file():
        return None
    return {one["relpath"]: one["md5"] for one in json.loads(path.read_bytes())}


def _locks(project: Path) -> dict[str, str]:
    """Return every dvc.lock by the name of its version: that on disk, and all in Git."""
    locks = {}
    for path in (project / _LOCK, *sorted(project.glob(f".dvc/tmp/exps/**/{_LOCK}"))):
        if path.is_file():
            locks[path.relative_to(project).as_posix()] = path.read_text(encoding="utf-8", errors="replace")
    listed = git(project, "rev-list", "--all", "--reflog", "--objects", "--", _LOCK).decode().splitlines()
    blobs = [line.partition(" ")[0] for line in listed if line.endswith(f"{_LOCK}")]
    refs = _names(project)
    for blob in dict.fromkeys(blobs):
        text = git(project, "cat-file", "blob", blob).decode("utf-8", "replace")
        locks[refs.get(blob, f"dvc.lock {blob[:10]}")] = text
    different: dict[str, str] = {}
    for name, text in locks.items():
        different.setdefault(text, name)
    return {name: text for text, name in different.items()}


def _names(project: Path) -> dict[str, str]:
    """Return the name of a branch, tag or experiment by the blob of its dvc.lock."""
    refs = git(project, "for-each-ref", "--format=%(refname)").decode().split()
    request = "".join(f"{ref}:./{_LOCK}\n" for ref in refs).encode()
    answer = git(project, "cat-file", "--batch-check=%(objectname) %(objecttype)", given=request).decode().splitlines()
    names: dict[str, str] = {}
    for ref, line in zip(refs, answer, strict=False):
        blob, _, kind = line.partition(" ")
        if kind == "blob":
            names.setdefault(blob, re.sub(r"^refs/(heads/|tags/|exps/(?:[0-9a-f]{2}/[0-9a-f]{38}/)?)?", "", ref))
    return names


def git(project: Path, *arguments: str, given: bytes | None = None) -> bytes:
    """Return the output of a Git command; empty if it fails, for example outside of a repository."""
    command = ("git", *arguments)
    done = subprocess.run(command, cwd=project, input=given, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""
