"""Write Arrow tables as blocks of PostgreSQL's binary COPY format, for `copy … from stdin (format binary)`.

A row is a count of fields, and for each field its length and its bytes, big-endian (documentation of COPY, "Binary
Format"). NumPy lays the columns of fixed width out as records, and Arrow joins records and texts: Python handles no
single value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_HEAD: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_LENGTH: Final = np.dtype(">i4")
_ROWS_OF_BLOCK: Final = 8192
"""At about 400 bytes a row, a block stays in the processor's cache until it is sent."""


def blocks(rows: pa.Table) -> Iterator[bytes | memoryview]:
    """Yield the rows as blocks of the COPY stream.

    Columns of fixed width come first: integers, floats, fixed-size binary (uuid). Then at least one column of texts, as
    strings or dictionaries of strings. `ValueError` for another order, and where a value is missing.
    """
    fixed = [place for place, kind in enumerate(rows.schema.types) if not _is_text(kind)]
    if fixed != list(range(len(fixed))) or len(fixed) == rows.num_columns:
        message = f"columns of fixed width have to come first, and a text last: {rows.schema.names}"
        raise ValueError(message)
    missing = [name for name in rows.column_names if rows[name].null_count]
    if missing:
        message = f"columns with missing values: {missing}"
        raise ValueError(message)
    sized = pa.table([_sized(column) for column in rows.columns], names=rows.column_names)
    yield _HEAD
    for batch in sized.to_batches(max_chunksize=_ROWS_OF_BLOCK):
        yield _block(batch, len(fixed))
    yield _END


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind))


def _sized(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Put its length before each text of a dictionary: once for each value instead of once for each row."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, _joined([_lengths(chunk.dictionary), chunk.dictionary]))
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, pa.dictionary(column.type.index_type, pa.binary()))


def _block(batch: pa.RecordBatch, fixed: int) -> memoryview:
    """Return the rows of one batch, of which the first `fixed` columns have a fixed width."""
    numbers = [_numbers(batch.column(place)) for place in range(fixed)]
    # numpy packs fields without gaps, so a record has the bytes of the COPY format.
    record = np.dtype(
        [("fields", ">i2")]
        + [
            field
            for place, values in enumerate(numbers)
            for field in ((f"length{place}", _LENGTH), (f"value{place}", values.dtype.newbyteorder(">")))
        ]
    )
    records = np.zeros(batch.num_rows, record)
    records["fields"] = batch.num_columns
    for place, values in enumerate(numbers):
        records[f"length{place}"] = values.dtype.itemsize
        records[f"value{place}"] = values
    pieces = [_binary(records)]
    for column in batch.columns[fixed:]:
        if pa.types.is_dictionary(column.type):
            pieces.append(column.dictionary.take(column.indices))
        else:
            pieces += [_lengths(column), column]
    return _body(_joined(pieces))


def _body(texts: pa.BinaryArray) -> memoryview:
    """Return the bytes of all texts, one after the other, without a copy."""
    start, end = (np.frombuffer(texts.buffers()[1], np.int32)[texts.offset + place] for place in (0, len(texts)))
    return memoryview(texts.buffers()[2])[start:end]


def _numbers(column: pa.Array) -> npt.NDArray[Any]:
    """Return values of fixed width (rows,), without a copy; to_numpy would import pandas, 1.4 s a process."""
    binary = pa.types.is_fixed_size_binary(column.type)
    kind = f"V{column.type.byte_width}" if binary else column.type.to_pandas_dtype()
    return np.frombuffer(column.buffers()[1], kind)[column.offset : column.offset + len(column)]


def _lengths(texts: pa.Array) -> pa.BinaryArray:
    """Return the length of each text (rows,), as 4 bytes, big-endian."""
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return _binary(np.diff(ends).astype(_LENGTH))


def _binary(values: npt.NDArray[Any]) -> pa.BinaryArray:
    """Return values of fixed width (rows,) as their bytes, without a copy."""
    ends = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.dtype.itemsize)
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(values.view(np.uint8))]
    )


def _joined(pieces: list[pa.Array]) -> pa.BinaryArray:
    return pc.binary_join_element_wise(*(piece.cast(pa.binary()) for piece in pieces), b"")
