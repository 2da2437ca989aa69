"""One shard of images in, its embeddings and scores out: one slot for every row, NaN where there is no image."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import clip, embeddings, heads, params, schema
from laion_dask.images import upright
from laion_dask.shards import read_shard
from laion_dask.verdict import KEEP, Ledger


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the shard's table that have an image, with what the two towers read."""

    rows: list[int]
    tensors: list[Any]
    texts: list[str]


def score(out: Path, *, name: str, images: Path, tar: Path, shard_rows: int, settings: params.Score) -> dict[str, Any]:
    """Embed and score one shard; write `<name>.parquet` (schema SCORES) and `embeddings.zarr` with one Zarr shard.

    The arrays `image` and `text` are float16 (shard_rows, dimension), unit length, row i for row i of the images table.
    """
    model = clip.load(settings.model, settings.pretrained)
    table = pq.read_table(images, columns=["key", "uid", "caption", "reason"])
    columns = {column: np.full(table.num_rows, np.nan, np.float32) for column in ("similarity", *heads.HEADS)}
    arrays = {array.name: np.full((shard_rows, model.dimension), np.nan, np.float16) for array in schema.ARRAYS}
    for batch in _batches(table, tar, model, settings.batch):
        image, text = model.embed(batch.tensors, batch.texts)
        arrays["image"][batch.rows], arrays["text"][batch.rows] = image, text
        columns["similarity"][batch.rows] = np.einsum("ij,ij->i", image, text)
        for head, layers in heads.load(settings.heads).items():
            columns[head][batch.rows] = heads.score(image, layers, probability=heads.HEADS[head])
    scored = int(np.isfinite(columns["similarity"]).sum())
    expected = table["reason"].to_pylist().count(KEEP)
    if scored != expected:
        message = f"shard {name}: {expected} rows have an image by {images.name}, {scored} were found in {tar.name}"
        raise ValueError(message)
    embeddings.write_shard(out / embeddings.STORE, arrays, attributes(model))
    slots = np.arange(table.num_rows, dtype=np.int64) + int(name) * shard_rows
    scores = pa.table({"uid": table["uid"], "slot": slots, **columns})
    pq.write_table(schema.SCORES.check(scores), out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    ledger.keep(scored)
    return {"images": ledger.as_dict()}


def attributes(model: clip.Clip) -> dict[str, str]:
    """Return what identifies the embeddings, for the attributes of the arrays."""
    return {
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "preprocessing": model.preprocessing,
        "normalization": "unit length (L2)",
    }


def _batches(table: pa.Table, tar: Path, model: clip.Clip, size: int) -> Iterator[Batch]:
    """Decode the images of a shard ahead of the forward pass; batches depend on the shard alone, not on the machine."""
    row_of = {key: row for row, key in enumerate(table["key"].to_pylist())}
    captions = [str(caption) for caption in table["caption"].to_pylist()]
    with ThreadPoolExecutor(max_workers=2) as decoders:
        pending: list[tuple[int, Future[Any]]] = []
        ready: list[tuple[int, Future[Any]]] = []
        for key, body in read_shard(tar):
            pending.append((row_of[key], decoders.submit(_decode, body, model)))
            if len(pending) == size:
                # The batch before this one is computed while this one decodes.
                if ready:
                    yield _batch(ready, captions)
                ready, pending = pending, []
        for rest in (ready, pending):
            if rest:
                yield _batch(rest, captions)


def _decode(body: bytes, model: clip.Clip) -> Any:  # noqa: ANN401 - a torch tensor
    return model.prepare(upright(body))


def _batch(decoded: list[tuple[int, Future[Any]]], captions: list[str]) -> Batch:
    rows = [row for row, _ in decoded]
    return Batch(rows, [future.result() for _, future in decoded], [captions[row] for row in rows])
