"""filter.where: what it says of each row, and that it reaches nothing but the columns of that row."""

from __future__ import annotations

import math

import duckdb
import pyarrow as pa
import pytest

from laion_dask.filter import where
from laion_dask.filter.where import WhereError

TABLE = pa.table(
    {
        "a": pa.array([1.0, None, 3.0, math.nan], pa.float32()),
        "n": pa.array([1, 2, 3, 4], pa.int32()),
        "caption": ["x", "y z", "w", ""],
    }
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a > 2", [False, False, True, False]),
        ("not a > 2", [True, False, False, False]),
        ("a is null", [False, True, False, True]),
        ("A between 1 and 2 or pairs.n = 4", [True, False, False, True]),
        ("caption ilike '%Z%'", [False, True, False, False]),
        ("len(string_split(caption, ' ')) > 1", [False, True, False, False]),
        ("case when n > 2 then a > 2 else true end", [True, True, True, False]),
        ("n % 2 = 0 and regexp_matches(caption, '^y')", [False, True, False, False]),
        ("n in (1, 4)", [True, False, False, True]),
        ("true", [True] * 4),
    ],
)
def test_a_row_stays_where_the_expression_is_true(expression: str, expected: list[bool]) -> None:
    where.check(expression, TABLE.schema)
    assert where.mask(expression, TABLE).tolist() == expected


@pytest.mark.parametrize(
    ("expression", "cause"),
    [
        ("a >", "syntax error"),
        ("b > 1", "the column b does not exist. Remedy: one of a, n, caption"),
        ("captoin = ''", "the column captoin does not exist. Remedy: caption, perhaps"),
        ("a + 1", "it gives a FLOAT"),
        ("caption", "it gives a VARCHAR"),
        ("a > 'x'", "Could not convert string 'x'"),
        ("caption > n and a like 'x'", ""),
        ("avg(a) > 1", "avg is not a function of one row"),
        ("row_number() over () > 1", "it has a window"),
        ("(select max(a) from pairs) > 1", "it has a subquery"),
        ("exists (from read_text('/etc/hostname'))", "it has a subquery"),
        ("read_text('/etc/hostname') is not null", "read_text is not a function of one row"),
        ("getenv('HOME') = 'x'", "getenv is not a function of one row"),
        ("random() > 0.5", "random is not a function of one row"),
        ("now() > '2020-01-01'", "now is not a function of one row"),
        ("current_date > '2020-01-01'", "the column current_date does not exist"),
        ("unnest([true, false])", "unnest is not a function of one row"),
        ("* ", "it has a star"),
        ("columns(*) > 1", "it has a star"),
        ("a > $1", "it has a parameter"),
        ("a > 1) from pairs where (true", ""),
        ("true) from range(3), (select 1", ""),
        ("a > 1); drop table x; --", ""),
        ("a > 1); copy (select 1) to '/tmp/x'; --", ""),
        ("a > 1) union (select true", ""),
    ],
)
def test_what_says_nothing_of_a_row_alone_is_refused(expression: str, cause: str) -> None:
    with pytest.raises(WhereError) as refused:
        where.check(expression, TABLE.schema)
    assert str(refused.value).startswith(f"filter.where = {expression!r}: ")
    assert cause in str(refused.value)
    assert "Remedy: " in str(refused.value)


def test_only_the_columns_that_it_names_are_asked_for() -> None:
    assert where.columns("N > 1 and length(caption) > 0", ["a", "n", "caption"]) == ["n", "caption"]


@pytest.mark.parametrize(
    "statement", ["select * from read_text('/etc/hostname')", "set enable_external_access = true", "install httpfs"]
)
def test_the_connection_reaches_no_file_and_cannot_be_unlocked(statement: str) -> None:
    with pytest.raises(duckdb.Error):
        where.connection().sql(statement).fetchall()
