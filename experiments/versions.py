"""A Git revision in, one dataset version out: its parameters, counts and hashes, and its files in DVC's cache.

Only tracked files are read (params.yaml, dvc.lock, metrics/), so that a version needs neither a checkout nor its run.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

_TRACKED: Final = ("params.yaml", "dvc.lock", "metrics")
_EXPERIMENTS: Final = "refs/exps/"
# refs/exps/<2 digits>/<38 digits of the commit>/<name>; others of DVC's references have other forms.
_REF_PARTS: Final = 5


class ComparedVersionError(Exception):
    """A revision holds no version, or its files are not in the cache; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class ComparedVersion:
    """One version by its tracked files; `name` is that of the experiment, or of the revision."""

    name: str
    rev: str
    params: Mapping[str, Any]
    lock: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, bytes]
    """Of each tracked file its bytes, by path."""

    @property
    def outs(self) -> dict[str, str]:
        """DVC's hash of each data out, by its path."""
        return {
            out["path"]: str(out.get("md5", ""))
            for stage in self.lock.get("stages", {}).values()
            for out in stage.get("outs", [])
        }

    def number(self, path: str) -> float | None:
        """Return a number of the metrics by its dotted path (`report.truth.keep.recall`), None where there is none."""
        value: Any = self.metrics
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return float(value) if isinstance(value, int | float) else None


def git(root: Path, *arguments: str) -> bytes:
    """Run Git and return what it prints; `ComparedVersionError` with what it says where it fails."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)  # noqa: S607 - as users do
    if done.returncode:
        raise ComparedVersionError(f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def blobs(root: Path, names: Sequence[str]) -> list[bytes]:
    """Return the files of Git objects such as `<commit>:dvc.lock`, b"" for one that is not there, in one call."""
    done = subprocess.run(
        ["git", "cat-file", "--batch"],  # noqa: S607 - as users do
        cwd=root,
        input="".join(f"{name}\n" for name in names).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise ComparedVersionError(f"git cat-file: {done.stderr.decode(errors='replace').strip()}")
    stream, found = io.BytesIO(done.stdout), []
    for _ in names:
        head = stream.readline().split()
        is_file = head[-1:] != [b"missing"]
        found.append(stream.read(int(head[-1])) if is_file else b"")
        stream.read(1 if is_file else 0)  # the line end behind a file
    return found


def experiments(root: Path) -> dict[str, str]:
    """Return the commit of each DVC experiment by its name, in the order in which they were made."""
    form = "%(refname) %(objectname)"
    lines = git(root, "for-each-ref", "--sort=creatordate", f"--format={form}", _EXPERIMENTS).decode().splitlines()
    found: dict[str, str] = {}
    for ref, commit in (line.split(" ") for line in lines):
        parts = ref.split("/")
        if len(parts) == _REF_PARTS and len(parts[2]) + len(parts[3]) == len(commit):
            found[parts[4]] = commit
    return found


def read(root: Path, rev: str, name: str | None = None) -> ComparedVersion:
    """Read the version of a revision (commit, branch, or name of an experiment).

    Raises `ComparedVersionError` if the revision holds none.
    """
    rev = experiments(root).get(rev, rev)
    commit = git(root, "rev-parse", "--verify", f"{rev}^{{commit}}").decode().strip()
    listed = set(git(root, "ls-tree", "--name-only", commit, *_TRACKED).decode().split())
    if not set(_TRACKED) <= listed:
        missing = ", ".join(sorted(set(_TRACKED) - listed))
        raise ComparedVersionError(f"{rev} has no {missing}: no version was built there")
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", commit, *_TRACKED))) as archive:
        for member in archive:
            body = archive.extractfile(member)
            if body is not None:
                files[member.name] = body.read()
    yaml = YAML(typ="safe", pure=True)
    metrics = {Path(path).stem: json.loads(body) for path, body in files.items() if path.startswith("metrics/")}
    return ComparedVersion(
        name or rev, commit, yaml.load(files["params.yaml"]), yaml.load(files["dvc.lock"]) or {}, metrics, files
    )


def cached(cache: Path, version: ComparedVersion, out: str) -> dict[str, Path]:
    """Return the files of an out as they lie in DVC's cache, by their path inside it.

    Raises `ComparedVersionError` where the version has no such out, or a file is not in the cache of this machine.
    """
    digest = version.outs.get(out, "")
    if not digest:
        raise ComparedVersionError(f"{version.name} has no out {out} in its dvc.lock")
    listing = _object(cache, digest, version)
    entries = json.loads(listing.read_text())
    return {entry["relpath"]: _object(cache, entry["md5"], version) for entry in entries}


def cache_folder(root: Path) -> Path:
    """Return the folder of DVC's cache; `ComparedVersionError` outside of a DVC project."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ComparedVersionError(f"dvc cache dir: {done.stderr.strip()}")
    return root / done.stdout.strip()


def object_path(cache: Path, digest: str) -> Path:
    """Return where the cache has the content of a hash, whether it is there or not."""
    return cache / "files" / "md5" / digest[:2] / digest[2:]


def _object(cache: Path, digest: str, version: ComparedVersion) -> Path:
    path = object_path(cache, digest)
    if not path.is_file():
        raise ComparedVersionError(
            f"{version.name}: {digest} is not in the cache {cache}."
            f" Remedy: `dvc fetch` it from a remote, or build the version again"
        )
    return path
