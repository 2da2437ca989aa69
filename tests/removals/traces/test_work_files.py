"""Traces of removed pairs are found in the files that parts leave in the work folder, wherever a pair lies in them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from made.versions import tables

from laion_dask.catalog import merged_pairs
from laion_dask.release.tables import runs
from laion_dask.removals.traces import traces
from laion_dask.removals.traces.traces import Traces

PAIRS = 40
BUCKETS = 8


def uid(number: int) -> str:
    return f"{number * 16**30 * 6:032x}"


def gone(number: int) -> Traces:
    """Return the traces of a pair: its uid, address and text."""
    none = frozenset[str]()
    url, text = f"https://a.example/{number}.jpg", f"a drawn picture of the number {number}"
    return Traces(frozenset({uid(number)}), frozenset({url}), frozenset({text}), none, none)


@pytest.mark.parametrize("number", [0, 1, PAIRS // 2, PAIRS - 1])
def test_a_pair_is_found_in_merged_pairs(tmp_path: Path, number: int) -> None:
    rows = [
        {
            "uid": uid(place),
            "url": f"https://a.example/{place}.jpg",
            "text": f"a drawn picture of the number {place}",
            "wat": f"wat {place % 5}",
        }
        for place in range(PAIRS)
    ]
    files = [tables.write(tmp_path / f"{part}.parquet", tables.pairs(*rows[part::4])) for part in range(4)]
    merged_pairs.merge(tmp_path, files=files, buckets=BUCKETS)
    path = tmp_path / merged_pairs.FILE
    assert traces.found_in(path, gone(number))
    assert not traces.found_in(path, gone(PAIRS + 1))


@pytest.mark.parametrize("number", [0, 1, PAIRS // 2, PAIRS - 1])
def test_a_pair_is_found_in_the_runs_of_a_release(tmp_path: Path, number: int) -> None:
    path = tmp_path / "rows.arrows"
    with path.open("wb") as stream:
        for first in range(0, PAIRS, 7):
            some = range(first, min(first + 7, PAIRS))
            columns = {
                "uid": [uid(place) for place in some],
                "URL": [f"https://a.example/{place}.jpg" for place in some],
                "TEXT": [f"a drawn picture of the number {place}" for place in some],
            }
            runs._append(stream, pa.table(columns))  # noqa: SLF001 - the one place that knows the form
    assert traces.found_in(path, gone(number))
    assert not traces.found_in(path, gone(PAIRS + 1))
