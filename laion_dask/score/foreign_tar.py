"""Score one tar that others made, as a shard of the project is scored."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.images import tar_folders, tar_samples
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.score import part


def score_tar(out: Path, *, name: str, tar: Path, shard_rows: int, settings: params.Score) -> dict[str, Any]:
    """Score one tar as `score.score_rows` does, and write `images/<name>.parquet` with its samples.

    The ledger `images` also counts what is not a sample, by reason; `captions` counts scored pictures with and without
    a caption: without one there is no similarity. `broken_json` counts samples whose JSON cannot be parsed.
    """
    scanned = tar_samples.scan(tar)
    table = tar_folders.table(scanned)
    (out / tar_folders.IMAGES).mkdir()
    pq.write_table(table, out / tar_folders.IMAGES / f"{name}.parquet", compression="zstd")
    result = part.score_rows(
        out,
        name=name,
        table=table,
        pictures=tar_samples.bodies(tar, scanned.chosen),
        shard_rows=shard_rows,
        settings=settings,
    )
    images, captions = Ledger.from_dict(result["images"]), Ledger()
    for reason, rows in sorted(Counter(row["reason"] for row in scanned.rows).items()):
        if reason != KEEP:
            images.drop(reason, rows)
    scored = [row["caption"] for row in scanned.rows if row["reason"] == KEEP]
    captions.keep(sum(map(bool, scored)))
    if none := scored.count(""):
        captions.drop("no_caption", none)
    return result | {
        "images": images.as_dict(),
        "captions": captions.as_dict(),
        "broken_json": scanned.broken_json,
    }
