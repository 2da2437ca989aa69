"""Rows of removed pairs in tables: whether they hold more than names and fate, and the same rows without that."""

from __future__ import annotations

from math import isnan
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask import trace_tables

NAMES: Final = frozenset(
    {"uid", "uid_sha256", "key", "slot", "shard", "split", "status", "reason", "rules", "since", "stays", "image"}
)
"""Columns that name a pair, or say what became of it: they stay, so that a version can be verified."""


def has_more(batch: pa.RecordBatch, uids: frozenset[str]) -> bool:
    """Tell whether rows of these uids hold anything but what names them."""
    if "uid" not in batch.schema.names or set(batch.schema.names) <= NAMES:
        return False
    return blanked(pa.Table.from_batches([batch]), uids) is not None


def blanked(table: pa.Table, uids: frozenset[str]) -> pa.Table | None:
    """Return a table in which rows of these uids keep what names them and nothing else; None if none had more.

    Texts become empty, whole numbers 0, others not a number; types and order stay.
    """
    rows = rows_of(table, uids)
    if not rows.any():
        return None
    mask = pa.array(rows)
    changed = False
    for place, column in enumerate(table.schema):
        if column.name in NAMES:
            continue
        if _is_blank(table[column.name], rows):
            continue
        values = pc.if_else(mask, _empty(_plain(column.type)), table[column.name].cast(_plain(column.type)))
        table = table.set_column(place, column, values.cast(column.type))
        changed = True
    return table if changed else None


def rows_of(table: pa.Table, uids: frozenset[str]) -> np.ndarray:
    """Return bool (rows,): the row's uid is one of them."""
    names = trace_tables.strings(table["uid"])
    if names is None:
        return np.zeros(table.num_rows, bool)
    return np.asarray(pc.is_in(names, value_set=pa.array(sorted(uids), pa.large_string())).to_numpy(False))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_blank(column: pa.ChunkedArray, rows: np.ndarray) -> bool:
    """Tell whether these rows of a column are empty already: missing, no text, zero, false or not a number."""
    values = column.take(pa.array(np.flatnonzero(rows))).to_pylist()
    return all(
        value is None or value in ("", b"", 0) or (isinstance(value, float) and isnan(value)) for value in values
    )


def _empty(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.scalar("", kind)
    if pa.types.is_floating(kind):
        return pa.scalar(float("nan"), kind)
    if pa.types.is_boolean(kind):
        return pa.scalar(False, kind)
    if pa.types.is_integer(kind):
        return pa.scalar(0, kind)
    return pa.scalar(None, kind)
