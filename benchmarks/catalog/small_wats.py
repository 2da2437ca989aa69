"""A number of small WATs in, their pairs as the stage extract writes them out: cut from tables of `pairs.py`."""

from __future__ import annotations

import multiprocessing
import shutil
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from benchmarks.catalog import pairs as synthetic
from laion_dask import schema
from laion_dask.extract import sorted_runs as runs
from laion_dask.storage import files

_AT_ONCE: Final = 100  # WATs that are cut out of one table: tables of a few hundred rows would take as long to make


def make(kept: Path, wats: int, rows: int, processes: int) -> list[Path]:
    """Return a file of `rows` pairs for each WAT, below `kept`, made if they are not there yet."""
    code = [Path(__file__), Path(synthetic.__file__), Path(runs.__file__)]
    folder = kept / f"small-wats-{files.digest(*code, schema.PAIRS.names, wats, rows)}"
    if not folder.is_dir():
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        firsts = range(0, wats, _AT_ONCE)
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            deque(pool.map(partial(_write, fresh, min(_AT_ONCE, wats), rows), firsts), maxlen=0)
        fresh.rename(folder)
    return sorted(folder.glob("*.parquet"))


def _write(folder: Path, wats: int, rows: int, first: int) -> None:
    """Write some WATs: each has every n-th row of one table that is sorted by uid, so it is sorted too."""
    table = synthetic.pairs_of(first // _AT_ONCE, wats * rows)
    for place in range(wats):
        wat = first + place
        some = table.take(pa.array(np.arange(place, wats * rows, wats)))
        columns = {
            "wat": pa.repeat(f"crawl-data/CC-MAIN-2024-22/segments/1715971057216.39/wat/{synthetic.name(wat)}", rows),
            "wat_order": pa.array(np.full(rows, wat, np.int32)),
        }
        for name, values in columns.items():
            some = some.set_column(some.column_names.index(name), name, values)
        with runs.SortedRuns(folder / f"{wat:06d}.runs", schema.PAIRS.schema) as sorted_runs:
            sorted_runs.add(schema.PAIRS.check(some))
            sorted_runs.write(folder / f"{wat:06d}.parquet")
