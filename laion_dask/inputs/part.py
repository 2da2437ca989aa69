"""What parameters name by path, digested for each stage: so that DVC sees a file that has changed under its name.

A digest is read again only where size, time or inode of a file are others than last time; the first look at a file
reads all of it. What lies elsewhere (s3://, https://, models of a hub) is named, and not digested.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.inputs import named_files
from laion_dask.inputs.named_files import STAGES, NamedFile
from laion_dask.storage.files import sha256

CACHE: Final = "inputs.json"
"""In the folder of work in progress: what was read of each file."""

# A file that was changed within the tick of a clock in which it was read may change again and keep its time.
_RACY_S: Final = 2.0
_THREADS: Final = 4
_LOCAL_DIR: Final = "local-dir:"
_DEMO: Final = "demo"
_TABLE: Final = ".parquet"


class InputsError(Exception):
    """A file that a parameter names is not there, or cannot be read; the message has key, path and remedy."""


class Digests:
    """The sha256 of files by path, kept from one run to the next for those that did not change."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._known: dict[str, list[Any]] = _read(cache)
        self._now: dict[str, list[Any]] = {}

    def of(self, paths: list[Path]) -> dict[Path, str]:
        """Return the sha256 of each file."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return dict(zip(paths, pool.map(self._digest, paths), strict=True))

    def _digest(self, path: Path) -> str:
        place = str(path.absolute())
        about = path.stat()
        status = [about.st_size, about.st_mtime_ns, about.st_ino, about.st_ctime_ns]
        found, digest = (self._now.get(place) or self._known.get(place) or [[], ""])[:2]
        if found != status:
            digest = sha256(path)
        self._now[place] = [status, digest]
        return str(digest)

    def keep(self) -> None:
        """Write the cache, without what was changed so lately that a change after this would not show."""
        newest = (time.time() - _RACY_S) * 1e9
        lasting = {place: entry for place, entry in self._now.items() if max(entry[0][1], entry[0][3]) < newest}
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._cache.with_name(f".{self._cache.name}.{os.getpid()}")
        fresh.write_text(json.dumps({**self._known, **lasting}))
        fresh.replace(self._cache)


def _read(cache: Path) -> dict[str, list[Any]]:
    """Read the cache; a damaged one is as none, since all it holds can be read anew."""
    try:
        found = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(entry, list) for entry in found.values()) else {}


def describe(settings: params.Params, digests: Digests) -> dict[str, list[dict[str, Any]]]:
    """Return for each stage what its parameters name: key, path as written, and what lies there with its sha256.

    Nothing of this machine's paths and clocks, so that it is the same in a clone. What earlier stages make is left out,
    as DVC follows it. Raises `InputsError` where something is missing.
    """
    named = [one for one in named_files.named_files(settings) if one.path]
    found: dict[str, list[dict[str, Any]]] = {stage: [] for stage in STAGES}
    missing = [one for one in named if not _is_remote(one.path) and one.made_by() is None and not _files(one)]
    if missing:
        raise InputsError(_told(missing))
    for one in named:
        if one.made_by() is None:
            found[one.stage].append(_entry(one, digests))
    elsewhere = [("score", *one) for one in _of_hubs(settings.score)]
    if settings.report.against is not None and not Path(settings.report.against).is_dir():
        elsewhere.append(("report", "report.against", settings.report.against))  # a revision of Git, which may move
    for stage, key, path in elsewhere:
        found[stage].append({"key": key, "path": path, "digested": False})
    return {stage: sorted(entries, key=lambda entry: str(entry["key"])) for stage, entries in found.items()}


def _told(missing: list[NamedFile]) -> str:
    listed = "; ".join(dict.fromkeys(f"{one.key} = {one.path}" for one in missing))
    return (
        f"nothing is there: {listed}. Remedy: put the files there, or correct the paths in params.yaml; in `dvc exp "
        "run --temp` and `--queue`, files that Git does not track need an absolute path, or --copy-paths"
    )


def _entry(one: NamedFile, digests: Digests) -> dict[str, Any]:
    if _is_remote(one.path):
        return {"key": one.key, "path": one.path, "digested": False}
    files = _files(one)
    root = Path(one.path)
    of = {_name(path, root): digest for path, digest in digests.of(files).items()}
    return {"key": one.key, "path": one.path, "files": dict(sorted(of.items()))}


def _files(one: NamedFile) -> list[Path]:
    """List the files that lie at a path: it, those of a glob, or those of a folder that are read."""
    return sorted(file for path in one.found() for file in ([path] if path.is_file() else _in_folder(path)))


def _in_folder(folder: Path) -> list[Path]:
    """List the tables of a folder, which stand for the shards beside them; without tables all files: a model's."""
    every = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in every if path.suffix == _TABLE] or every


def _name(path: Path, root: Path) -> str:
    """Return how a file is called: within a folder by its path there, else as the glob or the user has written it."""
    return path.relative_to(root).as_posix() if root in path.parents else path.as_posix()


def _of_hubs(rules: params.Score) -> Iterator[tuple[str, str]]:
    """Yield (key, name) of each model whose weights come from a hub, by name or tag."""
    for at, model in enumerate(rules.models):
        if model.model == _DEMO or model.model.startswith(_LOCAL_DIR):
            continue
        if model.pretrained is None:
            yield f"score.models.{at}.model", model.model
        elif not Path(model.pretrained).is_file():
            yield f"score.models.{at}.pretrained", f"{model.model}/{model.pretrained}"


def _is_remote(path: str) -> bool:
    return "://" in path


def write(settings: params.Params, digests: Digests, out: Path) -> dict[str, Any]:
    """Write `<stage>.json` for each stage into a folder, and return the counts: of entries, files, and not digested."""
    described = describe(settings, digests)
    for stage, entries in described.items():
        (out / f"{stage}.json").write_text(json.dumps(entries, indent=2) + "\n")
    digests.keep()
    every = [entry for entries in described.values() for entry in entries]
    return {
        "named": len(every),
        "files": len({(entry["path"], name) for entry in every for name in entry.get("files", ())}),
        "not_digested": sum(not entry.get("digested", True) for entry in every),
    }
