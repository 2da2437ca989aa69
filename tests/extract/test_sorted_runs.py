"""Sorted tables in: one sorted file out, the same whether one run was held or many were laid on disk."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.extract import sorted_runs as runs
from laion_dask.extract.sorted_runs import SortedRuns

SCHEMA = pa.schema([("uid", pa.string()), ("n", pa.int64())])


def table(numbers: list[int], uids: list[str]) -> pa.Table:
    """Return rows sorted by uid, equal uids in their order."""
    rows = sorted(zip(uids, numbers, strict=True), key=lambda row: row[0])
    return pa.table([[uid for uid, _ in rows], [number for _, number in rows]], schema=SCHEMA)


def write(folder: Path, tables: list[pa.Table]) -> tuple[list[tuple[str, int]], pq.FileMetaData]:
    """Write runs and read the file back."""
    with SortedRuns(folder / "runs", SCHEMA) as sorted_runs:
        for run in tables:
            sorted_runs.add(run)
        rows = sorted_runs.write(folder / "out.parquet")
    found = pq.read_table(folder / "out.parquet")
    assert found.num_rows == rows
    assert not (folder / "runs").exists()
    pairs = list(zip(found["uid"].to_pylist(), found["n"].to_pylist(), strict=True))
    return pairs, pq.read_metadata(folder / "out.parquet")


UIDS = st.integers(0, 40).map(lambda number: hashlib.md5(str(number).encode()).hexdigest())


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(UIDS, min_size=1, max_size=30), max_size=5))
def test_the_rows_of_all_runs_come_out_sorted_and_equal_uids_in_the_order_of_the_runs(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[str]]
) -> None:
    rows = [(uid, number) for number, uid in enumerate(uid for chunk in chunks for uid in chunk)]
    tables, place = [], 0
    for chunk in chunks:
        tables.append(table(list(range(place, place + len(chunk))), chunk))
        place += len(chunk)
    found, _ = write(tmp_path_factory.mktemp("runs"), tables)
    assert found == sorted(rows)


def test_row_groups_are_ranges_of_uids_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROWS_PER_GROUP", 100)
    uids = [hashlib.md5(str(number).encode()).hexdigest() for number in range(2_000)]
    one, metadata = write(tmp_path, [table(list(range(2_000)), uids)])
    many, _ = write(tmp_path, [table(list(range(i, i + 250)), uids[i : i + 250]) for i in range(0, 2_000, 250)])
    assert one == many == sorted(zip(uids, range(2_000), strict=True))
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    assert all(0 < group.num_rows <= 100 for group in groups)
    ranges = [group.column(0).statistics for group in groups]
    assert all(a.max < b.min for a, b in pairwise(ranges))
    assert groups[0].column(0).compression == "ZSTD"


def test_without_a_run_the_file_is_empty_and_has_its_columns(tmp_path: Path) -> None:
    found, metadata = write(tmp_path, [])
    assert (found, metadata.num_columns) == ([], 2)
