"""Names of files as DuckDB's readers take them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_dask import composition, queries


@pytest.mark.parametrize("name", ["a[1]", "b*", "c?", "d{1,2}", "it's", "[!x]*", "plain"])
def test_a_path_is_one_file_and_never_a_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "version[2]"
    folder.mkdir()
    for other in ("a1", "bx", "cx", "d1", name):
        pq.write_table(pa.table({"n": [other]}), folder / f"{other}.parquet")
    with queries.connect() as connection:
        path = folder / f"{name}.parquet"
        found = connection.execute(
            "select n, filename from read_parquet($1, filename = true)", [queries.names([path])]
        ).fetchall()
        assert found == [(name, str(path))]
        listed = composition.listed([path])
        assert connection.execute(f"select n from read_parquet({listed})").fetchall() == [(name,)]
