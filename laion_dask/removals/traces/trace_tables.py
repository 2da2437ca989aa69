"""Read the values of tables: columns of every Arrow type, metadata and statistics."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.removals.traces import trace_formats

_ROWS: Final = 10_000
_MIN_BYTES: Final = 64
"""Binary values from this size on are searched as files, such as a picture or a packed text."""

Piece = tuple[str, bytes, bool]
"""Place, content, and whether it is a file rather than lines of values."""
Text = tuple[str, bytes]


def of_parquet(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file."""
    with pq.ParquetFile(file) as table:
        yield from table.iter_batches(batch_size=_ROWS)


def parquet_texts(file: IO[bytes]) -> Iterator[Text]:
    """Yield the texts of a Parquet file besides its rows: metadata of file and fields, statistics of columns."""
    with pq.ParquetFile(file) as table:
        yield from _texts_of(table.schema_arrow)
        footer = table.metadata.metadata or {}
        yield from ((f"metadata {_name(key)}", key + b"\n" + value) for key, value in footer.items())
        for group in range(table.metadata.num_row_groups):
            lines = list(_statistics(table.metadata.row_group(group)))
            yield "column statistics", b"\n".join(lines)


def _statistics(group: Any) -> Iterator[bytes]:  # noqa: ANN401 - pyarrow has no types
    for place in range(group.num_columns):
        known = group.column(place).statistics
        for value in (known.min_raw, known.max_raw) if known is not None and known.has_min_max else ():
            if isinstance(value, bytes):
                yield value


def of_arrow(file: IO[bytes], *, stream: bool) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an Arrow IPC file (Feather), or of streams that follow each other."""
    if stream:
        peekable = file if hasattr(file, "peek") else io.BufferedReader(cast("io.RawIOBase", file))
        while peekable.peek(1):
            yield from pa.ipc.open_stream(peekable)
        return
    with pa.ipc.open_file(file) as batches:
        for place in range(batches.num_record_batches):
            yield batches.get_batch(place)


def of_orc(file: IO[bytes]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of an ORC file."""
    from pyarrow import orc  # noqa: PLC0415 - hardly ever needed

    table = orc.ORCFile(file)
    for place in range(table.nstripes):
        yield table.read_stripe(place)


def pieces(batch: pa.RecordBatch) -> Iterator[Piece]:
    """Yield the values of every column, nested ones too."""
    yield from ((place, text, False) for place, text in _texts_of(batch.schema))
    for field, column in zip(batch.schema, batch.columns, strict=True):
        yield from ((f"column {field.name}", content, own) for content, own in _values(column))


def strings(column: pa.Array | pa.ChunkedArray) -> pa.Array | None:
    """Return a column of texts as one plain array of strings; None for other types."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    return None


def _texts_of(schema: pa.Schema) -> Iterator[Text]:
    for key, value in (schema.metadata or {}).items():
        yield f"metadata {_name(key)}", key + b"\n" + value
    for field in schema:
        lines = [part for pair in (field.metadata or {}).items() for part in pair]
        yield f"metadata of column {field.name}", b"\n".join([field.name.encode(), *lines])


def _name(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _values(array: pa.Array) -> Iterator[tuple[bytes, bool]]:
    """Yield the contents of an array, with lists and structs flattened."""
    kind = array.type
    if _is_list(kind):
        yield from _of_list(array, kind)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield _joined(array.cast(pa.large_string()).cast(pa.large_binary())), False
    elif pa.types.is_fixed_size_binary(kind):
        yield from _of_binary(array.cast(pa.binary()).cast(pa.large_binary()))
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        yield from _of_binary(array.cast(pa.large_binary()))
    else:
        for inner in _inner(array, kind):
            yield from _values(inner)


def _inner(array: pa.Array, kind: pa.DataType) -> list[pa.Array]:
    """Return the child arrays of an array; none for numbers."""
    if isinstance(array, pa.ExtensionArray):
        return [array.storage]
    if pa.types.is_dictionary(kind):
        # The whole dictionary: it may store values that no row uses any more.
        return [array.dictionary]
    if pa.types.is_run_end_encoded(kind):
        return [array.values]
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return [array.field(place) for place in range(kind.num_fields)]
    return [array.keys, array.items] if pa.types.is_map(kind) else []


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(test(kind) for test in tests) or pa.types.is_large_list_view(kind)


def _of_list(array: pa.Array, kind: pa.DataType) -> Iterator[tuple[bytes, bool]]:
    values = array.values if hasattr(array, "values") else array.flatten()
    if kind.value_type in {pa.uint8(), pa.int8()}:
        # Bytes as a list of 8-bit numbers: each row may be a picture.
        for row in array:
            if row.is_valid and len(row.values):
                yield bytes(row.values.cast(pa.uint8(), safe=False).to_numpy(zero_copy_only=False).astype("u1")), True
        return
    yield from _values(values)


def _of_binary(array: pa.Array) -> Iterator[tuple[bytes, bool]]:
    """Yield small values as lines; large ones, and small ones with the magic of a known format, each as a file."""
    lines = []
    for value in pc.unique(array.drop_null()).to_pylist():
        if len(value) >= _MIN_BYTES or trace_formats.kind_of(value[:64], ""):
            yield value, True
        else:
            lines.append(value)
    yield b"\n".join(lines), False


def _joined(array: pa.Array) -> bytes:
    """Return the distinct values as lines."""
    different: Iterable[bytes] = pc.unique(array.drop_null()).to_pylist()
    return b"\n".join(different)
