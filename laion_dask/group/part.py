"""Shards with hashes and embeddings in, a row for each image out: the first and the last step of the stage group.

`read` is the first step, `describe` the last one; `steps` names those between, which compare the images of all shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

from laion_dask.group import clusters, evaluation_sets, slices
from laion_dask.schema import groups
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import embeddings
from laion_dask.storage.uids import hex_texts

ROWS: Final = "rows.parquet"
VECTORS: Final = "vectors.npy"


def read(out: Path, *, images: Path, scores: Path, store: Path, model: str, min_quality: int) -> dict[str, Any]:
    """Extract the inputs of later steps from one shard: a row for each scored image, and its stored embeddings."""
    table = pq.read_table(images, columns=["uid", "sha256", "pdq", "pdq_quality"])
    scored = pq.read_table(scores, columns=["uid", "slot", "reason"])
    scored = scored.filter(pc.equal(scored["reason"], KEEP))
    table = table.take(pc.index_in(scored["uid"], value_set=table["uid"].combine_chunks()))
    clear = pc.fill_null(pc.greater_equal(table["pdq_quality"], min_quality), False)
    hashes = [
        bytes.fromhex(text) if text and good else None
        for text, good in zip(table["pdq"].to_pylist(), clear.to_pylist(), strict=True)
    ]
    rows = pa.table({"uid": table["uid"], "sha256": table["sha256"], "pdq": pa.array(hashes, pa.binary())})
    pq.write_table(rows, out / ROWS, compression="zstd")
    array = embeddings.array(zarr.open_group(store, mode="r"), f"{model}/image")
    slots = scored["slot"].to_numpy()
    low, high = (int(slots.min()), int(slots.max()) + 1) if len(slots) else (0, 0)
    np.save(out / VECTORS, np.asarray(array[low:high])[slots - low])
    return {"images": len(slots)}


def describe(
    out: Path,
    *,
    name: str,
    part: Path,
    assigned: Path,
    gathered: Path,
    place: int,
    evaluation_files: Sequence[Path],
    radius: int,
) -> dict[str, Any]:
    """Write `<name>.parquet`, schema GROUPS: a row for each scored image of a shard; counts them.

    `gathered` has the copies of a group of shards, among which this one is at `place`.
    """
    rows = pq.read_table(part / ROWS)
    copies = slices.read([gathered], "copies", place, slices.COPY)
    copy = np.full(rows.num_rows, -1)
    copy[copies["place"]] = np.arange(len(copies))
    image = hex_texts(slices.raw(copies["image"])).take(pa.array(copy, mask=copy < 0))
    with np.load(assigned / "clusters.npz") as arrays:
        cluster, cosine = arrays["cluster"], arrays["cosine"]
    sets = evaluation_sets.read(evaluation_files)
    hashed = pc.is_valid(rows["pdq"]).to_numpy()
    distance = np.full(rows.num_rows, np.nan, np.float32)
    hashes = np.frombuffer(b"".join(rows["pdq"].drop_null().to_pylist()), np.uint8).reshape(-1, 32)
    distance[hashed] = evaluation_sets.distances(hashes, sets, radius)
    table = groups.GROUPS
    columns = {
        "uid": rows["uid"],
        "image": pc.coalesce(image, rows["uid"]),
        "cluster": pa.array(cluster, pa.int32()),
        "centroid_cosine": pa.array(cosine, pa.float32()),
        "evaluation_distance": pa.array(distance),
        "evaluation_cosine": pa.array(evaluation_sets.cosines(clusters.unit(np.load(part / VECTORS)), sets)),
    }
    written = table.check(pa.table([columns[name] for name in table.names], names=table.names))
    pq.write_table(written, out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    ledger.keep(rows.num_rows)
    return {"images": ledger.as_dict()}
