"""Open an in-memory DuckDB connection with a memory limit; what is larger spills to temporary files.

Paths are taken literally. DuckDB reads patterns in it (see `names`), and takes a folder
such as `language=en` for the column `language` of every file below, in place of the file's own: so each read_parquet of
this project has `hive_partitioning = false`.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb

# What joins and sorts may hold before they spill. A worker has other things in memory as well.
_MEMORY: Final = "2GB"


@contextmanager
def connect(memory: str = _MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database whose joins and sorts take at most `memory`, as DuckDB writes sizes; the rest is spilled.

    Spilled files go where the system keeps temporary files (TMPDIR), and are gone at the end.
    """
    with (
        tempfile.TemporaryDirectory(prefix="laion-dask-") as spill,
        duckdb.connect(config={"memory_limit": memory, "temp_directory": spill}) as connection,
    ):
        yield connection


def names(paths: Iterable[Path | str]) -> list[str]:
    """Return paths as DuckDB's readers of files take them: it reads a name with [, * or ? as a pattern of names."""
    return [glob.escape(str(path)) for path in paths]
