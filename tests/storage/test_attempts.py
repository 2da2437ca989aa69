"""Stages joined by uid."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.versions import sample_version

from laion_dask.storage import attempts
from laion_dask.storage.attempts import MissingStageError


def test_rows_are_joined_by_uid_though_the_stages_order_them_differently(tmp_path: Path) -> None:
    data, _ = sample_version.write(tmp_path, links=80)
    verdicts = {
        row["uid"]: row["reason"]
        for path in (data / "filter").glob("0*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    seen = 0
    for shard in attempts.attempts(data, ["key"], ["similarity"]):
        assert shard.tar.is_file()
        for row in shard.table.to_pylist():
            assert row["verdict"] == verdicts[row["uid"]]
            assert row["downloaded"] == (row["reason"] == "keep")
            assert row["downloaded"] == (not math.isnan(row["similarity"]))
            seen += 1
    assert seen == len(verdicts)


def test_an_attempt_without_a_verdict_has_the_reason_of_the_download(tmp_path: Path) -> None:
    data, _ = sample_version.write(tmp_path, links=80, shards=1)
    path = data / "filter" / "00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 0), path)
    (shard,) = attempts.attempts(data, [])
    assert shard.table["verdict"].to_pylist() == shard.table["reason"].to_pylist()


@pytest.mark.parametrize("lost", ["score/00001.parquet", "filter/00000.parquet", "catalog/removed.parquet"])
def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path, lost: str) -> None:
    data, _ = sample_version.write(tmp_path, links=40)
    (data / lost).unlink()
    stage, name = lost.split("/")
    with pytest.raises(MissingStageError, match=f"{name} is missing: run the stage {stage}"):
        [*attempts.attempts(data, [], ["similarity"]), attempts.removed(data)]


def test_a_missing_stage_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="run the stage download"):
        next(attempts.attempts(tmp_path, []))
