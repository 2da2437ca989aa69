"""Rows of removed pairs in tables: find those with more than uid and verdict, and blank the rest."""

from __future__ import annotations

from math import isnan
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.removals.traces import trace_tables

NAMES: Final = frozenset(
    {"uid", "uid_sha256", "key", "slot", "shard", "split", "status", "reason", "rules", "since", "stays", "image"}
)
"""Columns that identify a pair, or have its verdict: they stay, so that a version can be verified."""


def has_more(batch: pa.RecordBatch, uids: frozenset[str]) -> bool:
    """Tell whether rows of these uids, in any spelling, have values in other columns than `NAMES`."""
    names = ["uid" if name.strip().lower() == "uid" else name for name in batch.schema.names]
    if names.count("uid") != 1 or set(names) <= NAMES:
        return False
    return blanked(pa.Table.from_batches([batch.rename_columns(names)]), uids) is not None


def blanked(table: pa.Table, uids: frozenset[str]) -> pa.Table | None:
    """Blank all columns but `NAMES` in rows of these uids; None if they already are blank.

    Texts become empty, integers 0, floats NaN; types and order stay.
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
    """Return bool (rows,): whether the row's uid is one of them."""
    column = table["uid"].combine_chunks()
    names = trace_tables.strings(column)
    if names is None:
        return _rows_of_bytes(column, uids)
    matches = pc.is_in(names, value_set=pa.array(sorted(uids), pa.large_string()))
    if not pc.all(pc.fill_null(pc.match_substring_regex(names, "^[0-9a-f]{32}$"), True)).as_py():
        plain = pc.replace_substring(pc.utf8_lower(pc.utf8_trim_whitespace(names)), "-", "")
        matches = pc.is_in(plain, value_set=pa.array(sorted(uids), pa.large_string()))
    return np.asarray(matches.to_numpy(False))


def _rows_of_bytes(column: pa.Array, uids: frozenset[str]) -> np.ndarray:
    """Return the same as `rows_of` for uids that are bytes: 16 of them, or their hex digits."""
    kind = column.type
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    if isinstance(column, pa.ExtensionArray):
        return _rows_of_bytes(column.storage, uids)
    if not any(test(kind) for test in tests):
        return np.zeros(len(column), bool)
    forms = [form for uid in sorted(uids) for form in (uid.encode(), _packed(uid)) if form]
    plain = column.cast(pa.binary()) if pa.types.is_fixed_size_binary(kind) else column
    matches = pc.is_in(plain.cast(pa.large_binary()), value_set=pa.array(forms, pa.large_binary()))
    return np.asarray(matches.to_numpy(False))


def _packed(uid: str) -> bytes:
    try:
        return bytes.fromhex(uid)
    except ValueError:
        return b""


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_blank(column: pa.ChunkedArray, rows: np.ndarray) -> bool:
    """Tell whether these rows of a column are blank already: null, empty, zero, false or NaN."""
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
