"""Open an in-memory DuckDB connection with a memory limit; larger data spills to temporary files.

DuckDB interprets paths: patterns (escaped by `names`), and folders such as `language=en`, whose value replaces the
column `language` of the files below. So each read_parquet of this project has `hive_partitioning = false`.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

# Memory of joins and sorts before they spill; a worker needs memory for other data too.
_MEMORY: Final = "2GB"


@contextmanager
def connect(memory: str = _MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database whose joins and sorts use at most `memory` (a DuckDB size) and spill the rest.

    Spilled files go to the system's temporary folder (TMPDIR), and are removed at the end.
    """
    with (
        tempfile.TemporaryDirectory(prefix="laion-dask-") as spill,
        duckdb.connect(config={"memory_limit": memory, "temp_directory": spill}) as connection,
    ):
        # A program without a file is taken for an interactive one, and so are workers: long queries would print a bar.
        connection.execute("set enable_progress_bar = false")
        yield connection


def names(paths: Iterable[Path | str]) -> list[str]:
    """Escape paths for DuckDB's file readers, which treat [, * and ? as patterns."""
    return [glob.escape(str(path)) for path in paths]
