"""Shards have names that sort like their numbers, also beyond 100,000 of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.storage import numbered


@pytest.mark.parametrize(
    ("number", "count", "name"),
    [
        (0, 1, "00000"),
        (7, 99_999, "00007"),
        (99_999, 100_000, "99999"),
        (7, 100_001, "000007"),
        (100_000, 100_001, "100000"),
    ],
)
def test_all_shards_have_names_of_one_length_and_at_least_five_digits(number: int, count: int, name: str) -> None:
    assert numbered.name(number, count) == name


@given(st.integers(1, 10**7), st.lists(st.integers(0, 10**7), min_size=2))
def test_names_sort_as_numbers_do(count: int, numbers: list[int]) -> None:
    numbers = [number % count for number in numbers]
    assert sorted(numbers, key=lambda number: numbered.name(number, count)) == sorted(numbers)


@pytest.mark.parametrize("names", [["00002", "00010"], ["99999", "100000"], ["000002", "100000"]])
def test_tables_come_in_the_order_of_their_numbers_and_are_found_by_them(tmp_path: Path, names: list[str]) -> None:
    for name in (*reversed(names), "removed"):
        (tmp_path / f"{name}.parquet").touch()
    assert [path.stem for path in numbered.tables(tmp_path)] == names
    assert [numbered.table(tmp_path, int(name)) for name in names] == [tmp_path / f"{name}.parquet" for name in names]
    assert numbered.table(tmp_path, 3) is None
