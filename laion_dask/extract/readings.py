"""Publish finished WATs: pairs, listed defects and a row for each WAT; times go to a file outside the version."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.runner.part import Done
from laion_dask.storage.files import link

_ROWS_IN_MEMORY: Final = 50_000


def publish(done: Iterable[Done], out: Path, times: Path) -> dict[str, Any]:
    """Write pairs/, losses.parquet and reads.parquet into `out`, in the order of the WATs, and schema.TIMES to `times`.

    Returns the counts outside the ledgers: records read despite a defect by reason, listed defects, unreadable WATs.
    Raises `schema.SchemaError` if a part's table does not match the schema.
    """
    in_order = sorted(done, key=lambda part: part.part.args["order"])
    readings = [json.loads((part.folder / "read.json").read_bytes()) for part in in_order]
    (out / "pairs").mkdir(parents=True)
    for part in in_order:
        link(part.folder / "pairs.parquet", out / "pairs" / f"{part.part.name}.parquet")
    listed = _join(schema.LOSSES, [part.folder / "losses.parquet" for part in in_order], out / "losses.parquet")
    _write(schema.READS, readings, out / "reads.parquet")
    times.parent.mkdir(parents=True, exist_ok=True)
    _write(schema.TIMES, readings, times)
    mended: Counter[str] = Counter()
    for part in in_order:
        mended.update(part.counts["mended"])
    return {
        "mended": dict(sorted(mended.items())),
        "defects_listed": listed,
        "wats_unreadable": len(unreadable(in_order)),
    }


def unreadable(done: Iterable[Done]) -> list[Done]:
    """Return the WATs that are missing or have no readable record."""
    return [part for part in done if part.counts["records"]["dropped"].get("wat_unreadable")]


def remove_failed_remote(done: Iterable[Done]) -> list[Done]:
    """Remove and return the parts of remote WATs with an error, so that the next run retries them.

    Local WATs stay: reading the same bytes again would give the same error.
    """
    failed = [part for part in done if part.counts.get("error") and "://" in part.part.args["location"]]
    for part in failed:
        shutil.rmtree(part.folder)
    return failed


def _write(table: schema.Table, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the columns of a table from rows that may have further keys."""
    columns = {column.name: pa.array([row[column.name] for row in rows], column.type) for column in table.columns}
    pq.write_table(table.check(pa.table(columns)), path, compression="zstd")


def _join(table: schema.Table, files: Iterable[Path], path: Path) -> int:
    """Write the rows of many files into one, and return their number; memory holds about a row group."""
    count, pending = 0, table.schema.empty_table()
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for file in files:
            pending = pa.concat_tables([pending, table.check(pq.read_table(file))])
            if pending.num_rows >= _ROWS_IN_MEMORY:
                writer.write_table(pending)
                count, pending = count + pending.num_rows, table.schema.empty_table()
        writer.write_table(pending)
    return count + int(pending.num_rows)
