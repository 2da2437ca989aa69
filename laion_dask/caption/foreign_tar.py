"""Caption one tar that others made, as a shard of the project is captioned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.caption import part, rank
from laion_dask.clip.decoded import Stopwatch
from laion_dask.images import tar_folders, tar_samples
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP


def caption_tar(out: Path, *, name: str, tar: Path, settings: params.Caption) -> dict[str, Any]:
    """Caption one tar: write `<name>.parquet` (schema CAPTIONS), and `images/<name>.parquet` with its samples.

    Both similarities are by the last model of `caption.rank`: no others are known here. What is not a sample has its
    reason in both tables, and is counted in the ledger `captions`. `broken_json` counts samples whose JSON cannot be
    parsed.
    """
    scanned = tar_samples.scan(tar)
    table = tar_folders.table(scanned)
    (out / tar_folders.IMAGES).mkdir()
    pq.write_table(table, out / tar_folders.IMAGES / f"{name}.parquet", compression="zstd")
    watch = Stopwatch(*part.ACTIVITIES)
    pictures = tar_samples.bodies(tar, scanned.chosen)
    found = part.caption_rows(table["uid"].to_pylist(), table["key"].to_pylist(), pictures, settings, watch)
    for row, reason in enumerate(table["reason"].to_pylist()):
        if reason != KEEP:
            found.reasons[row] = reason
    if missing := found.reasons.count(""):
        raise ValueError(f"{tar}: {missing} pictures were not read. Remedy: run again; the tar may have changed")
    with watch.measure("rank"):
        ranking = rank.Ranking(settings)
        known, new = (ranking.similarities(found.seen, texts) for texts in (table["caption"].to_pylist(), found.top))
    with watch.measure("write"):
        similarity = pa.chunked_array([_nulls(known)])
        part.write(out / f"{name}.parquet", table["uid"], found, similarity, new, settings)
    ledger = Ledger()
    ledger.add(found.reasons)
    return {"captions": ledger.as_dict(), "broken_json": scanned.broken_json, "seconds": watch.seconds}


def _nulls(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float32(), from_pandas=True)
