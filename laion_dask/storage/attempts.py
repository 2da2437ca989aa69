"""Join images, scores and verdicts by uid: shard by shard as Arrow tables, or all shards in one SQL query.

Stages are joined by uid, never by row order; one shard is in memory at a time.
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
from laion_dask.storage import duckdb_connection, numbered
from laion_dask.storage.uids import rows_of

_JOINED: Final = """read_parquet($images, hive_partitioning = false) images
    {join} read_parquet($scores, hive_partitioning = false) scores using (uid)
    {join} read_parquet($verdicts, hive_partitioning = false) verdicts using (uid)"""


class MissingStageError(Exception):
    """An output of an earlier stage is missing."""


@dataclass(frozen=True, slots=True)
class JoinedShard:
    """The attempts of one shard, a row each: the requested columns, `verdict` and `downloaded`."""

    number: int
    tar: Path
    table: pa.Table


def shard_files(folder: Path) -> list[Path]:
    """Return the tables of a stage's shards, as `numbered.tables`; raises `MissingStageError` if it has not run."""
    if not folder.is_dir():
        message = f"{folder} is missing: run the stage {folder.name}, or restore it with `dvc pull` or `dvc checkout`"
        raise MissingStageError(message)
    return numbered.tables(folder)


def attempts(data: Path, images: Sequence[str], scores: Sequence[str] = ()) -> Iterator[JoinedShard]:
    """Yield every shard with columns of its images table and of its scores, joined by uid.

    `verdict` is the filter's, or the download's reason where the filter has none. Scores are null if none was written
    and NaN without an image. Raises `MissingStageError` for a missing file.
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


def kept_uids(verdicts: Path) -> list[str]:
    """Return the uids that the filter keeps of one shard, sorted: what stages behind it depend on."""
    judged = pq.read_table(verdicts, columns=["uid", "reason"])
    return sorted(judged.filter(pc.equal(judged["reason"], KEEP))["uid"].to_pylist())


def kept(
    images: Path, scores: Path, verdicts: Path, columns: Sequence[str], score_columns: Sequence[str] = ()
) -> pa.Table:
    """Return uid and columns of the pairs of one shard that the filter keeps, in the order of its images table.

    Takes the shard's three tables; `score_columns` come from the scores.
    """
    keeps = pa.array(kept_uids(verdicts), pa.string())
    table = pq.read_table(images, columns=[*dict.fromkeys(("uid", *columns))])
    table = table.filter(pc.is_in(table["uid"], value_set=keeps))
    if score_columns:
        scored = pq.read_table(scores, columns=["uid", *score_columns])
        for name in score_columns:
            table = table.append_column(name, _aligned(table, scored, name))
    return table


def joined(*, whole: bool) -> str:
    """Return the SQL after `from` that joins images, scores and verdicts of all shards by uid; `bound` has its values.

    With `whole`, attempts without a score or verdict stay, with nulls.
    """
    return _JOINED.format(join="left join" if whole else "join")


def bound(images: Sequence[Path], scores: Sequence[Path], verdicts: Sequence[Path]) -> dict[str, Any]:
    """Return the bound values of `joined`: the files of each table."""
    tables = {"images": images, "scores": scores, "verdicts": verdicts}
    return {name: duckdb_connection.names(paths) for name, paths in tables.items()}


def removed(data: Path) -> pa.Table:
    """Return uid, split and reason of the pairs that were removed before download."""
    return _read(data / "catalog" / "removed.parquet", ["uid", "split", "reason"])


def _read(path: Path, columns: list[str]) -> pa.Table:
    if not path.is_file():
        message = f"{path} is missing: run the stage {path.parent.name} again"
        raise MissingStageError(message)
    return pq.read_table(path, columns=columns)


def _aligned(table: pa.Table, other: pa.Table, column: str) -> pa.ChunkedArray[Any]:
    return other[column].take(rows_of(table["uid"], other))
