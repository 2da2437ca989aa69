"""What a table, a column and an array are: names, types, units, meanings, and the check of a table that is written."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


class SchemaError(Exception):
    """A table does not have the columns and types that the vocabulary gives it."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Arrow type, its unit where it has one, and what it means."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the pipeline: who writes it, what a row is, and its columns in order."""

    name: str
    stage: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return pa.schema([pa.field(column.name, column.type) for column in self.columns])

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    def check(self, table: pa.Table) -> pa.Table:
        """Return the table with metadata removed; `SchemaError` names what differs."""
        if table.schema.remove_metadata().equals(self.schema):
            return table.replace_schema_metadata(None)
        found = {field.name: str(field.type) for field in table.schema}
        wanted = {column.name: str(column.type) for column in self.columns}
        parts = [f"missing {sorted(wanted.keys() - found.keys())}"] if wanted.keys() - found.keys() else []
        parts += [f"unknown {sorted(found.keys() - wanted.keys())}"] if found.keys() - wanted.keys() else []
        parts += [
            f"{name} is {found[name]}, should be {wanted[name]}"
            for name in wanted
            if name in found and found[name] != wanted[name]
        ]
        differences = "; ".join(parts) or "the order of columns"
        message = f"table {self.name!r} differs from laion_dask/schema/tables.py: {differences}"
        raise SchemaError(message)


@dataclass(frozen=True, slots=True)
class Array:
    """One Zarr array in the group of each model: its data type, dimensions and meaning."""

    name: str
    dtype: str
    dims: tuple[str, str]
    meaning: str
