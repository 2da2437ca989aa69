"""Scores in, verdicts out: the only place where a number meets a threshold.

Rules apply in the order of `REASONS["filter"]`; the first that drops a pair names its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import duplicates, params, schema
from laion_dask.verdict import KEEP, REASONS, Ledger

_DIGEST_CHARS: Final = {"md5": 32, "sha256": 64}
IMAGE_COLUMNS: Final = ["uid", "caption", "split", "reason", "md5", "sha256", "original_width", "original_height"]

Hashes = Mapping[str, frozenset[str]]


class HashListError(Exception):
    """A list of known content cannot be read; the message names file and line, never the entry."""


def read_hash_lists(paths: Iterable[Path]) -> Hashes:
    """Read lists of md5 and sha256 hex digests, one a line, `#` for comments; returns digests by kind."""
    found: dict[str, set[str]] = {kind: set() for kind in _DIGEST_CHARS}
    kind_of = {chars: kind for kind, chars in _DIGEST_CHARS.items()}
    for path in paths:
        if not path.is_file():
            message = f"filter.hash_lists names {path}, which is missing. Remedy: correct the path or take it out"
            raise HashListError(message)
        with path.open(encoding="ascii", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                entry = line.split("#", 1)[0].strip().lower()
                if not entry:
                    continue
                kind = kind_of.get(len(entry))
                if kind is None or not set(entry) <= set("0123456789abcdef"):
                    message = f"{path}:{number}: no md5 or sha256 in hex. Remedy: 32 or 64 hex digits a line"
                    raise HashListError(message)
                found[kind].add(entry)
    return {kind: frozenset(entries) for kind, entries in found.items()}


def judge(images: pa.Table, scores: pa.Table, settings: params.Filter, listed: Hashes, removed: Hashes) -> np.ndarray:
    """Return a verdict for every row of a shard's images table, before duplicates: object (rows,), `keep` or a reason.

    Rows that failed at download or in scoring keep their reason. `scores` is joined by uid, whatever its order; NaN
    scores of heads that did not run drop nothing. Raises `ValueError` when a scored row is missing.
    """
    places = pc.index_in(images["uid"], value_set=scores["uid"].combine_chunks())
    if places.null_count:
        message = f"{places.null_count} pairs have no row in the scores: run the stage score again"
        raise ValueError(message)
    scores = scores.take(places)
    verdicts = np.array(images["reason"].to_pylist(), dtype=object)
    verdicts = np.where(verdicts == KEEP, np.array(scores["reason"].to_pylist(), dtype=object), verdicts)
    for reason, drops in _rules(images, scores, settings, listed, removed):
        verdicts[(verdicts == KEEP) & drops] = reason
    return verdicts


def _rules(
    images: pa.Table, scores: pa.Table, settings: params.Filter, listed: Hashes, removed: Hashes
) -> Iterable[tuple[str, np.ndarray]]:
    width, height = (images[name].to_numpy() for name in ("original_width", "original_height"))
    short, long = np.minimum(width, height), np.maximum(width, height)
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(images["caption"]))).to_numpy()
    thresholds = settings.similarity.model_dump()
    lowest = np.array([thresholds[split] for split in images["split"].to_pylist()], np.float32)
    yield "removed_hash", _matches(images, removed)
    yield "listed_hash", _matches(images, listed)
    yield "image_too_small", short < settings.min_side_px
    yield "aspect_ratio", long > settings.max_aspect_ratio * short
    yield "few_words", words < settings.min_words
    yield "unsafe", scores["punsafe"].to_numpy() > settings.max_punsafe
    yield "watermark", scores["pwatermark"].to_numpy() > settings.max_pwatermark
    # Written so that a similarity that is not a number drops the pair.
    yield "low_similarity", ~(scores["similarity"].to_numpy() >= lowest)


def _matches(images: pa.Table, hashes: Hashes) -> np.ndarray:
    matches = np.zeros(images.num_rows, bool)
    for kind, entries in hashes.items():
        if entries:
            found = pc.is_in(images[kind], value_set=pa.array(sorted(entries), pa.string()))
            matches |= found.to_numpy()
    return matches


def select(
    out: Path,
    *,
    name: str,
    images: Path,
    scores: Path,
    groups: Path,
    settings: params.Filter,
    losers_file: Path,
    listed: Hashes,
    removed: Hashes,
) -> dict[str, Any]:
    """Judge one shard; write `<name>.parquet` (schema VERDICTS): a row for every attempt, failed ones included."""
    table = pq.read_table(images, columns=IMAGE_COLUMNS)
    verdicts = judge(table, pq.read_table(scores), settings, listed, removed)
    near, lost = pq.read_table(groups, columns=duplicates.COLUMNS), pq.read_table(losers_file)
    verdicts, stays = duplicates.decide(verdicts, table["uid"], near, lost, settings)
    shard = pa.array(np.full(table.num_rows, int(name), np.int32))
    rows = pa.table(
        {
            "uid": table["uid"],
            "shard": shard,
            "split": table["split"],
            "reason": pa.array(verdicts, pa.string()),
            "stays": stays,
        }
    )
    pq.write_table(schema.VERDICTS.check(rows), out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    # What ended in an earlier stage was counted there.
    ledger.add(verdict for verdict in verdicts.tolist() if verdict == KEEP or verdict in REASONS["filter"])
    return {"pairs": ledger.as_dict(), "verdicts": table.num_rows}
