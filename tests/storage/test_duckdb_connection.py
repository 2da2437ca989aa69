"""Names of files as DuckDB's readers take them, and what a connection prints: nothing."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.places import ROOT
from made.processes import programs

from laion_dask.blocklists import removal_ledger
from laion_dask.filter import takedown
from laion_dask.release import composition
from laion_dask.storage import duckdb_connection


@pytest.mark.parametrize("name", ["a[1]", "b*", "c?", "d{1,2}", "it's", "[!x]*", "plain"])
def test_a_path_is_one_file_and_never_a_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "version[2]"
    folder.mkdir()
    for other in ("a1", "bx", "cx", "d1", name):
        pq.write_table(pa.table({"n": [other]}), folder / f"{other}.parquet")
    with duckdb_connection.connect() as connection:
        path = folder / f"{name}.parquet"
        found = connection.execute(
            "select n, filename from read_parquet($1, filename = true, hive_partitioning = false)",
            [duckdb_connection.names([path])],
        ).fetchall()
        assert found == [(name, str(path))]
        listed = composition.listed([path])
        assert connection.execute(f"select n from read_parquet({listed}, hive_partitioning = false)").fetchall() == [
            (name,)
        ]


def test_every_reader_of_files_takes_no_folder_for_a_column() -> None:
    readers = re.compile(r"(?<!duckdb\.)(?<!polars\.)read_parquet\((?!.*hive_partitioning = false\))", re.MULTILINE)
    sources = [path for folder in ("laion_dask", "workflow", "experiments") for path in (ROOT / folder).rglob("*.py")]
    assert [str(path) for path in sources if readers.search(path.read_text())] == []


@pytest.mark.parametrize("folder", ["reason=keep/uid=7/host=a.example", "a[1]/b*?", "it's"])
def test_the_path_of_a_project_decides_nothing_of_what_its_files_say(tmp_path: Path, folder: str) -> None:
    said = {}
    for place in ("plain", folder):
        shards = tmp_path / place
        shards.mkdir(parents=True)
        rows = {
            "uid": ["a", "b"],
            "host": ["www.gone.example", "b.example"],
            "url": ["http://www.gone.example/", "http://b.example/"],
        }
        pq.write_table(pa.table(rows), shards / "00000.parquet")
        gone = removal_ledger.Removal("domain", "gone.example", "2026-11-01", "", "asked")
        found = takedown.matched([gone], [shards / "00000.parquet"])
        said[place] = takedown.by_shard(found)
    assert said[folder] == said["plain"]
    assert said["plain"] == {"00000": ["a"]}


def test_a_long_query_prints_no_bar_where_the_program_has_no_file_as_in_workers() -> None:
    asked = "select current_setting('enable_progress_bar')"
    code = f"""
import duckdb
from laion_dask.storage import duckdb_connection
print(duckdb.connect().sql("{asked}").fetchall())
with duckdb_connection.connect() as connection:
    print(connection.sql("{asked}").fetchall())
"""
    done = programs.finished([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[(True,)]", "[(False,)]"]
