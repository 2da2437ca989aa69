"""Digest the files that parameters name, for each stage, so that DVC detects a changed file.

Digests are cached until size, times or inode of a file change. Of objects in a bucket, size and ETag stand for the
digest. Other remote files (https://, models of a hub) are listed but not digested.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.inputs import named_files
from laion_dask.inputs.named_files import STAGES, NamedFile
from laion_dask.storage import objects
from laion_dask.storage.files import sha256

CACHE: Final = "inputs.json"
"""Cache of digests, in the folder of unfinished work."""

# A file can change again within one tick of its file system's clock and keep its time, so recent files are not cached.
_RACY_S: Final = 2.0
_THREADS: Final = 4
_LOCAL_DIR: Final = "local-dir:"
_DEMO: Final = "demo"
_TABLE: Final = ".parquet"


class InputsError(Exception):
    """A file that a parameter names is missing; the message has key, path and remedy."""


class Digests:
    """The sha256 of files by path, cached between runs for unchanged files."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache
        self._cached: dict[str, list[Any]] = _read(cache)
        self._current: dict[str, list[Any]] = {}

    def of(self, paths: list[Path]) -> dict[Path, str]:
        """Return the sha256 of each file."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return dict(zip(paths, pool.map(self._digest, paths), strict=True))

    def _digest(self, path: Path) -> str:
        place = str(path.absolute())
        about = path.stat()
        status = [about.st_size, about.st_mtime_ns, about.st_ino, about.st_ctime_ns]
        cached_status, digest = (self._current.get(place) or self._cached.get(place) or [[], ""])[:2]
        if cached_status != status:
            digest = sha256(path)
        self._current[place] = [status, digest]
        return str(digest)

    def save(self) -> None:
        """Write the cache, except files that changed so recently that a further change might go unnoticed."""
        newest = (time.time() - _RACY_S) * 1e9
        lasting = {place: entry for place, entry in self._current.items() if max(entry[0][1], entry[0][3]) < newest}
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._cache.with_name(f".{self._cache.name}.{os.getpid()}")
        fresh.write_text(json.dumps({**self._cached, **lasting}))
        fresh.replace(self._cache)


def _read(cache: Path) -> dict[str, list[Any]]:
    """Read the cache; a damaged one counts as empty."""
    try:
        found = json.loads(cache.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(entry, list) for entry in found.values()) else {}


def describe(settings: params.Params, digests: Digests) -> dict[str, list[dict[str, Any]]]:
    """Return for each stage the named files: key, path as written, and the sha256 of each file there.

    Has no absolute paths and times of this machine, so that a clone gives the same. Outs of earlier stages are left
    out, since DVC tracks them. Raises `InputsError` if something is missing.
    """
    named = [one for one in named_files.named_files(settings) if one.path]
    found: dict[str, list[dict[str, Any]]] = {stage: [] for stage in STAGES}
    missing = [one for one in named if not _is_remote(one.path) and one.made_by() is None and not _files(one)]
    if missing:
        raise InputsError(_message(missing))
    in_buckets = _in_buckets(named)
    for one in named:
        if one.made_by() is None:
            found[one.stage].append(in_buckets.get((one.key, one.path)) or _entry(one, digests))
    remote = [("score", *one) for one in _of_hubs("score.models", settings.score.models)]
    remote += [(key.partition(".")[0], key, name) for key, name in _new_text_models(settings)]
    if settings.report.against is not None and not Path(settings.report.against).is_dir():
        remote.append(("report", "report.against", settings.report.against))  # a revision of Git, which may move
    for stage, key, path in remote:
        found[stage].append({"key": key, "path": path, "digested": False})
    return {stage: sorted(entries, key=lambda entry: str(entry["key"])) for stage, entries in found.items()}


def _message(missing: list[NamedFile]) -> str:
    listed = "; ".join(dict.fromkeys(f"{one.key} = {one.path}" for one in missing))
    return (
        f"missing files: {listed}. Remedy: put the files there, or correct the paths in params.yaml; in `dvc exp "
        "run --temp` and `--queue`, files that Git does not track need an absolute path, or --copy-paths"
    )


def _in_buckets(named: list[NamedFile]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the entry of each address in a bucket by key and path: its objects, each with size and ETag."""
    asked = [one for one in named if one.is_address and objects.can_list(one.path)]
    places = list(dict.fromkeys(one.path for one in asked))
    try:
        found = dict(zip(places, objects.find_all(places), strict=True))
    except objects.ObjectError as error:
        keys = ", ".join(dict.fromkeys(one.key for one in asked))
        raise InputsError(f"{keys}: {error}") from error
    return {
        (one.key, one.path): {
            "key": one.key,
            "path": one.path,
            "objects": {listed.location: {"bytes": listed.bytes, "etag": listed.etag} for listed in found[one.path]},
        }
        for one in asked
    }


def _entry(one: NamedFile, digests: Digests) -> dict[str, Any]:
    if _is_remote(one.path):
        return {"key": one.key, "path": one.path, "digested": False}
    files = _files(one)
    root = Path(one.path)
    named = {_name(path, root): digest for path, digest in digests.of(files).items()}
    return {"key": one.key, "path": one.path, "files": dict(sorted(named.items()))}


def _files(one: NamedFile) -> list[Path]:
    """List the files at a path: the file itself, the matches of a glob, or the files that are read from a folder."""
    return sorted(file for path in one.found() for file in ([path] if path.is_file() else _in_folder(path)))


def _in_folder(folder: Path) -> list[Path]:
    """List the tables of a folder, as a proxy for the shards beside them; without tables, all files (of a model)."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.suffix == _TABLE] or files


def _name(path: Path, root: Path) -> str:
    """Return the name of a file: its path within a named folder, else the path as the glob or the user wrote it."""
    return path.relative_to(root).as_posix() if root in path.parents else path.as_posix()


def _of_hubs(section: str, models: Sequence[params.Model]) -> Iterator[tuple[str, str]]:
    """Yield (key, name) of each CLIP model whose weights come from a hub, by name or tag."""
    for at, model in enumerate(models):
        if not _of_hub(model.model):
            continue
        if model.pretrained is None:
            yield f"{section}.{at}.model", model.model
        elif not Path(model.pretrained).is_file():
            yield f"{section}.{at}.pretrained", f"{model.model}/{model.pretrained}"


def _new_text_models(settings: params.Params) -> Iterator[tuple[str, str]]:
    """Yield (key, name) of each model of a hub that translates, captions, ranks captions or repairs them."""
    named: dict[str, str | None] = {"translate.model": settings.translate.model if settings.translate else None}
    if (rules := settings.caption) is not None:
        named["caption.model"] = rules.model if rules.pretrained is None else f"{rules.model}/{rules.pretrained}"
        named["caption.repair.model"] = rules.repair.model if rules.repair else None
        yield from _of_hubs("caption.rank", rules.rank)
    yield from ((key, name) for key, name in named.items() if name and _of_hub(name))


def _of_hub(model: str) -> bool:
    return model != _DEMO and not model.startswith(_LOCAL_DIR)


def _is_remote(path: str) -> bool:
    return "://" in path


def write(settings: params.Params, digests: Digests, out: Path) -> dict[str, Any]:
    """Write `<stage>.json` for each stage into a folder, and return how many entries, files and undigested ones."""
    described = describe(settings, digests)
    for stage, entries in described.items():
        (out / f"{stage}.json").write_text(json.dumps(entries, indent=2) + "\n")
    digests.save()
    entries = [entry for listed in described.values() for entry in listed]
    return {
        "named": len(entries),
        "files": len(
            {
                (entry["path"], name)
                for entry in entries
                for kind in ("files", "objects")
                for name in entry.get(kind, ())
            }
        ),
        "not_digested": sum(not entry.get("digested", True) for entry in entries),
    }
