"""The shards of all buckets become one work list: numbered without gaps, in names that sort like their numbers."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from laion_dask import schema
from laion_dask.catalog import publish
from laion_dask.runner.part import Done, Part
from laion_dask.storage import numbered

_MANY = 100_001


def bucket(folder: Path, number: int, count: int) -> Done:
    """Make a bucket with `count` shards, each of which is its own bucket's and place's name."""
    (folder / "shards").mkdir(parents=True)
    for place in range(count):
        (folder / "shards" / f"{place:05d}.parquet").write_text(f"{number}-{place}")
    pq.write_table(schema.REMOVED.schema.empty_table(), folder / "removed.parquet")
    return Done(Part(f"{number:04d}", "key"), folder, {})


@pytest.mark.slow
def test_a_work_list_of_more_shards_than_five_digits_count_is_in_the_order_of_its_buckets(tmp_path: Path) -> None:
    counts = [3, _MANY - 4, 1]
    done = [bucket(tmp_path / str(number), number, count) for number, count in enumerate(counts)]
    (tmp_path / "out" / "shards").mkdir(parents=True)
    assert publish.number_shards(done, tmp_path / "out") == _MANY
    found = numbered.tables(tmp_path / "out" / "shards")
    # Programs that know nothing of numbers sort them alike.
    assert found == sorted(found)
    assert [int(path.stem) for path in found] == list(range(_MANY))
    expected = [f"{number}-{place}" for number, count in enumerate(counts) for place in range(count)]
    picked = (0, 2, 3, 4, 9_999, 99_999, _MANY - 1)
    assert [found[place].read_text() for place in picked] == [expected[place] for place in picked]
