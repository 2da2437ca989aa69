"""Verdicts in, the released tables out: ours by split, subsets, the columns of other data sets, tombstones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mmh3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.release import layouts
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, WITHHELD
from laion_dask.storage import attempts, duckdb_connection

SUBSET_HIGH_RESOLUTION: Final = "high_resolution"
MAIN: Final = ""
"""Folder of the main table in a release."""
MAX_FILES: Final = 128
"""Most files of one split of a table, as in LAION-5B."""
_ROW_GROUP: Final = 50_000
_ZSTD_LEVEL: Final = 3  # fixed, since a changed default of the library would change the files' bytes

# Sorted by uid: a random but fixed order, independent of shards.
_KEPT: Final = """
select images.url as "URL", images.caption as "TEXT", images.original_width as "WIDTH",
    images.original_height as "HEIGHT", images.language as "LANGUAGE", images.license as "LICENSE",
    scores.similarity::double as similarity, scores.punsafe, scores.pwatermark, scores.aesthetic, images.uid,
    images.key, images.md5, images.sha256, images.page_url, images.crawl, images.wat, images.record_offset{further}
from {joined}
where verdicts.reason = 'keep' and verdicts.split = $split
order by images.uid
"""


class TombstonesError(Exception):
    """The earlier tombstones cannot be read; the message has the remedy."""


def release(
    out: Path,
    *,
    split: str,
    images: Sequence[Path],
    scores: Sequence[Path],
    verdicts: Sequence[Path],
    new_texts: Mapping[str, Sequence[Path]],
    settings: params.Release,
    models: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """Write the kept pairs of one split as Parquet, sorted by uid: schema RELEASE, its subsets, and `release.tables`.

    `models` come from `embeddings.about`; `new_texts` are the tables of translate and caption by stage, none where it
    is off. Files have `rows_per_file` rows, or more if there would be more than MAX_FILES files.
    """
    rows = _count(split, verdicts)
    limit = max(settings.rows_per_file, -(-rows // MAX_FILES))
    subsets_ = _subset_rules(settings)
    own = {name: _WrittenFiles(out / name, split, limit, schema.RELEASE.schema) for name in (MAIN, *subsets_)}
    views = {name: layouts.layout(name, models) for name in settings.tables}
    others = {name: _WrittenFiles(out / name, split, limit, view.table.schema) for name, view in views.items()}
    ledger = Ledger()
    for batch in _kept(split, images, scores, verdicts, new_texts):
        further = _with_hash(batch)
        table = schema.RELEASE.check(further.select(schema.RELEASE.names))
        ledger.keep(table.num_rows)
        own[MAIN].write(table)
        for name, rule in subsets_.items():
            own[name].write(table.filter(rule))
        for name, view in views.items():
            others[name].write(view.rows(further))
    counts = {f"rows.{name or 'all'}": files.close() for name, files in own.items()}
    written = {name: files.close() for name, files in others.items()}
    counts |= {f"rows.{name}": rows for name, rows in written.items() if name in layouts.HAVING}
    return {"pairs": ledger.as_dict(), f"rows.{split}": ledger.kept, **counts}


def subsets(settings: params.Release) -> list[str]:
    """Name the subsets in order."""
    return list(_subset_rules(settings))


def _subset_rules(settings: params.Release) -> dict[str, pc.Expression]:
    side = settings.high_resolution_px
    rules = {SUBSET_HIGH_RESOLUTION: (pc.field("WIDTH") >= side) & (pc.field("HEIGHT") >= side)}
    for level in settings.aesthetic:
        # In the column's precision, as in the filter, so that a score of 4.1 is at least 4.1.
        rules[f"aesthetic_{level:g}"] = pc.field("aesthetic") >= pa.scalar(level, pa.float32())
    return rules


def _count(split: str, verdicts: Sequence[Path]) -> int:
    total = 0
    for path in verdicts:
        table = pq.read_table(path, columns=["split", "reason"])
        is_kept = pc.and_(pc.equal(table["split"], split), pc.equal(table["reason"], KEEP))
        total += pc.sum(is_kept).as_py() or 0
    return total


def _kept(
    split: str,
    images: Sequence[Path],
    scores: Sequence[Path],
    verdicts: Sequence[Path],
    new_texts: Mapping[str, Sequence[Path]],
) -> Iterator[pa.RecordBatch]:
    if not images:
        return
    # The similarity of each model, and LAION-400M's tag if there is one.
    stored = pq.read_schema(scores[0]).names
    wanted = [name for name in stored if name.startswith(layouts.OWN) or name == layouts.NSFW]
    further = [f'scores."{name}"' for name in wanted]
    joined, values = attempts.joined(whole=False), attempts.bound(images, scores, verdicts) | {"split": split}
    for stage, paths in new_texts.items():
        if paths:
            joined += f" left join read_parquet(${stage}, hive_partitioning = false) {stage} using (uid)"
            values[stage] = duckdb_connection.names(paths)
            further += [f'{stage}."{name}"' for name in layouts.NEW[stage]]
    query = _KEPT.format(joined=joined, further="".join(f", {column}" for column in further))
    with duckdb_connection.connect() as connection:
        reader = connection.sql(query, params=values).to_arrow_reader(_ROW_GROUP)
        yield from reader


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


class _WrittenFiles:
    """Writes rows of one table into files of equal length named `<folder>/<split>-<number>.parquet`.

    Rows are buffered into full row groups, since batches of a subset are small.
    """

    def __init__(self, folder: Path, split: str, rows_per_file: int, columns: pa.Schema) -> None:
        self._folder, self._split, self._limit, self._columns = folder, split, rows_per_file, columns
        self._rows = self._in_file = 0
        self._writer: pq.ParquetWriter | None = None
        self._buffered: list[pa.Table] = []
        self._buffered_rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        if table.num_rows:
            self._buffered.append(table)
        self._buffered_rows += table.num_rows
        while self._buffered_rows >= (rows := min(_ROW_GROUP, self._limit - self._in_file)):
            self._write_group(rows)

    def _write_group(self, rows: int) -> None:
        """Write buffered rows as one row group, and open the next file when the current one is full."""
        whole = pa.concat_tables(self._buffered)
        self._buffered, self._buffered_rows = [whole.slice(rows)], self._buffered_rows - rows
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._split}-{self._rows // self._limit:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self._columns, compression="zstd", compression_level=_ZSTD_LEVEL)
        self._writer.write_table(whole.slice(0, rows).combine_chunks(), row_group_size=_ROW_GROUP)
        self._rows += rows
        self._in_file += rows
        if self._in_file == self._limit:
            self._next()

    def _next(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._in_file = None, 0

    def close(self) -> int:
        """Write the buffered rows, finish the last file and return the number of rows."""
        if self._buffered_rows:
            self._write_group(self._buffered_rows)
        self._next()
        return self._rows


def write_tombstones(out: Path, verdicts: Sequence[Path], version: str, earlier: Path | None = None) -> int:
    """Write `tombstones.parquet`: the pairs that removals and lists of known content exclude, by digest of the uid.

    `earlier` is that of the previous version: each of its pairs keeps its first version without the pair, and stays in
    the table if this version's crawls lack the pair. Raises `TombstonesError`.
    """
    earlier_rows = schema.TOMBSTONES.schema.empty_table() if earlier is None else earlier_tombstones(earlier)
    with duckdb_connection.connect() as connection:
        connection.register("before", earlier_rows)
        rows = connection.sql(
            "with now as (select sha256(uid) as uid_sha256, reason from read_parquet($1, hive_partitioning = false)"
            " where list_contains($2, reason))"
            " select uid_sha256, coalesce(now.reason, before.reason) as reason, coalesce(before.since, $3) as since"
            " from now full join before using (uid_sha256) order by 1",
            params=[duckdb_connection.names(verdicts), list(WITHHELD), version],
        ).to_arrow_table()
    table = schema.TOMBSTONES.check(rows.cast(schema.TOMBSTONES.schema))
    pq.write_table(table, out / "tombstones.parquet", compression="zstd", compression_level=_ZSTD_LEVEL)
    return int(rows.num_rows)


def earlier_tombstones(path: Path, *, rows: bool = True) -> pa.Table:
    """Read the tombstones of an earlier version; without `rows` only their columns. Raises `TombstonesError`."""
    try:
        return schema.TOMBSTONES.check(pq.read_table(path) if rows else pq.read_schema(path).empty_table())
    except (OSError, pa.ArrowInvalid, schema.SchemaError) as error:
        message = (
            f"release.tombstones names {path}, which is not a table of tombstones ({error}). Remedy: name that of the "
            "previous version: `dvc get . data/release/tombstones.parquet --rev TAG -o tombstones.parquet`"
        )
        raise TombstonesError(message) from error
