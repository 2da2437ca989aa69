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
from laion_dask.runner import takeover as takeovers
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.masked import MASKED
from laion_dask.schema.reasons import KEEP
from laion_dask.score import captions, faces, score_columns, takeover
from laion_dask.score.batches import Batch, batches
from laion_dask.score.score_columns import Detector, Embedded
from laion_dask.storage import embeddings
from laion_dask.storage.shards import place, read_shard

_UNREADABLE = "unreadable_image"
_Tokens = tuple[list[np.ndarray], list[Any]]
"""Rows whose text one model reads, and their tokens (rows, context), batch by batch."""
_Detected = tuple[Detector, np.ndarray]
"""A detector and its results (rows of the table,)."""


def score(
    out: Path,
    *,
    name: str,
    images: Path,
    tar: Path,
    shard_rows: int,
    settings: params.Score,
    rules: str = "",
    earlier: Path | None = None,
) -> dict[str, Any]:
    """Embed and score one shard of the download: its images table and its tar, as `score_rows` does.

    Pictures that `earlier`, an index of `runner.takeover`, has with the same bytes and text are not scored again;
    `rules` says by which rules later versions may take over the rows of this shard.
    """
    table = pq.read_table(images, columns=["key", "uid", "caption", "split", "reason"])
    taken = takeover.find(earlier, name, table)
    pictures = taken.new(read_shard(tar))
    places = np.array([place(name, key) for key in table["key"].to_pylist()], np.int64)
    counts = _score(out, name, table, pictures, places, shard_rows, settings, taken)
    taken.write(out, name)
    return counts | {takeovers.OFFERS: takeovers.offer(rules), takeovers.TAKEN: taken.counts()}


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
    return _score(out, name, table, pictures, np.arange(table.num_rows), shard_rows, settings, None)


def _score(
    out: Path,
    name: str,
    table: pa.Table,
    pictures: Iterable[tuple[str, bytes]],
    places: np.ndarray,
    shard_rows: int,
    settings: params.Score,
    taken: takeover.Takeover | None,
) -> dict[str, Any]:
    """Score a table whose rows have these places in the shard, and add the rows that are taken over."""
    watch = Stopwatch("decode", "transfer", "forward", "write")
    loaded = load(settings)
    reasons = np.array(table["reason"].to_pylist(), dtype=object)
    embedded = {one: _blank(table.num_rows, model) for one, model in loaded.items()}
    # Rows that others may be taken over beside: their bits do not depend on their neighbours.
    columns, computed = _compute(table, pictures, reasons, embedded, settings, watch, whole=taken is not None)
    kind = schema.scores([*loaded], score_columns.columns(settings))
    halves = {
        one: {"image": rows.image.astype(np.float16), "text": rows.text.astype(np.float16)}
        for one, rows in embedded.items()
    }
    if taken is not None:
        with watch.measure("write"):
            computed += taken.fill(columns, halves, reasons)
    if computed != (expected := table["reason"].to_pylist().count(KEEP)):
        message = f"shard {name}: {expected} rows have an image by its table, {computed} were found in its tar"
        raise ValueError(message)
    with watch.measure("write"):
        arrays = {one: {of: _placed(rows, places, shard_rows) for of, rows in halves[one].items()} for one in halves}
        embeddings.write_shard(out / embeddings.STORE, arrays, about(settings))
        typed = {one.name: pa.array(columns[one.name], one.type) for one in kind.columns if one.name in columns}
        slots = places + int(name) * shard_rows
        scores = pa.table({"uid": table["uid"], "slot": slots, "reason": pa.array(reasons, pa.string()), **typed})
        pq.write_table(kind.check(scores), out / f"{name}.parquet", compression="zstd")
    ledger = Ledger()
    ledger.keep(int((reasons == KEEP).sum()))
    if dropped := int((reasons == _UNREADABLE).sum()):
        ledger.drop(_UNREADABLE, dropped)
    return {"images": ledger.as_dict(), "seconds": watch.seconds, **faces.counts(columns)}


def _compute(
    table: pa.Table,
    pictures: Iterable[tuple[str, bytes]],
    reasons: np.ndarray,
    embedded: dict[str, Embedded],
    settings: params.Score,
    watch: Stopwatch,
    *,
    whole: bool,
) -> tuple[dict[str, Any], int]:
    """Embed and score the rows of the pictures; return all columns, blank in other rows, and how many pictures came.

    Fills `embedded`, and gives rows whose image cannot be decoded their reason.
    """
    detectors = [
        (one, one.blank(table.num_rows))
        for one in score_columns.detectors(settings, {one: rows.model for one, rows in embedded.items()})
    ]
    sizes: dict[str, faces.Size] = {}
    if settings.faces is not None:
        pictures = faces.measured(pictures, sizes)
    models_ = {one: rows.model for one, rows in embedded.items()}
    decoded = batches(table, pictures, settings, models_, watch, [one.preparation for one, _ in detectors])
    seen: list[np.ndarray] = []
    unreadable = 0
    texts_of: list[_Tokens] = [([], []) for _ in embedded]
    for batch in _seen(decoded, embedded, detectors, watch, whole=whole):
        seen.append(batch.rows)
        unreadable += len(batch.unreadable)
        reasons[batch.unreadable] = _UNREADABLE
        for (text_rows, tokens), (rows, of_rows) in zip(texts_of, batch.texts, strict=True):
            if len(rows):
                text_rows.append(rows)
                tokens.append(of_rows)
    chosen = np.sort(np.concatenate([np.empty(0, np.int64), *seen])).astype(np.int64)
    with watch.measure("forward"):
        for of_model, (text_rows, tokens) in zip(embedded.values(), texts_of, strict=True):
            if tokens:
                of_model.text[np.concatenate(text_rows)] = captions.embed(of_model.model, tokens, whole=whole)
        columns: dict[str, Any] = {**_columns(table, embedded, chosen, settings)}
        by_row = faces.sizes_of(table["key"].to_pylist(), sizes)
        texts = {one: rows.text for one, rows in embedded.items()}
        for one, values in detectors:
            columns |= one.columns(values, by_row, texts)
        if MASKED.name in columns:
            columns[MASKED.name][[not caption for caption in table["caption"].to_pylist()]] = np.nan
    return columns, len(chosen) + unreadable


def _placed(rows: np.ndarray, places: np.ndarray, shard_rows: int) -> np.ndarray:
    """Return an array of a whole shard, NaN in the places without a row."""
    found = np.full((shard_rows, *rows.shape[1:]), np.nan, np.float16)
    found[places] = rows
    return found


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
    found: Iterator[Batch],
    embedded: dict[str, Embedded],
    detectors: Sequence[_Detected],
    watch: Stopwatch,
    *,
    whole: bool,
) -> Iterator[Batch]:
    """Run batches through the networks; a GPU computes one batch while the results of the previous one are fetched.

    With `whole` every forward pass has the rows of a full batch: the bits of a row's results depend on its image alone.
    """
    waiting: tuple[Batch, list[Any], list[Any]] | None = None
    for batch in found:
        if not len(batch.rows):
            yield batch  # all of its images are unreadable
            continue
        with watch.measure("forward"):
            size = batch.size if whole else 0
            pixels = {key: captions.repeated(values, size) for key, values in batch.pixels.items()}
            queued = [one.model.see(pixels[one.model.preparation.key]) for one in embedded.values()]
            detected = [one.score(pixels[one.preparation.key]) for one, _ in detectors]
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
    queued: Sequence[Any],
    detected: Sequence[Any],
    embedded: dict[str, Embedded],
    detectors: Sequence[_Detected],
) -> None:
    for (detector, values), results in zip(detectors, detected, strict=True):
        values[batch.rows] = detector.rows(results)[: len(batch.rows)]
    for one, image in zip(embedded.values(), queued, strict=True):
        one.image[batch.rows] = one.model.rows(image)[: len(batch.rows)]


def _columns(
    table: pa.Table, embedded: dict[str, Embedded], chosen: np.ndarray, settings: params.Score
) -> dict[str, np.ndarray]:
    """Return all columns of scores (rows of the table,): similarities, scores of heads, and tags of `chosen` rows."""
    own = {name: np.einsum("ij,ij->i", one.image, one.text).astype(np.float32) for name, one in embedded.items()}
    texts = [str(caption) for caption in table["caption"].to_pylist()]
    for values in own.values():
        # A picture without a text has no similarity; foreign tars contain such.
        values[[not text for text in texts]] = np.nan
    split = np.array(table["split"].to_pylist(), dtype=object)
    similarity = np.full(table.num_rows, np.nan, np.float32)
    # In reverse, so that the first model of a split overwrites the others.
    for spec in reversed(settings.models):
        mask = np.array([spec.reads(one) for one in split], bool)
        similarity[mask] = own[spec.name][mask]
    columns = {"similarity": similarity, **score_columns.measure(embedded, chosen, texts, settings)}
    return columns | {f"similarity_{name}": values for name, values in own.items()}


def _blank(rows: int, model: clip.Clip) -> Embedded:
    image, text = (np.full((rows, model.dimension), np.nan, np.float32) for _ in range(2))
    return Embedded(model, image, text)
