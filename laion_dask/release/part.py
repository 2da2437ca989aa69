"""Verdicts in, the released tables out: ours by split, subsets, the columns of other data sets, tombstones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.release import layouts
from laion_dask.release.tables import files, kept, kinds, runs
from laion_dask.release.tables.places import Place
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, WITHHELD
from laion_dask.schema.values import SPLITS
from laion_dask.storage import duckdb_connection

Models = Mapping[str, Mapping[str, str]]


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
    models: Models,
) -> dict[str, Any]:
    """Write the kept pairs of one split as Parquet, sorted by uid: schema RELEASE, its subsets, and `release.tables`.

    `models` come from `embeddings.about`; `new_texts` are the tables of translate and caption by stage, none where it
    is off. Files have `rows_per_file` rows, or more if there would be more than MAX_FILES files. All pairs of the
    split are sorted at once: `write_run` and `write_files` do the same for many pairs.
    """
    limit = files.limit(_count(split, verdicts), settings.rows_per_file)
    written = [_Tables(out, kind, split, limit, models) for kind in kinds.kinds(settings)]
    for pairs in kept.read(kept.Shards(images, scores, verdicts, new_texts), [split]):
        for tables in written:
            tables.write(tables.kind.rows(pairs))
    return _counts(settings, split, written)


def write_run(
    out: Path,
    *,
    images: Sequence[Path],
    scores: Sequence[Path],
    verdicts: Sequence[Path],
    new_texts: Mapping[str, Sequence[Path]],
    settings: params.Release,
    ranges: int,
) -> dict[str, Any]:
    """Write the kept pairs of some shards, of all splits, as a run sorted by uid and cut into ranges of uids."""
    pairs = kept.read(kept.Shards(images, scores, verdicts, new_texts))
    return {"run": runs.write(out, pairs, kinds.kinds(settings), ranges)}


def write_files(
    out: Path, *, place: Place, sources: Sequence[Path], settings: params.Release, models: Models
) -> dict[str, Any]:
    """Write some files of each table that has these pairs, out of the runs of all shards (`sources`).

    Their bytes are those that `release` would write.
    """
    (kind,) = (one for one in kinds.kinds(settings) if one.name == place.kind)
    tables = _Tables(out, kind, place.split, place.limit, models, place.number)
    skip, left = place.skip, place.rows
    for number in range(place.first, place.last + 1):
        for pairs in runs.merged(sources, kind, place.split, number, skip, skip + left):
            tables.write(pairs)
            left -= pairs.num_rows
        skip = 0
    return _counts(settings, place.split, [tables])


class _Tables:
    """Writes the tables of one kind in one split; `first` is the number of their first file."""

    def __init__(self, out: Path, kind: kinds.Kind, split: str, limit: int, models: Models, first: int = 0) -> None:
        self.kind = kind
        columns = schema.RELEASE.schema
        self._own = {name: files.WrittenFiles(out / name, split, limit, columns, first) for name in kind.own}
        self._views = {name: layouts.layout(name, models) for name in kind.layouts}
        self._others = {
            name: files.WrittenFiles(out / name, split, limit, view.table.schema, first)
            for name, view in self._views.items()
        }

    def write(self, pairs: pa.Table) -> None:
        """Append pairs to each table in its columns."""
        for written in self._own.values():
            written.write(schema.RELEASE.check(pairs.select(schema.RELEASE.names)))
        for name, written in self._others.items():
            written.write(self._views[name].rows(pairs))

    def close(self) -> dict[str, int]:
        """Finish the files and return the rows of each table."""
        return {name: written.close() for name, written in (*self._own.items(), *self._others.items())}


def _counts(settings: params.Release, split: str, written: Sequence[_Tables]) -> dict[str, Any]:
    """Finish the tables, and count the rows of those whose number is not that of another; 0 of those not written."""
    rows = {name: count for tables in written for name, count in tables.close().items()}
    pairs = rows.get(kinds.MAIN, 0)
    ledger = Ledger()
    ledger.keep(pairs)
    counted = [name for kind in kinds.kinds(settings) for name in kind.tables if kind.rule is not None]
    of_splits = {f"rows.{one}": pairs if one == split else 0 for one in SPLITS}
    return {
        "pairs": ledger.as_dict(),
        **of_splits,
        f"rows.{kinds.ALL}": pairs,
        **{f"rows.{name}": rows.get(name, 0) for name in counted},
    }


def _count(split: str, verdicts: Sequence[Path]) -> int:
    total = 0
    for path in verdicts:
        table = pq.read_table(path, columns=["split", "reason"])
        is_kept = pc.and_(pc.equal(table["split"], split), pc.equal(table["reason"], KEEP))
        total += pc.sum(is_kept).as_py() or 0
    return total


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
    pq.write_table(table, out / "tombstones.parquet", compression="zstd", compression_level=files.ZSTD_LEVEL)
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
