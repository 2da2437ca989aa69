"""Files that are sorted by uid, read bucket by bucket: every row once, in the bucket of its uid."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import tables

from laion_dask import schema
from laion_dask.catalog import pair_files
from laion_dask.catalog.pair_files import uid_range

few = settings(deadline=None, max_examples=10)


@given(st.integers(0, 2**128 - 1), st.integers(0, 12))
def test_every_uid_falls_into_the_bucket_of_its_first_bits_and_no_other(number: int, bits: int) -> None:
    uid, buckets = f"{number:032x}", 1 << bits
    bucket = number >> (128 - bits)
    first, after = uid_range(bucket, buckets)
    assert first <= uid < after
    if bucket + 1 < buckets:
        assert after == uid_range(bucket + 1, buckets)[0]


@few
@given(st.lists(st.integers(0, 2**128 - 1), max_size=60, unique=True), st.integers(1, 7), st.sampled_from([1, 2, 8]))
def test_reading_all_buckets_gives_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, uids: list[int], group: int, buckets: int
) -> None:
    found = tables.pairs(*({"uid": f"{uid:032x}"} for uid in uids))
    path = tmp_path_factory.mktemp("pairs") / "0.parquet"
    pq.write_table(found, path, row_group_size=group)
    read = [pair_files.read([path], bucket, buckets)["uid"].to_pylist() for bucket in range(buckets)]
    assert [uid for some in read for uid in some] == found["uid"].to_pylist()
    width = 2**128 // buckets
    assert all(int(uid, 16) // width == bucket for bucket, some in enumerate(read) for uid in some)


def test_files_of_another_layout_are_refused(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "0.parquet", tables.pairs({}).drop_columns(["ips"]))
    with pytest.raises(schema.SchemaError, match=r"missing \['ips'\]"):
        pair_files.read([path], 0, 1)
