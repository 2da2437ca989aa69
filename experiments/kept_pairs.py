"""The name of a version in, the pictures and texts that it keeps out, in an order that a seed decides.

A version is a folder like `data` (download/ with shards, filter/ or release/ beside it), a Git revision, or a DVC
experiment: of those, shards and verdicts are read where they lie in DVC's cache. The text of a pair is its alt text, or
what the stages translate and caption wrote for it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow.parquet as pq

from experiments import versions
from laion_dask.schema.reasons import KEEP
from laion_dask.storage.shards import SUCCESS, read_members

_SHARDS: Final = "download"
_VERDICTS: Final = "filter"
_RELEASE: Final = "release"
_MANIFEST: Final = "manifest.json"
# Of the tables of new texts: the stage and the column of the text.
_NEW_TEXTS: Final = {"translation": ("translate", "english"), "caption": ("caption", "top_caption")}
# Of the filter's parameters those that are shown beside a score; all of them are in scores.json.
SHOWN: Final = ("similarity.en", "similarity.multi", "similarity.nolang")


class PairsError(Exception):
    """A version has no pairs to train on; the message says which files are missing, and the remedy."""


TextKind = Literal["alt", "translation", "caption", "mix"]


@dataclass(frozen=True, slots=True)
class Texts:
    """Which text of a pair a model is trained on; the alt text where the pair has no other."""

    kind: TextKind = "alt"
    caption_share: float = 0.5
    """Of kind mix: the probability that a pair has its caption; the others have their alt text."""

    def __post_init__(self) -> None:
        """Raise `PairsError` for a kind that there is not, or a share that is no probability."""
        if self.kind not in get_args(TextKind):
            raise PairsError(f"there are no texts {self.kind!r}. Remedy: one of {', '.join(get_args(TextKind))}")
        if not 0 <= self.caption_share <= 1:
            raise PairsError(f"{self.caption_share} is no share of captions. Remedy: a number from 0 to 1")

    def __str__(self) -> str:
        """Say it in a few words, as figures do."""
        return {
            "alt": "alt texts",
            "translation": "translations",
            "caption": "captions",
            "mix": f"{self.caption_share:.0%} captions",
        }[self.kind]

    @property
    def table(self) -> tuple[str, str]:
        """The stage that writes such texts, and their column."""
        return _NEW_TEXTS["caption" if self.kind == "mix" else self.kind]

    def read(self, uid: str) -> bool:
        """Say whether a pair has its new text; the uid decides, the same for every seed and in every epoch."""
        if self.kind != "mix":
            return True
        drawn = int.from_bytes(hashlib.sha256(f"mix {uid}".encode()).digest()[:8], "big")
        return drawn / 2**64 < self.caption_share


ALT: Final = Texts()


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
    texts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of each shard the texts that stand in for alt texts, by key; about as large as the texts."""

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


def find(name: str, root: Path = Path(), label: str | None = None, texts: Texts = ALT) -> Kept:
    """Find what a version keeps: of a folder, or of a revision or experiment of the repository in `root`.

    It is called `label` where one is given, or else by its name. A model is trained on `texts` of it.
    Raises `PairsError` where there are no shards, no verdicts, no kept pairs or no such texts,
    `versions.ComparedVersionError` where Git or DVC's cache lacks them.
    """
    files, parameters = _located(name, root, texts)
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
    new = _new_texts(name, files, texts)
    return Kept(
        label or (name if texts.kind == "alt" else f"{name}, {texts}"),
        {shard: files[_SHARDS][f"{shard}.tar"] for shard in keys},
        {shard: frozenset(of_shard) for shard, of_shard in keys.items()},
        parameters,
        dropped,
        {shard: {key: new[uid] for key, uid in of_shard.items() if uid in new} for shard, of_shard in keys.items()}
        if new
        else {},
    )


def new_texts(name: str, root: Path, texts: Texts) -> dict[str, str]:
    """Return of each pair with such a text that text, by uid; a pair that is not there has its alt text."""
    return _new_texts(name, _located(name, root, texts)[0], texts)


def _located(name: str, root: Path, texts: Texts) -> tuple[dict[str, dict[str, Path]], dict[str, Any]]:
    """Return the files of each out that is read, and the filter's parameters."""
    folder = Path(name)
    new = [] if texts.kind == "alt" else [texts.table[0]]
    if folder.is_dir():
        files = {out: _files(folder / out) for out in (_SHARDS, _VERDICTS, _RELEASE, *new)}
        manifest = files[_RELEASE].get(_MANIFEST)
        found = json.loads(manifest.read_text(encoding="utf-8")) if manifest else {}
        return files, found.get("parameters", {}).get("filter", {})
    version = versions.read(root, name)
    cache = versions.cache_folder(root)
    files = {out: versions.cached(cache, version, f"data/{out}") for out in (_SHARDS, _VERDICTS, *new)}
    return files, version.params.get("filter", {})


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


def _keys(table: Path, kept: set[str]) -> dict[str, str]:
    """Return the uid of each kept pair with a picture, by its key."""
    rows = pq.read_table(table, columns=["key", "uid", "status"]).to_pylist()
    return {row["key"]: row["uid"] for row in rows if row["status"] == SUCCESS and row["uid"] in kept}


def _new_texts(name: str, files: Mapping[str, Mapping[str, Path]], texts: Texts) -> dict[str, str]:
    """Return the new texts that a model reads in the place of alt texts, by uid."""
    if texts.kind == "alt":
        return {}
    stage, column = texts.table
    found: dict[str, str] = {}
    for file, path in sorted(files[stage].items()):
        if file.removesuffix(".parquet").isdigit():
            table = pq.read_table(path, columns=["uid", column])
            rows = zip(table["uid"].to_pylist(), table[column].to_pylist(), strict=True)
            found.update((uid, text) for uid, text in rows if text is not None and texts.read(uid))
    if not found and texts.caption_share:
        raise PairsError(
            f"{name} has no texts in {stage}/. Remedy: a section {stage} in params.yaml, not null, then `make repro`"
        )
    return found


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
    wanted, texts = kept.keys[shard], kept.texts.get(shard, {})
    for key, members in read_members(kept.tars[shard]):
        if key in wanted:
            files = {name.rpartition(".")[2]: body for name, body in members}
            caption = files.pop("txt").decode()
            files.pop("json", None)
            yield key, next(iter(files.values())), texts.get(key, caption)
