"""Read the kept pairs of shards with their scores and new texts, sorted by split and uid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mmh3
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.release import layouts
from laion_dask.release.tables import files
from laion_dask.schema.values import SPLITS
from laion_dask.storage import attempts, duckdb_connection

SPLIT: Final = "split"
"""Column with the place of the pair's split in SPLITS."""

# Sorted by uid: a random but fixed order, independent of shards.
_KEPT: Final = """
select images.url as "URL", images.caption as "TEXT", images.original_width as "WIDTH",
    images.original_height as "HEIGHT", images.language as "LANGUAGE", images.license as "LICENSE",
    scores.similarity::double as similarity, scores.punsafe, scores.pwatermark, scores.aesthetic, images.uid,
    images.key, images.md5, images.sha256, images.page_url, images.crawl, images.wat, images.record_offset,
    (list_position($order, verdicts.split) - 1)::tinyint as split{further}
from {joined}
where verdicts.reason = 'keep' and list_contains($splits, verdicts.split)
order by split, images.uid
"""


@dataclass(frozen=True, slots=True)
class Shards:
    """The tables of some shards, in the order of these: what a part of the release reads."""

    images: Sequence[Path]
    scores: Sequence[Path]
    verdicts: Sequence[Path]
    new_texts: Mapping[str, Sequence[Path]]
    """The tables of translate and caption by stage, none where it is off."""

    def groups(self, size: int) -> Iterator[Shards]:
        """Yield groups of so many shards that follow each other."""
        written = {stage: {path.name: path for path in paths} for stage, paths in self.new_texts.items()}
        for first in range(0, len(self.images), size):
            here = slice(first, first + size)
            names = [path.name for path in self.images[here]]
            texts = {stage: [found[name] for name in names if name in found] for stage, found in written.items()}
            yield Shards(self.images[here], self.scores[here], self.verdicts[here], texts)

    def paths(self) -> list[Path]:
        """Return all files."""
        return [
            *self.images,
            *self.scores,
            *self.verdicts,
            *(path for some in self.new_texts.values() for path in some),
        ]


def read(shards: Shards, splits: Sequence[str] = SPLITS) -> Iterator[pa.Table]:
    """Yield the kept pairs of these splits in batches: schema RELEASE, SPLIT, and the columns that layouts add."""
    if not shards.images:
        return
    # The similarity of each model, and LAION-400M's tag if there is one.
    stored = pq.read_schema(shards.scores[0]).names
    wanted = [name for name in stored if name.startswith(layouts.OWN) or name == layouts.NSFW]
    further = [f'scores."{name}"' for name in wanted]
    joined, values = attempts.joined(whole=False), attempts.bound(shards.images, shards.scores, shards.verdicts)
    for stage, paths in shards.new_texts.items():
        if paths:
            joined += f" left join read_parquet(${stage}, hive_partitioning = false) {stage} using (uid)"
            values[stage] = duckdb_connection.names(paths)
            further += [f'{stage}."{name}"' for name in layouts.NEW[stage]]
    query = _KEPT.format(joined=joined, further="".join(f", {column}" for column in further))
    values |= {"splits": list(splits), "order": list(SPLITS)}
    with duckdb_connection.connect() as connection:
        for batch in connection.sql(query, params=values).to_arrow_reader(files.ROW_GROUP):
            yield _with_hash(batch)


def _with_hash(batch: pa.RecordBatch) -> pa.Table:
    """Add LAION's integer hash, mmh3 of URL + TEXT, and cast the columns to the types of schema.RELEASE."""
    urls, texts = batch.column("URL").to_pylist(), batch.column("TEXT").to_pylist()
    hashes = [mmh3.hash64(url + text, seed=0, signed=True)[0] for url, text in zip(urls, texts, strict=True)]
    table = pa.Table.from_batches([batch]).append_column("hash", pa.array(hashes, pa.int64()))
    further = [name for name in table.column_names if name not in schema.RELEASE.names]
    columns = schema.RELEASE.schema
    for name in further:
        columns = columns.append(table.schema.field(name))
    return table.select(columns.names).cast(columns)
