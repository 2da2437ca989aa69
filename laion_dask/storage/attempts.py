"""Join images, scores and verdicts by uid: shard by shard as Arrow tables, or all shards in one SQL query.

Stages are joined by uid, never by row order between stages; one shard is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask.schema.reasons import KEEP
from laion_dask.storage import duckdb_connection, shards
from laion_dask.storage.uids import rows_of

_JOINED: Final = """read_parquet($images, hive_partitioning = false) images
    {join} read_parquet($scores, hive_partitioning = false) scores using (uid)
    {join} read_parquet($verdicts, hive_partitioning = false) verdicts using (uid)"""


class MissingStageError(Exception):
    """A stage has not written what a later one reads."""


@dataclass(frozen=True, slots=True)
class JoinedShard:
    """The attempts of one shard: the columns asked for, `verdict` and `downloaded`, one row an attempt."""

    number: int
    tar: Path
    table: pa.Table


def shard_files(folder: Path) -> list[Path]:
    """Return the tables of a stage's shards, as `shards.tables`; `MissingStageError` where the stage has not run."""
    if not folder.is_dir():
        message = f"{folder} is missing: run the stage {folder.name}, or restore it with `dvc pull` or `dvc checkout`"
        raise MissingStageError(message)
    return shards.tables(folder)


def attempts(data: Path, images: Sequence[str], scores: Sequence[str] = ()) -> Iterator[JoinedShard]:
    """Yield every shard with columns of its images table and of its scores, joined by uid.

    `verdict` is the filter's, and the download's reason where the filter says nothing. Scores are null where none was
    written and NaN where there is no image. `MissingStageError` names the file that is not there.
    """
    for path in shard_files(data / "download"):
        table = pq.read_table(path, columns=[*dict.fromkeys(("uid", "reason", *images))])
        verdicts = _read(data / "filter" / path.name, ["uid", "reason"])
        verdict = pc.coalesce(_aligned(table, verdicts, "reason"), table["reason"])
        columns: dict[str, Any] = {name: table[name] for name in table.column_names}
        columns |= {"verdict": verdict, "downloaded": pc.equal(table["reason"], pa.scalar(KEEP))}
        if scores:
            scored = _read(data / "score" / path.name, ["uid", *scores])
            columns |= {name: _aligned(table, scored, name) for name in scores}
        yield JoinedShard(int(path.stem), path.with_suffix(".tar"), pa.table(columns))


def joined(*, whole: bool) -> str:
    """Return images, scores and verdicts of all shards joined by uid, as SQL behind `from`; `bound` gives its values.

    With `whole`, attempts without a score or verdict stay, with nulls.
    """
    return _JOINED.format(join="left join" if whole else "join")


def bound(images: Sequence[Path], scores: Sequence[Path], verdicts: Sequence[Path]) -> dict[str, Any]:
    """Return the values of `joined`: the files of each table."""
    tables = {"images": images, "scores": scores, "verdicts": verdicts}
    return {name: duckdb_connection.names(paths) for name, paths in tables.items()}


def removed(data: Path) -> pa.Table:
    """Return uid, split and reason of the pairs that a removal took out before download."""
    return _read(data / "catalog" / "removed.parquet", ["uid", "split", "reason"])


def _read(path: Path, columns: list[str]) -> pa.Table:
    if not path.is_file():
        message = f"{path} is missing: run the stage {path.parent.name} again"
        raise MissingStageError(message)
    return pq.read_table(path, columns=columns)


def _aligned(table: pa.Table, other: pa.Table, column: str) -> pa.ChunkedArray[Any]:
    return other[column].take(rows_of(table["uid"], other))
