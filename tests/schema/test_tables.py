"""The vocabulary: what differs from it is named."""

from __future__ import annotations

import pyarrow as pa
import pytest

from laion_dask import schema
from laion_dask.schema import SchemaError, groups, traces

EMPTY = schema.VERDICTS.schema.empty_table()


def test_a_true_table_passes_and_loses_its_metadata() -> None:
    table = EMPTY.replace_schema_metadata({"written by": "someone"})
    assert schema.VERDICTS.check(table).schema.metadata is None


@pytest.mark.parametrize(
    ("table", "named"),
    [
        (EMPTY.drop_columns(["shard", "uid"]), r"missing \['shard', 'uid'\]"),
        (EMPTY.append_column("extra", pa.array([], pa.int8())), r"unknown \['extra'\]"),
        (EMPTY.set_column(1, "shard", pa.array([], pa.int64())), r"shard is int64, should be int32"),
        (
            EMPTY.rename_columns(["uid", "Shard", "split", "reason", "rules", "stays"]),
            r"missing \['shard'\]; unknown \['Shard'\]",
        ),
        (EMPTY.select(["shard", "uid", "split", "reason", "rules", "stays"]), r"the order of columns"),
    ],
)
def test_what_differs_is_named(table: pa.Table, named: str) -> None:
    with pytest.raises(SchemaError, match=rf"^table 'verdicts' differs from laion_dask/schema/tables\.py: {named}$"):
        schema.VERDICTS.check(table)


@pytest.mark.parametrize("table", [*schema.TABLES, *groups.TABLES, *traces.TABLES], ids=lambda table: table.name)
def test_columns_have_one_name_and_a_meaning(table: schema.Table) -> None:
    assert len(set(table.names)) == len(table.names)
    assert all(column.meaning for column in table.columns)
    assert table.check(table.schema.empty_table()).num_rows == 0


def test_a_column_has_the_same_type_in_every_table() -> None:
    types: dict[str, set[str]] = {}
    for table in (*schema.TABLES, *groups.TABLES, *traces.TABLES):
        for column in table.columns:
            types.setdefault(column.name, set()).add(str(column.type))
    # LAION's released tables have a double there; the scores are single.
    assert {name for name, found in types.items() if len(found) > 1} == {"similarity"}
