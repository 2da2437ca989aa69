"""One shard of images in, its embeddings and scores out: one slot for every row, NaN where there is no image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.clip import clip, models, self_check
from laion_dask.clip.decoded import Stopwatch
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.masked import MASKED
from laion_dask.schema.reasons import KEEP
from laion_dask.score import faces, score_columns
from laion_dask.score.batches import Batch, batches
from laion_dask.score.score_columns import Detector, Embedded
from laion_dask.storage import embeddings
from laion_dask.storage.shards import read_shard

_UNREADABLE = "unreadable_image"
_Detected = tuple[Detector, np.ndarray]
"""A detector and its results (rows of the table,)."""


def score(out: Path, *, name: str, images: Path, tar: Path, shard_rows: int, settings: params.Score) -> dict[str, Any]:
    """Embed and score one shard of the download: its images table and its tar, as `score_rows` does."""
    table = pq.read_table(images, columns=["key", "uid", "caption", "split", "reason"])
    return score_rows(out, name=name, table=table, pictures=read_shard(tar), shard_rows=shard_rows, settings=settings)


def score_rows(
    out: Path,
    *,
    name: str,
    table: pa.Table,
    pictures: Iterable[tuple[str, bytes]],
    shard_rows: int,
    settings: params.Score,
) -> dict[str, Any]:
    """Embed and score a table; write `<name>.parquet` (schema SCORES) and `embeddings.zarr` with one Zarr shard.

    `table` has key, uid, caption, split and reason; `pictures` are (key, bytes) of the rows to keep, in their order.

    The arrays `<model>/image` and `<model>/text` are float16 (shard_rows, dimension), unit length, row i for row i of
    the table. An image that cannot be decoded drops its row. Counts: the ledger `images`, and under `seconds` the
    waiting times of this run, which are not part of the version.
    """
    watch = Stopwatch("decode", "transfer", "forward", "write")
    loaded = load(settings)
    reasons = np.array(table["reason"].to_pylist(), dtype=object)
    embedded = {one: _blank(shard_rows, model) for one, model in loaded.items()}
    detectors = [(one, one.blank(table.num_rows)) for one in score_columns.detectors(settings, loaded)]
    sizes: dict[str, faces.Size] = {}
    if settings.faces is not None:
        pictures = faces.measured(pictures, sizes)
    decoded = batches(table, pictures, settings, loaded, watch, [one.preparation for one, _ in detectors])
    decoded_rows = 0
    for batch in _seen(decoded, embedded, detectors, watch):
        decoded_rows += len(batch.rows) + len(batch.unreadable)
        reasons[batch.unreadable] = _UNREADABLE
    expected = table["reason"].to_pylist().count(KEEP)
    if decoded_rows != expected:
        message = f"shard {name}: {expected} rows have an image by its table, {decoded_rows} were found in its tar"
        raise ValueError(message)
    with watch.measure("forward"):
        columns: dict[str, Any] = {**_columns(table, embedded, reasons, settings)}
        by_row = faces.sizes_of(table["key"].to_pylist(), sizes)
        texts = {one: rows.text[: table.num_rows] for one, rows in embedded.items()}
        for one, values in detectors:
            columns |= one.columns(values, by_row, texts)
        if MASKED.name in columns:
            columns[MASKED.name][[not caption for caption in table["caption"].to_pylist()]] = np.nan
    with watch.measure("write"):
        arrays = {one: {"image": _half(rows.image), "text": _half(rows.text)} for one, rows in embedded.items()}
        embeddings.write_shard(out / embeddings.STORE, arrays, about(settings))
        slots = np.arange(table.num_rows, dtype=np.int64) + int(name) * shard_rows
        kind = schema.scores([*loaded], score_columns.columns(settings))
        typed = {one.name: pa.array(columns[one.name], one.type) for one in kind.columns if one.name in columns}
        scores = pa.table({"uid": table["uid"], "slot": slots, "reason": pa.array(reasons, pa.string()), **typed})
        checked = kind.check(scores)
        pq.write_table(checked, out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    ledger.keep(int((reasons == KEEP).sum()))
    if dropped := int((reasons == _UNREADABLE).sum()):
        ledger.drop(_UNREADABLE, dropped)
    return {"images": ledger.as_dict(), "seconds": watch.seconds, **faces.counts(columns)}


def load(settings: params.Score) -> dict[str, clip.Clip]:
    """Return the models of `score.models` by name, loaded and checked once for each process."""
    self_check.check()
    return {spec.name: models.load(spec, settings.compile) for spec in settings.models}


def about(settings: params.Score) -> dict[str, dict[str, str]]:
    """Return what identifies the embeddings of each model, for the attributes of its arrays."""
    return {
        spec.name: models.about(spec, models.load(spec, settings.compile)) | score_columns.about(settings, spec.name)
        for spec in settings.models
    }


def _seen(
    found: Iterator[Batch], embedded: dict[str, Embedded], detectors: Sequence[_Detected], watch: Stopwatch
) -> Iterator[Batch]:
    """Run batches through the networks; a GPU computes one batch while the results of the previous one are fetched."""
    waiting: tuple[Batch, list[Any], list[Any]] | None = None
    for batch in found:
        if not len(batch.rows):
            yield batch  # all of its images are unreadable
            continue
        with watch.measure("forward"):
            queued = [
                (one.model.see(batch.pixels[one.model.preparation.key]), one.model.read(tokens) if len(rows) else None)
                for one, (rows, tokens) in zip(embedded.values(), batch.texts, strict=True)
            ]
            detected = [one.score(batch.pixels[one.preparation.key]) for one, _ in detectors]
            if waiting is not None:
                _keep(*waiting, embedded, detectors)
        if waiting is not None:
            yield waiting[0]
        waiting = batch, queued, detected
    if waiting is not None:
        with watch.measure("forward"):
            _keep(*waiting, embedded, detectors)
        yield waiting[0]


def _keep(
    batch: Batch,
    queued: Sequence[tuple[Any, Any]],
    detected: Sequence[Any],
    embedded: dict[str, Embedded],
    detectors: Sequence[_Detected],
) -> None:
    for (detector, values), results in zip(detectors, detected, strict=True):
        values[batch.rows] = detector.rows(results)
    for one, (image, text), (rows, _) in zip(embedded.values(), queued, batch.texts, strict=True):
        one.image[batch.rows] = one.model.rows(image)
        if text is not None:
            one.text[rows] = one.model.rows(text)


def _columns(
    table: pa.Table, embedded: dict[str, Embedded], reasons: np.ndarray, settings: params.Score
) -> dict[str, np.ndarray]:
    """Return all columns of scores (rows of the table,): similarities, scores of heads, and tags."""
    count = table.num_rows
    own = {
        name: np.einsum("ij,ij->i", one.image[:count], one.text[:count]).astype(np.float32)
        for name, one in embedded.items()
    }
    captions = [str(caption) for caption in table["caption"].to_pylist()]
    for values in own.values():
        # A picture without a text has no similarity; foreign tars contain such.
        values[[not caption for caption in captions]] = np.nan
    split = np.array(table["split"].to_pylist(), dtype=object)
    similarity = np.full(count, np.nan, np.float32)
    # In reverse, so that the first model of a split overwrites the others.
    for spec in reversed(settings.models):
        mask = np.array([spec.reads(one) for one in split], bool)
        similarity[mask] = own[spec.name][mask]
    measured = score_columns.measure(embedded, np.flatnonzero(reasons == KEEP), captions, settings)
    columns = {"similarity": similarity} | {name: values[:count] for name, values in measured.items()}
    return columns | {f"similarity_{name}": values for name, values in own.items()}


def _blank(rows: int, model: clip.Clip) -> Embedded:
    image, text = (np.full((rows, model.dimension), np.nan, np.float32) for _ in range(2))
    return Embedded(model, image, text)


def _half(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float16)
