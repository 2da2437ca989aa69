"""Tables into the binary format of COPY: a real PostgreSQL reads back what was written, whatever it is."""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.catalog import copy_binary

COLUMNS = {
    "id": (pa.binary(16), "uuid"),
    "small": (pa.int16(), "smallint"),
    "whole": (pa.int32(), "integer"),
    "large": (pa.int64(), "bigint"),
    "real": (pa.float32(), "real"),
    "text": (pa.string(), "text"),
    "few": (pa.dictionary(pa.int32(), pa.string()), "text"),
    "last": (pa.string(), "text"),
}
# A surrogate is no character, and U+0000 is one that PostgreSQL's text cannot hold.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
rows = st.tuples(
    st.binary(min_size=16, max_size=16),
    *(st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (16, 32, 64)),
    st.floats(width=32, allow_nan=False),
    texts,
    st.sampled_from(["", "en", "\\N", "🦊\t\n"]),
    texts,
)


def table(values: list[tuple[Any, ...]]) -> pa.Table:
    columns = zip(*values, strict=True) if values else [()] * len(COLUMNS)
    return pa.table(
        {name: pa.array(column, kind) for (name, (kind, _)), column in zip(COLUMNS.items(), columns, strict=True)}
    )


def through_server(dsn: str, found: pa.Table) -> list[tuple[Any, ...]]:
    """COPY a table into PostgreSQL and return its rows, in their order."""
    columns = ", ".join(f"{name} {COLUMNS[name][1]}" for name in found.column_names)
    with psycopg.connect(dsn) as connection, connection.cursor(binary=True) as cursor:
        cursor.execute(f"create temporary table copied ({columns}) on commit drop")
        with cursor.copy("copy copied from stdin (format binary)") as copy:
            for block in copy_binary.blocks(found):
                copy.write(block)
        return cursor.execute("select * from copied").fetchall()


def as_read(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (UUID(bytes=values[0]), *values[1:])


@settings(deadline=None, max_examples=30)
@given(st.lists(rows, max_size=30), st.integers(0, 5))
def test_a_server_reads_back_what_was_written(dsn: str, values: list[tuple[Any, ...]], start: int) -> None:
    assert through_server(dsn, table(values).slice(start)) == [as_read(row) for row in values[start:]]


def test_blocks_follow_each_other_without_a_seam(dsn: str) -> None:
    values = [
        (b"%016d" % row, row % 7, row, row << 33, row / 4, f"t{row}", "en", "x" * (row % 90)) for row in range(20_000)
    ]
    pieces = [table(values[:11]), table(values[11:])]
    assert len(list(copy_binary.blocks(pa.concat_tables(pieces)))) > 3
    assert through_server(dsn, pa.concat_tables(pieces)) == [as_read(row) for row in values]


def test_the_bytes_are_those_of_the_format() -> None:
    found = pa.table({"whole": pa.array([-2], pa.int32()), "text": pa.array(["é"])})
    head = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
    row = struct.pack(">hii", 2, 4, -2) + struct.pack(">i", 2) + b"\xc3\xa9"
    assert b"".join(copy_binary.blocks(found)) == head + row + b"\xff\xff"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["text", "whole"], r"fixed width have to come first, and a text last: \['text', 'whole'\]"),
        (["whole"], "a text last"),
        (["whole", "missing"], r"missing values: \['missing'\]"),
    ],
)
def test_what_would_be_another_row_is_refused(names: list[str], message: str) -> None:
    columns = {"whole": pa.array([1], pa.int32()), "text": pa.array(["a"]), "missing": pa.array([None], pa.string())}
    with pytest.raises(ValueError, match=message):
        list(copy_binary.blocks(pa.table(columns).select(names)))


def test_a_slice_is_written_without_what_lies_beside_it() -> None:
    found = pa.table({"whole": pa.array(range(10), pa.int32()), "text": pa.array([str(row) for row in range(10)])})
    body = b"".join(copy_binary.blocks(found.slice(4, 2)))[19:-2]
    assert body == b"".join(struct.pack(">hiii", 2, 4, row, 1) + b"%d" % row for row in (4, 5))
