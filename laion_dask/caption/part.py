"""One shard's kept images in, their captions out: a row for each pair, with the caption or a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.caption import captioners, rank, repair
from laion_dask.clip import decoded
from laion_dask.clip.decoded import Decoding, Stopwatch
from laion_dask.params.filters import Keywords
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.new_texts import CAPTIONS
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import attempts
from laion_dask.storage.shards import read_shard
from laion_dask.texts import new_texts

_UNDECODABLE: Final = "undecodable_image"
_KEYWORD: Final = "keyword_in_caption"
ACTIVITIES: Final = ("decode", "transfer", *captioners.ACTIVITIES, "rank", "repair", "write")
"""What a part spends its time on."""
# Fixed, so that a new version of zstd's default does not change the bytes.
_ZSTD_LEVEL: Final = 3


@dataclass(slots=True)
class Captions:
    """What was found out for the rows of a table."""

    reasons: list[str]
    """`keep`, or why there is no caption; empty for rows without a picture."""
    top: list[str | None]
    """The caption that ranks first, repaired where a model is named for that."""
    before_repair: list[str | None]
    distinct: list[int | None]
    texts: list[list[str] | None]
    """All different samples, the best first."""
    similarities: list[list[float] | None]
    seen: np.ndarray
    """Embeddings of the images by the last ranker, float32 (rows, features); NaN where there is none."""

    def withhold(self, rows: Sequence[int], reason: str) -> None:
        """Give rows a reason in the place of their texts."""
        for row in rows:
            self.reasons[row] = reason
            self.top[row] = self.before_repair[row] = self.texts[row] = self.similarities[row] = None


def caption(
    out: Path,
    *,
    name: str,
    images: Path,
    tar: Path,
    scores: Path,
    verdicts: Path,
    store: Path,
    settings: params.Caption,
    words: Keywords | None,
    reader: params.Model,
) -> dict[str, Any]:
    """Caption the kept images of one shard, and write `<name>.parquet` (schema CAPTIONS).

    The caption's similarity is that of `reader`, a model of score, with the image's embedding in `store`. A caption
    with a word of `words`, on an image as unsafe as they ask, is withheld. Counts: the ledger `captions`, and under
    `seconds` the times of this run, which are not part of the version.
    """
    table = attempts.kept(images, scores, verdicts, ["key"], ["slot", "similarity", "punsafe"])
    keys = table["key"].to_pylist()
    wanted = set(keys)
    pictures = ((key, body) for key, body in read_shard(tar) if key in wanted)
    watch = Stopwatch(*ACTIVITIES)
    found = caption_rows(table["uid"].to_pylist(), keys, pictures, settings, watch)
    if missing := found.reasons.count(""):
        raise ValueError(f"shard {name}: {missing} of {len(keys)} kept images were not found in its tar")
    found.withhold(np.flatnonzero(new_texts.listed(found.top, table["punsafe"].to_numpy(), words)).tolist(), _KEYWORD)
    with watch.measure("rank"):
        similarities = new_texts.similarities(found.top, table["slot"].to_numpy(), store, reader)
    with watch.measure("write"):
        write(out / f"{name}.parquet", table["uid"], found, table["similarity"], similarities, settings)
    ledger = Ledger()
    ledger.add(found.reasons)
    return {"captions": ledger.as_dict(), "seconds": watch.seconds}


def caption_rows(
    uids: Sequence[str],
    keys: Sequence[str],
    pictures: Iterable[tuple[str, bytes]],
    settings: params.Caption,
    watch: Stopwatch,
) -> Captions:
    """Caption the pictures (key, bytes) of the rows of a table, in the order of their rows.

    The batches depend on the pictures alone. The times are added to the watch.
    """
    captioner, ranking = captioners.load(settings), rank.Ranking(settings)
    count = len(uids)
    found = Captions(
        reasons=[""] * count,
        top=[None] * count,
        before_repair=[None] * count,
        distinct=[None] * count,
        texts=[None] * count,
        similarities=[None] * count,
        seen=np.full((count, ranking.models[-1].dimension), np.nan, np.float32),
    )
    row_of = {key: row for row, key in enumerate(keys)}
    how = Decoding(
        device=captioner.device,
        preparations=[captioner.preparation, *(model.preparation for model in ranking.models)],
        size=captioner.batch,
    )
    source: Iterator[tuple[int, bytes]] = ((row_of[key], body) for key, body in pictures)
    for batch in decoded.batches(source, how, watch, decoded.nothing):
        for row in batch.unreadable.tolist():
            found.reasons[row] = _UNDECODABLE
        rows = batch.rows.tolist()
        if not rows:
            continue
        pixels = batch.pixels[captioner.preparation.key]
        samples = captioner.generate(pixels, [uids[row] for row in rows], watch)
        with watch.measure("rank"):
            chosen = [rank.candidates(one, settings.prompt) for one in samples]
            ranked, found.seen[rows] = ranking.rank(batch.pixels, [one.texts for one in chosen])
        for row, candidates, one in zip(rows, chosen, ranked, strict=True):
            found.reasons[row] = candidates.reason or KEEP
            found.distinct[row] = len(candidates.texts)
            if candidates.texts:
                found.top[row], found.texts[row], found.similarities[row] = (
                    one.texts[0],
                    [*one.texts],
                    [*one.similarities],
                )
    with watch.measure("repair"):
        _repair(found, settings)
    return found


def _repair(found: Captions, settings: params.Caption) -> None:
    rows = [row for row, text in enumerate(found.top) if text]
    before = [str(found.top[row]) for row in rows]
    for row, old, new in zip(rows, before, repair.repaired(before, settings), strict=True):
        if new != old:
            found.top[row], found.before_repair[row] = new, old


def write(
    file: Path,
    uids: pa.ChunkedArray[Any],
    found: Captions,
    similarity: pa.ChunkedArray[Any] | np.ndarray,
    caption_similarity: np.ndarray,
    settings: params.Caption,
) -> None:
    """Write the rows of a table as CAPTIONS; all samples only with `keep_samples`."""
    nothing: list[None] = [None] * len(found.top)
    columns: dict[str, Any] = {
        "uid": uids,
        "reason": found.reasons,
        "top_caption": found.top,
        "similarity": similarity,
        "caption_similarity": pa.array(caption_similarity, pa.float32(), from_pandas=True),
        "ranked_caption": found.before_repair,
        "distinct": found.distinct,
        "all_captions": found.texts if settings.keep_samples else nothing,
        "all_similarities": found.similarities if settings.keep_samples else nothing,
        **new_texts.personal_data(found.top),
    }
    typed = {}
    for column in CAPTIONS.columns:
        values = columns[column.name]
        is_arrow = isinstance(values, pa.Array | pa.ChunkedArray)
        typed[column.name] = values.cast(column.type) if is_arrow else pa.array(values, column.type)
    pq.write_table(CAPTIONS.check(pa.table(typed)), file, compression="zstd", compression_level=_ZSTD_LEVEL)
