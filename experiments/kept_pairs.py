"""The name of a version in, the pictures and captions that it keeps out, in an order that a seed decides.

A version is a folder like `data` (download/ with shards, filter/ or release/ beside it), a Git revision, or a DVC
experiment: of those, shards and verdicts are read where they lie in DVC's cache.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from experiments import versions
from laion_dask.schema.reasons import KEEP
from laion_dask.storage.shards import SUCCESS, read_members

_SHARDS: Final = "download"
_VERDICTS: Final = "filter"
_RELEASE: Final = "release"
_MANIFEST: Final = "manifest.json"
# Of the filter's parameters those that are shown beside a score; all of them are in scores.json.
SHOWN: Final = ("similarity.en", "similarity.multi", "similarity.nolang")


class PairsError(Exception):
    """A version has no pairs to train on; the message says which files are missing, and the remedy."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a version keeps; memory holds a key for each pair, about 100 bytes, and no picture."""

    name: str
    tars: Mapping[str, Path]
    """Of each shard with a kept pair its tar, by the shard's name."""
    keys: Mapping[str, frozenset[str]]
    """Of each of these shards the keys of its kept pairs."""
    parameters: Mapping[str, Any]
    """The filter's parameters; empty where neither params.yaml nor a manifest of the version tells."""
    dropped: Mapping[str, int]
    """Pairs that the version dropped, by reason; empty where there is only a release."""

    @property
    def pairs(self) -> int:
        """Kept pairs whose picture is in a shard."""
        return sum(map(len, self.keys.values()))

    def parameter(self, path: str) -> Any:  # noqa: ANN401 - any value of params.yaml
        """Return one of the filter's parameters by its dotted name, None where it is not known."""
        value: Any = self.parameters
        for step in path.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value


def find(name: str, root: Path = Path(), label: str | None = None) -> Kept:
    """Find what a version keeps: of a folder, or of a revision or experiment of the repository in `root`.

    It is called `label` where one is given, or else by its name.
    Raises `PairsError` where there are no shards, no verdicts or no kept pairs, `versions.ComparedVersionError` where
    Git or DVC's cache lacks them.
    """
    folder = Path(name)
    if folder.is_dir():
        files = {out: _files(folder / out) for out in (_SHARDS, _VERDICTS, _RELEASE)}
        manifest = files[_RELEASE].get(_MANIFEST)
        found = json.loads(manifest.read_text(encoding="utf-8")) if manifest else {}
        parameters = found.get("parameters", {}).get("filter", {})
    else:
        version = versions.read(root, name)
        cache = versions.cache_folder(root)
        files = {out: versions.cached(cache, version, f"data/{out}") for out in (_SHARDS, _VERDICTS)}
        parameters = version.params.get("filter", {})
    tables = {Path(file).stem: path for file, path in files[_SHARDS].items() if file.endswith(".parquet")}
    if not tables or not any(file.endswith(".tar") for file in files[_SHARDS]):
        raise PairsError(
            f"{name} has no {_SHARDS}/ with shards (00000.tar beside 00000.parquet). Remedy: a folder like data after "
            "`make repro`, a tag or commit, or an experiment that `dvc exp list` prints"
        )
    kept, dropped = _verdicts(name, files)
    keys = {shard: _keys(path, kept) for shard, path in sorted(tables.items())}
    keys = {shard: found for shard, found in keys.items() if found}
    missing = [shard for shard in keys if f"{shard}.tar" not in files[_SHARDS]]
    if missing or not keys:
        what = f"lacks {missing[0]}.tar" if missing else "keeps no pair whose picture is in its shards"
        raise PairsError(f"{name} {what}. Remedy: shards and verdicts of the same version, as `make repro` leaves them")
    return Kept(label or name, {shard: files[_SHARDS][f"{shard}.tar"] for shard in keys}, keys, parameters, dropped)


def _files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()} if folder.is_dir() else {}


def _verdicts(name: str, files: Mapping[str, Mapping[str, Path]]) -> tuple[set[str], dict[str, int]]:
    """Return the uids of kept pairs, and how many were dropped by reason."""
    reasons: Counter[str] = Counter()
    kept: set[str] = set()
    # What was removed before a download has a file of its own, and no picture.
    for file, path in files[_VERDICTS].items():
        if file.removesuffix(".parquet").isdigit():
            table = pq.read_table(path, columns=["uid", "reason"])
            of_rows = table["reason"].to_pylist()
            reasons.update(of_rows)
            kept.update(uid for uid, reason in zip(table["uid"].to_pylist(), of_rows, strict=True) if reason == KEEP)
    if reasons:
        reasons.pop(KEEP, None)
        return kept, dict(sorted(reasons.items()))
    # Tables of the release itself: <split>-<number>.parquet; subsets and views have folders of their own.
    for file, path in files.get(_RELEASE, {}).items():
        if file.endswith(".parquet") and file.removesuffix(".parquet").rpartition("-")[2].isdigit():
            kept.update(pq.read_table(path, columns=["uid"])["uid"].to_pylist())
    if not kept:
        raise PairsError(
            f"{name} has neither verdicts in {_VERDICTS}/ nor tables in {_RELEASE}/, or they keep nothing. Remedy: "
            "`make repro` builds both"
        )
    return kept, {}


def _keys(table: Path, kept: set[str]) -> frozenset[str]:
    rows = pq.read_table(table, columns=["key", "uid", "status"]).to_pylist()
    return frozenset(row["key"] for row in rows if row["status"] == SUCCESS and row["uid"] in kept)


def stream(kept: Kept, seed: int, buffer: int, part: int = 0, parts: int = 1) -> Iterator[tuple[str, bytes, str]]:
    """Yield (key, bytes of the picture, caption) without end, again and again through all kept pairs.

    Shards are read in an order drawn anew each time, pairs are drawn from a buffer of as many as `buffer` says (or as
    there are): memory is bounded by it. `part` of `parts` reads every so many-th shard. Same arguments, same order.
    """
    shards = sorted(kept.tars)[part::parts]
    size = min(buffer, sum(len(kept.keys[shard]) for shard in shards))
    if not size:
        raise PairsError(f"part {part} of {parts} has no shard. Remedy: at most {len(kept.tars)} workers")
    rng = np.random.default_rng([seed, part])
    waiting: list[tuple[str, bytes, str]] = []
    while True:
        for place in rng.permutation(len(shards)):
            for sample in _of_shard(kept, shards[place]):
                if len(waiting) < size:
                    waiting.append(sample)
                    continue
                drawn = int(rng.integers(size))
                waiting[drawn], ready = sample, waiting[drawn]
                yield ready


def _of_shard(kept: Kept, shard: str) -> Iterator[tuple[str, bytes, str]]:
    wanted = kept.keys[shard]
    for key, members in read_members(kept.tars[shard]):
        if key in wanted:
            files = {name.rpartition(".")[2]: body for name, body in members}
            caption = files.pop("txt").decode()
            files.pop("json", None)
            yield key, next(iter(files.values())), caption
