"""Measure a release: the numbers for its card and for comparing versions.

Everything is a count by value: so the numbers do not depend on the order of work, and memory grows with the number of
hosts, languages and licences, not of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from laion_dask.schema.values import SPLITS
from laion_dask.statistics.summary import PERCENTILES, percentiles
from laion_dask.storage import duckdb_connection

SCORES: Final = ("similarity", "aesthetic", "punsafe", "pwatermark")
SIZES: Final = {
    "width": ('"WIDTH"', "px"),
    "height": ('"HEIGHT"', "px"),
    "text length": ('length("TEXT")', "characters"),
}
TABLES: Final = {
    "languages": '"LANGUAGE"',
    "licenses": '"LICENSE"',
    "hosts": """regexp_extract("URL", '^[a-z]+://([^/?#:]+)', 1)""",
}
"""Columns whose most frequent values are listed."""
# Thresholds of LAION-5B and Re-LAION: punsafe 0.5, research-safe 0.45, research 0.95; pwatermark 0.8.
CUTS: Final = (("punsafe", 0.45), ("punsafe", 0.5), ("punsafe", 0.95), ("pwatermark", 0.8))
_TOP: Final = 20
# Scores are counted in hundredths, precise enough for the card's percentiles; BIN is the width of histogram bins.
STEPS: Final = 100
BIN: Final = {"similarity": 2, "aesthetic": 50, "punsafe": 5, "pwatermark": 5}


def files(folder: Path, table: str = "") -> list[Path]:
    """Return the files of one table (the main one, or a subset or layout by its folder), in the order of splits."""
    order: dict[str, int] = {split: place for place, split in enumerate(SPLITS)}
    paths = [path for path in (folder / table).glob("*-*.parquet") if path.name.split("-")[0] in order]
    return sorted(paths, key=lambda path: (order[path.name.split("-")[0]], path.name))


def tables(folder: Path) -> list[str]:
    """Return the names of the folders with tables, the main one ("") first."""
    return ["", *sorted(path.name for path in folder.iterdir() if path.is_dir() and files(path))]


def measure(folder: Path) -> dict[str, Any]:
    """Return the numbers of the main table and the tombstones of a release, as plain JSON."""
    tombstones = folder / "tombstones.parquet"
    with duckdb_connection.connect() as connection:
        reasons = _counts(connection, "reason", [tombstones]) if tombstones.is_file() else []
        main = files(folder)
        if not main:
            nothing: dict[str, Any] = {"pairs": {"all": 0}, "scores": {}, "sizes": {}, "over": {}}
            return nothing | {name: {"distinct": 0, "top": []} for name in TABLES} | {"tombstones": dict(reasons)}
        connection.execute(
            f"create view pairs as select *, {split_of('filename')} as split"
            f" from read_parquet({listed(main)}, filename = true, hive_partitioning = false)"
        )
        pairs = dict(connection.execute("select split, count(*) from pairs group by 1").fetchall())
        pairs = {split: pairs[split] for split in SPLITS if split in pairs}
        return {
            "pairs": {**pairs, "all": sum(pairs.values())},
            "scores": {name: _score(connection, name) for name in SCORES},
            "sizes": {name: _size(connection, column) for name, (column, _) in SIZES.items()},
            "over": {f"{name} > {cut:g}": _over(connection, name, cut) for name, cut in CUTS},
            **{name: _ranking(connection, column) for name, column in TABLES.items()},
            "tombstones": dict(reasons),
        }


def split_of(column: str) -> str:
    """Return SQL that reads the split from a file's name."""
    return f"regexp_extract(parse_filename({column}), '^([a-z]+)-', 1)"


def listed(paths: Sequence[Path]) -> str:
    """Return paths as a list in SQL, since a view accepts no bound values."""
    return "[" + ", ".join("'" + name.replace("'", "''") + "'" for name in duckdb_connection.names(paths)) + "]"


def _counts(connection: duckdb.DuckDBPyConnection, column: str, paths: Sequence[Path]) -> list[tuple[str, int]]:
    rows = f"read_parquet({listed(paths)}, hive_partitioning = false)"
    query = f"select {column}, count(*) from {rows} group by 1 order by 1"
    return [(str(value), int(rows)) for value, rows in connection.execute(query).fetchall()]


def _by_split(connection: duckdb.DuckDBPyConnection, value: str, where: str = "true") -> dict[str, dict[int, int]]:
    query = f"select split, {value}::bigint, count(*) from pairs where {where} group by 1, 2 order by 1, 2"
    counts: dict[str, dict[int, int]] = {}
    for split, number, rows in connection.execute(query).fetchall():
        counts.setdefault(split, {})[number] = rows
        everything = counts.setdefault("all", {})
        everything[number] = everything.get(number, 0) + rows
    return {split: counts[split] for split in (*SPLITS, "all") if split in counts}


def _score(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, Any]:
    """Return by split the number of pairs with this score, its percentiles, and counts by the bin's lower edge."""
    # + 5e-7: 0.28 in float32 is a little less than 0.28, and belongs to the bin that starts there.
    step = f"floor({name}::double * {STEPS} + 5e-7 * {STEPS})"
    by_split = _by_split(connection, step, f"isfinite({name})")
    return {
        split: {
            "pairs": sum(counts.values()),
            "percentiles": [value / STEPS for value in percentiles(counts, PERCENTILES)],
            "histogram": _histogram(counts, BIN[name]),
        }
        for split, counts in by_split.items()
    }


def _histogram(counts: Mapping[int, int], width: int) -> dict[str, int]:
    bins: dict[int, int] = {}
    for value, rows in sorted(counts.items()):
        edge = value // width * width
        bins[edge] = bins.get(edge, 0) + rows
    return {f"{edge / STEPS:.2f}": rows for edge, rows in bins.items()}


def _size(connection: duckdb.DuckDBPyConnection, column: str) -> dict[str, list[int]]:
    by_split = _by_split(connection, column, f"{column} is not null")
    return {split: list(percentiles(counts, PERCENTILES)) for split, counts in by_split.items()}


def _over(connection: duckdb.DuckDBPyConnection, name: str, cut: float) -> Mapping[str, int]:
    """Count the pairs over a threshold, and those with a score: a missing score is not under it."""
    query = f"select count(*) filter ({name} > {cut}::float), count(*) from pairs where isfinite({name})"
    count, scored = connection.execute(query).fetchone() or (0, 0)
    return {"count": count, "scored": scored}


def _ranking(connection: duckdb.DuckDBPyConnection, column: str) -> dict[str, Any]:
    connection.execute(
        f"create or replace temp table ranking as select {column} as value, count(*) as pairs from pairs group by 1"
    )
    (distinct,) = connection.execute("select count(*) from ranking").fetchone() or (0,)
    top = connection.execute(f"select value, pairs from ranking order by pairs desc, value limit {_TOP}").fetchall()
    return {"distinct": distinct, "top": [[value or "", pairs] for value, pairs in top]}
