"""Read what DVC has recorded of a version: dvc.yaml and dvc.lock, checked against params.yaml and metrics/.

dvc.lock belongs to the last run of each stage. A file that was changed since then describes another version, so
`LockError` names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

PARAMETERS: Final = "params.yaml"
LOCK: Final = "dvc.lock"
PIPELINE: Final = "dvc.yaml"
_REMEDY: Final = "Remedy: run `dvc repro`, or `dvc checkout` the version that you mean"


class LockError(Exception):
    """dvc.lock is missing, or the files beside it belong to another version; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class LockedFile:
    """A file or folder that a stage has read or written, with its digest in DVC's cache."""

    path: str
    md5: str
    """Of the bytes of a file; of the list of digests of a folder, which then ends in `.dir`."""
    bytes: int
    files: int
    """1 for a file."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.md5.endswith(".dir")


@dataclass(frozen=True, slots=True)
class LockedStage:
    """The last run of a stage."""

    name: str
    description: str
    command: str
    parameters: Mapping[str, Any]
    """By key, such as `filter.max_punsafe`."""
    read: tuple[LockedFile, ...]
    written: tuple[LockedFile, ...]

    @property
    def data_read(self) -> tuple[LockedFile, ...]:
        """What it has read but code: outs of earlier stages, and the ledger of removals."""
        return tuple(file for file in self.read if not file.path.startswith(("laion_dask/", "workflow/")))


@dataclass(frozen=True, slots=True)
class Locked:
    """A version as DVC has recorded it, in the order of its stages."""

    stages: tuple[LockedStage, ...]
    sha256: str
    """Of dvc.lock."""

    def parameters(self) -> dict[str, Any]:
        """Return every parameter that a stage has read, by key, sorted."""
        return dict(sorted((key, value) for stage in self.stages for key, value in stage.parameters.items()))

    def files(self) -> dict[str, LockedFile]:
        """Return all data that stages have read or written, by path."""
        return {file.path: file for stage in self.stages for file in (*stage.data_read, *stage.written)}


def read(project: Path) -> Locked:
    """Read a version, and check it; raises `LockError`."""
    pipeline, lock = _yaml(project / PIPELINE), _yaml(project / LOCK)
    recorded = lock.get("stages", {})
    if missing := [name for name in pipeline["stages"] if name not in recorded]:
        raise LockError(f"{LOCK} has no run of {', '.join(missing)}. {_REMEDY}")
    stages = tuple(_stage(name, spec, recorded[name]) for name, spec in pipeline["stages"].items())
    locked = Locked(stages, hashlib.sha256((project / LOCK).read_bytes()).hexdigest())
    _check(project, locked)
    return locked


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise LockError(f"{path.name} is missing. Remedy: run this in the project's folder, after `make repro`")
    try:
        return dict(YAML(typ="safe", pure=True).load(path))
    except (YAMLError, TypeError) as error:
        raise LockError(f"{path.name} cannot be read ({error}). Remedy: restore it from Git") from error


def _stage(name: str, spec: Mapping[str, Any], run: Mapping[str, Any]) -> LockedStage:
    return LockedStage(
        name=name,
        description=spec.get("desc", ""),
        command=run["cmd"],
        parameters=dict(_flat(run.get("params", {}).get(PARAMETERS, {}))),
        read=tuple(_file(entry) for entry in run.get("deps", ())),
        written=tuple(_file(entry) for entry in run.get("outs", ())),
    )


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield `section.key` and value; DVC records a whole section as a mapping, a single parameter by its dotted key."""
    for name, value in values.items():
        if isinstance(value, Mapping) and "." not in name:
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _file(entry: Mapping[str, Any]) -> LockedFile:
    return LockedFile(entry["path"], str(entry.get("md5", "")), int(entry.get("size", 0)), int(entry.get("nfiles", 1)))


def _check(project: Path, locked: Locked) -> None:
    """Compare params.yaml and the small files that Git keeps with what DVC has recorded."""
    now = dict(_flat(_yaml(project / PARAMETERS)))
    for key, value in locked.parameters().items():
        if now.get(key) != value:
            message = f"{PARAMETERS} has {key}: {now.get(key)!r}, the version was built with {value!r}"
            raise LockError(f"{message}. {_REMEDY}")
    for stage in locked.stages:
        for file in stage.written:
            path = project / file.path
            if not file.is_folder and path.is_file() and _md5(path) != file.md5:
                raise LockError(f"{file.path} is not the one that {stage.name} has written. {_REMEDY}")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
