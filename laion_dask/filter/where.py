"""Evaluate the SQL expression of filter.where on the rows of a table with DuckDB.

The connection has no access to files, network or extensions, and its settings are locked. An expression must depend on
one row only: subqueries, aggregates, windows and functions of chance or time are refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,
    "threads": 1,
    "lock_configuration": True,
}
_REFUSED: Final = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window",
    "STAR": "a star",
    "PARAMETER": "a parameter",
    "LAMBDA": "a lambda",
    "DEFAULT": "a default",
    "POSITIONAL_REFERENCE": "a position",
}
_EMPTY: Final = ("where_clause", "having", "qualify", "sample", "modifiers", "group_expressions", "group_sets")


class WhereError(Exception):
    """filter.where is refused; the message has the expression and the remedy."""


@functools.cache
def connection() -> duckdb.DuckDBPyConnection:
    """Return this process's connection, which can only access registered tables."""
    return duckdb.connect(config=_CONFIG)


@functools.cache
def _row_by_row() -> frozenset[str]:
    """Return the names of all deterministic functions of one row."""
    rows = connection().execute(
        "select function_name from duckdb_functions() group by 1"
        " having bool_and(function_type = 'scalar' and stability = 'CONSISTENT') or bool_and(function_type = 'macro')"
    )
    return frozenset(str(name) for (name,) in rows.fetchall())


def check(expression: str, schema: pa.Schema) -> None:
    """Raise `WhereError` unless the expression can be evaluated on a table with this schema."""
    columns(expression, schema.names)
    # Evaluated on a row of nulls, since DuckDB converts some constants ('a' to a number) only then.
    mask(expression, pa.table([pa.nulls(1, field.type) for field in schema], names=schema.names))


def columns(expression: str, known: list[str]) -> list[str]:
    """Return the columns that the expression uses, in the order of `known`; raises `WhereError`."""
    spelled = {name.casefold(): name for name in known}
    used = set()
    for node in _nodes(_parsed(expression)):
        kind = str(node.get("class", ""))
        if kind in _REFUSED:
            raise _refused(expression, f"it has {_REFUSED[kind]}", "an expression over the columns of one row")
        if kind == "FUNCTION" and (name := str(node["function_name"]).casefold()) not in _row_by_row():
            raise _refused(expression, f"{name} is not a function of one row", "functions and operators of one row")
        if kind == "COLUMN_REF":
            path = [str(step) for step in node["column_names"]]
            name = path[1] if len(path) > 1 and path[0].casefold() == "pairs" else path[0]
            if name.casefold() not in spelled:
                similar = get_close_matches(name.casefold(), spelled, n=1, cutoff=0.5)
                remedy = f"{spelled[similar[0]]}, perhaps" if similar else f"one of {', '.join(known)}"
                raise _refused(expression, f"the column {name} does not exist", remedy)
            used.add(spelled[name.casefold()])
    return [name for name in known if name in used]


def mask(expression: str, table: pa.Table) -> np.ndarray:
    """Return bool (rows,): whether the expression is true, not false or null. Raises `WhereError`.

    NaN becomes null, since DuckDB treats NaN as larger than any number.
    """
    own = connection()
    # DuckDB refuses a table without columns, and an expression may use none.
    own.register("pairs", _without_nan(table).append_column("_", pa.nulls(table.num_rows, pa.int8())))
    try:
        result = own.sql(f"select ({expression}) as holds from pairs")
        kind = str(result.types[0])
        holds = pc.fill_null(result.to_arrow_table()["holds"], False) if kind == "BOOLEAN" else None
    except duckdb.Error as error:
        raise _refused(expression, str(error).splitlines()[0], "see docs/filters.md for its columns") from error
    finally:
        own.unregister("pairs")
    if holds is None:
        raise _refused(expression, f"it gives a {kind}", "a comparison, which is true or false")
    if len(holds) != table.num_rows:
        raise _refused(expression, "it has no value for each row", "an expression over one row")
    return np.asarray(holds.to_numpy(), bool)


def _without_nan(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_floating(field.type):
            column = table.column(place)
            table = table.set_column(place, field, pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column))
    return table


def _parsed(expression: str) -> Mapping[str, Any]:
    statement = f"select ({expression}) from pairs"
    ((text,),) = connection().execute("select json_serialize_sql($1::varchar)", [statement]).fetchall()
    tree = json.loads(text)
    if tree.get("error"):
        raise _refused(expression, str(tree.get("error_message")), "one SQL expression, as behind WHERE")
    statements = tree["statements"]
    node = statements[0]["node"]
    table = node.get("from_table", {})
    whole = (
        len(statements) == 1
        and node.get("type") == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and (table.get("type"), table.get("table_name")) == ("BASE_TABLE", "pairs")
        and not any(node.get(key) for key in _EMPTY)
        and not node.get("cte_map", {}).get("map")
    )
    if not whole:
        raise _refused(expression, "it is more than one expression", "one SQL expression, as behind WHERE")
    return dict(node["select_list"][0])


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:  # noqa: ANN401 - JSON
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _refused(expression: str, cause: str, remedy: str) -> WhereError:
    return WhereError(f"filter.where = {expression!r}: {cause}. Remedy: {remedy}")
