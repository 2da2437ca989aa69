"""Count what each crawl brought, in the order of the crawls: new and repeated pairs, dead links, kept pairs.

A pair belongs to the first crawl that has it. DuckDB counts all shards in one pass, in bounded memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask.schema.reasons import KEEP, LATER, REASON_STAGE, REASONS
from laion_dask.schema.values import SIGNALS
from laion_dask.storage import attempts, duckdb_connection

NAME: Final = "waves.json"
"""The file of a report with the counts; only of versions with more than one crawl."""
REFUSED: Final = "refused"
GONE: Final = "gone"
UNREACHABLE: Final = "unreachable"
LISTED: Final = "listed"
_UNREACHABLE: Final = frozenset({*LATER, "not_archived", "private_address", "refused_port", "bad_row"})
DEAD: Final = {
    REFUSED: "an opt-out refuses the image",
    GONE: "the server answered, but with no image that can be used",
    UNREACHABLE: "no answer, or the image was not asked for in time",
    LISTED: "a list of known content has the address or the image",
}
"""Why an image of the work list is not there: groups of the reasons of download, in the order of tables."""
METRICS: Final = ("pairs", "new", "repeated", "kept")
"""Fields of `Wave` that a run in MLflow has."""


@dataclass(frozen=True, slots=True)
class Wave:
    """What one crawl brought."""

    crawl: str
    pairs: int
    """Pairs that extraction found in it, each as often as it was found."""
    new: int
    """Distinct pairs that no earlier crawl has."""
    repeated: int
    """Distinct pairs that an earlier crawl has."""
    asked: int
    """Pairs of the work list: new pairs without removals and listed addresses."""
    alive: int
    """Of these, those whose image was downloaded."""
    dead: Mapping[str, int]
    """Of these, those without an image, by the groups of `DEAD`."""
    kept: int
    """Of these, those that the filter keeps for the release."""


def group_of(reason: str) -> str | None:
    """Return the group of `DEAD` that a reason belongs to; None if the image was downloaded or never in a work list."""
    if REASON_STAGE.get(reason) != "download":
        return None
    if reason in SIGNALS:
        return REFUSED
    if reason.startswith("listed_"):
        return LISTED
    return UNREACHABLE if reason in _UNREACHABLE else GONE


def group_in_sql(column: str) -> str:
    """Return SQL for the group of a column of reasons, null as in `group_of`."""
    cases = "".join(f" when '{reason}' then '{group_of(reason)}'" for reason in REASONS["download"])
    return f"case {column}{cases} end"


def in_catalog(counts: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, int]]:
    """Return what the catalog counted by crawl, in the order of the crawls; {} in versions of earlier code."""
    return dict(counts.get("catalog", {}).get("waves", {}))


def crawl_of_shards(found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the crawl of each shard by its number: shards of one crawl are consecutive.

    Rows do not tell it: what a list of known content withholds has no crawl.
    """
    return [crawl for crawl, counted in found.items() for _ in range(counted["shards"])]


def collect(data: Path, counts: Mapping[str, Mapping[str, Any]]) -> tuple[Wave, ...]:
    """Count the crawls of a version in `data`; `counts` are those of the stages. () if the catalog counted none."""
    found = in_catalog(counts)
    if not found:
        return ()
    images = attempts.shard_files(data / "download")
    verdicts = [data / "filter" / path.name for path in images]
    if missing := [path for path in verdicts if not path.is_file()]:
        raise attempts.MissingStageError(f"{missing[0]} is missing: run the stage filter again")
    by_crawl = _attempts(images, verdicts, crawl_of_shards(found)) if images else {}
    return tuple(_wave(crawl, one, by_crawl.get(crawl, {})) for crawl, one in found.items())


def _attempts(images: Sequence[Path], verdicts: Sequence[Path], crawls: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the rows of the work list by crawl and by group; `alive` and `kept` beside the groups."""
    names = duckdb_connection.names
    found: dict[str, dict[str, int]] = {}
    with duckdb_connection.connect() as connection:
        rows = connection.execute(
            f"select parse_filename(images.filename, true)::int, coalesce({group_in_sql('images.reason')}, 'alive'),"
            f" count(*), count(*) filter (verdicts.reason = '{KEEP}')"
            " from read_parquet($images, filename = true, hive_partitioning = false) images"
            " left join read_parquet($verdicts, hive_partitioning = false) verdicts using (uid) group by all",
            {"images": names(images), "verdicts": names(verdicts)},
        ).fetchall()
    for shard, group, pairs, kept in rows:
        counts = found.setdefault(crawls[shard], {"kept": 0})
        counts[group] = counts.get(group, 0) + pairs
        counts["kept"] += kept
    return found


def _wave(crawl: str, counted: Mapping[str, int], rows: Mapping[str, int]) -> Wave:
    dead = {group: rows.get(group, 0) for group in DEAD}
    alive = rows.get("alive", 0)
    return Wave(
        crawl,
        pairs=counted["pairs"],
        new=counted["new"],
        repeated=counted["repeated"],
        asked=alive + sum(dead.values()),
        alive=alive,
        dead=dead,
        kept=rows.get("kept", 0),
    )


def write(path: Path, waves: Sequence[Wave]) -> None:
    """Write waves.json."""
    path.write_text(json.dumps([asdict(wave) for wave in waves], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[Wave, ...]:
    """Read waves.json."""
    return tuple(Wave(**one) for one in json.loads(path.read_text(encoding="utf-8")))


def metrics(waves: Sequence[Wave]) -> dict[str, float]:
    """Return the numbers for comparing versions: `waves.<crawl>.pairs|new|repeated|kept`."""
    return {f"waves.{wave.crawl}.{name}": getattr(wave, name) for wave in waves for name in METRICS}
