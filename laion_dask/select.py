"""Scores in, verdicts out: the only place where a number meets a threshold.

Rules apply in the order of `REASONS["filter"]`; the first that drops a pair names its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import keywords, known, params, schema
from laion_dask.verdict import KEEP, REASONS, Ledger

_IMAGE_COLUMNS: Final = ["uid", "caption", "split", "reason", "md5", "sha256", "original_width", "original_height"]

WINNERS: Final = pa.schema([("sha256", pa.string()), ("uid", pa.string())])
"""Of images that several passing pairs share: the digest, and the pair that stays."""

Hashes = Mapping[str, frozenset[str]]


def judge(
    images: pa.Table,
    scores: pa.Table,
    settings: params.Filter,
    listed: Sequence[known.Index],
    removed: Hashes,
    winners: pa.Table,
) -> np.ndarray:
    """Return a verdict for every row of a shard's images table: object (rows,), `keep` or a reason.

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
    if settings.duplicate_images == "drop":
        place = pc.index_in(images["sha256"], value_set=winners["sha256"].combine_chunks())
        stays = winners["uid"].take(place)
        loses = pc.fill_null(pc.not_equal(stays, images["uid"]), False)
        verdicts[(verdicts == KEEP) & loses.to_numpy()] = "duplicate_image"
    return verdicts


def _rules(
    images: pa.Table, scores: pa.Table, settings: params.Filter, listed: Sequence[known.Index], removed: Hashes
) -> Iterable[tuple[str, np.ndarray]]:
    width, height = (images[name].to_numpy() for name in ("original_width", "original_height"))
    short, long = np.minimum(width, height), np.maximum(width, height)
    words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(images["caption"]))).to_numpy()
    thresholds = settings.similarity.model_dump()
    lowest = np.array([thresholds[split] for split in images["split"].to_pylist()], np.float32)
    yield "removed_hash", _matches(images, removed)
    yield "listed_later", known.any_of(known.of_rows(listed, images), images.num_rows)
    yield "image_too_small", short < settings.min_side_px
    yield "aspect_ratio", long > settings.max_aspect_ratio * short
    yield "few_words", words < settings.min_words
    yield "unsafe", scores["punsafe"].to_numpy() > settings.max_punsafe
    if settings.keywords:
        likely = scores["punsafe"].to_numpy() > settings.keyword_punsafe
        yield "unsafe_keyword", keywords.hits(images["caption"], settings.keywords, among=likely)
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


def winners(
    images: Sequence[Path],
    scores: Sequence[Path],
    settings: params.Filter,
    listed: Sequence[known.Index],
    removed: Hashes,
) -> pa.Table:
    """Find image bytes that several passing pairs share, and the one that stays: the lowest uid. Schema WINNERS.

    DuckDB finds the digests that occur more than once, out of core; only those rows are judged here.
    """
    if not images or settings.duplicate_images == "keep":
        return WINNERS.empty_table()
    names = ", ".join(dict.fromkeys([*_IMAGE_COLUMNS, *known.columns(listed)]))
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        shared = connection.sql(
            f"with shared as (select sha256 from read_parquet($1) where reason = 'keep' group by 1 having count(*) > 1)"
            f" select {names} from read_parquet($1) semi join shared using (sha256) where reason = 'keep' order by uid",
            params=[[str(path) for path in images]],
        ).to_arrow_table()
        connection.register("shared", shared)
        scored = connection.sql(
            "select scores.* from read_parquet($1) scores semi join shared using (uid) order by uid",
            params=[[str(path) for path in scores]],
        ).to_arrow_table()
    verdicts = judge(shared, scored, settings, listed, removed, WINNERS.empty_table())
    passing = shared.select(["sha256", "uid"]).filter(pa.array(verdicts == KEEP))
    lowest = passing.group_by("sha256").aggregate([("uid", "min")]).rename_columns(["sha256", "uid"])
    return lowest.sort_by("sha256").cast(WINNERS)


def select(
    out: Path,
    *,
    name: str,
    images: Path,
    scores: Path,
    settings: params.Filter,
    winners_file: Path,
    listed: Sequence[known.Index],
    removed: Hashes,
) -> dict[str, Any]:
    """Judge one shard; write `<name>.parquet` (schema VERDICTS): a row for every attempt, failed ones included."""
    table = pq.read_table(images, columns=list(dict.fromkeys([*_IMAGE_COLUMNS, *known.columns(listed)])))
    verdicts = judge(table, pq.read_table(scores), settings, listed, removed, pq.read_table(winners_file))
    shard = pa.array(np.full(table.num_rows, int(name), np.int32))
    rows = pa.table(
        {"uid": table["uid"], "shard": shard, "split": table["split"], "reason": pa.array(verdicts, pa.string())}
    )
    pq.write_table(schema.VERDICTS.check(rows), out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    # What ended in an earlier stage was counted there.
    ledger.add(verdict for verdict in verdicts.tolist() if verdict == KEEP or verdict in REASONS["filter"])
    by_list = known.count(known.of_rows(listed, table), verdicts == "listed_later")
    return {"pairs": ledger.as_dict(), "verdicts": table.num_rows, "listed": by_list}
