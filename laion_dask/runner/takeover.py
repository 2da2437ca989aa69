"""Find rows of earlier parts that a new part can take over instead of making them: by the uid of the pair.

A part is known by the digest of all that determines it, so a removal, one more WAT or other shards give new parts. Most
of their rows lie in parts of earlier runs, in the same folder. A part that can be taken from says so in its counts: by
which rules its rows were made, and which of several parts with the same row is the later one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.runner import part_files
from laion_dask.runner.part import Part, with_code
from laion_dask.runner.stage import home
from laion_dask.storage import duckdb_connection, numbered
from laion_dask.storage.files import sha256
from laion_dask.workers import code_digest

OFFERS: Final = "offers"
"""Key of a part's counts: what `offer` returned."""
TAKEN: Final = "taken"
"""Key of a part's counts: how many rows were made, and how many taken over; in no metrics, since history decides it."""
_INDEX: Final = pa.schema([("shard", pa.string()), ("uid", pa.string()), ("table", pa.string()), ("row", pa.int64())])
_ROW_GROUP: Final = 20_000


class Earlier(NamedTuple):
    """A row of an earlier part: the table that has it, `<folder>/<shard>.parquet`, and its row there."""

    table: Path
    row: int


def offer(rules: str, rank: int = 0) -> dict[str, Any]:
    """Return what a part says of itself in its counts; of equal rows those with the higher rank are taken over."""
    return {"rules": rules, "rank": rank}


def counted(made: int, taken: int) -> dict[str, int]:
    """Return the counts under `TAKEN`."""
    return {"made": made, "taken_over": taken}


def with_earlier(
    stage: str, todo: Sequence[Part], tables: Sequence[Path], rules: str, newest: Sequence[str] = ()
) -> list[Part]:
    """Return the parts of a stage; those that are not finished get `earlier`, the index of rows to take over.

    `tables` has a table with the uids of each part's rows. `newest` are columns of the earlier tables: of several rows
    with one uid, that with the greatest values counts. Tasks read the index by `of_shard`.
    """
    work = home() / "parts" / stage
    code = code_digest.of_stage(stage)
    folders = {part.name: work / part.key for part in with_code(todo, code)}
    wanted = {part.name: table for part, table in zip(todo, tables, strict=True) if not folders[part.name].exists()}
    folder = work.with_name(f"{stage}.takeover")
    shutil.rmtree(folder, ignore_errors=True)
    earlier = _offering(work, rules, except_for={one.name for one in folders.values()}) if wanted else {}
    if not earlier:
        return list(todo)
    folder.mkdir(parents=True)
    index = folder / "index.parquet"
    _join(wanted, earlier, newest, index)
    return [replace(part, args={**part.args, "earlier": index}) if part.name in wanted else part for part in todo]


def _offering(work: Path, rules: str, except_for: set[str]) -> dict[Path, int]:
    """Return the tables of the earlier parts that were made by these rules, and their ranks."""
    found: dict[Path, int] = {}
    for counts in sorted(work.glob(f"*/{part_files.COUNTS_FILE}")):
        if counts.parent.name in except_for or counts.parent.name.endswith(".tmp"):
            continue
        try:
            finished = part_files.read(counts.parent)
        except part_files.DamagedPartError:
            continue  # it is not needed, so it is no error
        offered = finished.counts.get(OFFERS, {}) if finished else {}
        if offered.get("rules") == rules:
            # They are read here to the end, so that checking them costs little.
            tables = [table for table in numbered.tables(counts.parent) if _is_intact(table, [])]
            found |= dict.fromkeys(tables, offered["rank"])
    return found


def _join(wanted: Mapping[str, Path], earlier: Mapping[Path, int], newest: Sequence[str], out: Path) -> None:
    """Write the index, sorted by shard: for each wanted uid the best row of the earlier tables."""
    names = duckdb_connection.names
    later = [f'earlier."{column}" desc nulls last' for column in newest]
    order = ", ".join([*later, "ranks.rank desc", "earlier.filename"])
    with duckdb_connection.connect() as connection:
        shards = pa.table({"path": [str(path) for path in wanted.values()], "shard": list(wanted)})
        connection.register("shards", shards)
        ranks = pa.table({"path": [str(path) for path in earlier], "rank": list(earlier.values())})
        connection.register("ranks", ranks)
        reader = connection.sql(
            'select shards.shard, wanted.uid, earlier.filename as "table", earlier.file_row_number as "row"'
            " from read_parquet($1, filename = true, hive_partitioning = false) wanted"
            " join shards on shards.path = wanted.filename"
            " join read_parquet($2, filename = true, file_row_number = true, hive_partitioning = false) earlier"
            " on earlier.uid = wanted.uid join ranks on ranks.path = earlier.filename"
            f" qualify row_number() over (partition by shards.shard, wanted.uid order by {order}) = 1"
            ' order by shards.shard, earlier.filename, "row"',
            params=[names(wanted.values()), names(earlier)],
        ).to_arrow_reader(_ROW_GROUP)
        with pq.ParquetWriter(out, _INDEX, compression="zstd") as writer:
            for batch in reader:
                writer.write_table(pa.Table.from_batches([batch]).cast(_INDEX))


def of_shard(index: Path | None, shard: str) -> dict[str, Earlier]:
    """Return the earlier row of each uid of a shard that has one."""
    if index is None:
        return {}
    rows = pq.read_table(index, filters=[("shard", "=", shard)])
    columns = (rows[name].to_pylist() for name in ("uid", "table", "row"))
    return {uid: Earlier(Path(table), row) for uid, table, row in zip(*columns, strict=True)}


def intact(earlier: Iterable[Earlier], beside: Callable[[Path], Sequence[Path]]) -> set[Path]:
    """Return the tables of earlier rows whose parts have what was written: in the table, and in the files `beside` it.

    Parts of the current version are checked by the runner, those of earlier ones are not.
    """
    return {table for table in {one.table for one in earlier} if _is_intact(table, beside(table))}


def _is_intact(table: Path, beside: Sequence[Path]) -> bool:
    try:
        finished = part_files.read(table.parent)
        written = finished.files if finished else {}
        return all(sha256(path) == written[path.relative_to(table.parent).as_posix()][1] for path in (table, *beside))
    except (part_files.DamagedPartError, OSError, KeyError):
        return False


def rows_of(earlier: Iterable[Earlier], columns: Sequence[str] | None = None) -> dict[Earlier, dict[str, Any]]:
    """Read earlier rows, each table once and only the row groups that have one."""
    by_table: dict[Path, list[Earlier]] = {}
    for one in earlier:
        by_table.setdefault(one.table, []).append(one)
    found: dict[Earlier, dict[str, Any]] = {}
    for path, some in by_table.items():
        with pq.ParquetFile(path) as file:
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                inside = [one for one in some if first <= one.row < first + rows]
                if inside:
                    table = file.read_row_group(group, columns=columns)
                    taken = table.take(pa.array([one.row - first for one in inside], pa.int64()))
                    found |= dict(zip(inside, taken.to_pylist(), strict=True))
                first += rows
    return found
