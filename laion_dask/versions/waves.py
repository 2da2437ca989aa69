"""Count by crawl what a newer version brings: new pairs, repeated pairs, newly dead links.

The crawl of a row of the work list follows from the number of its shard: shards of one crawl are consecutive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from laion_dask.schema.reasons import REASON_STAGE
from laion_dask.statistics import waves
from laion_dask.storage import duckdb_connection

NEWLY: Final = (waves.REFUSED, waves.GONE, waves.UNREACHABLE)
"""Groups of reasons by which a link is newly dead; what a list withholds is no dead link."""
_NO_IMAGE: Final = tuple(
    reason for reason, stage in REASON_STAGE.items() if stage in {"extract", "catalog", "download"}
)


@dataclass(frozen=True, slots=True)
class CrawlChanges:
    """What one crawl of the newer version brings."""

    crawl: str
    only_new: bool
    """The older version has not read this crawl."""
    pairs: int
    new: int
    repeated: int
    kept: int
    """Pairs of the newer release that belong to this crawl."""
    added: int
    """Of these, those that the older release lacks."""
    asked_in_both: int | None
    """Pairs in both work lists whose image the older version has; None if one has no verdicts."""
    newly_dead: Mapping[str, int] | None
    """Of these, those whose image the newer version lacks, by the groups of `NEWLY`."""


def changes(
    connection: duckdb.DuckDBPyConnection,
    manifests: tuple[Mapping[str, Any], Mapping[str, Any]],
    verdicts: tuple[Sequence[Path], Sequence[Path]],
) -> tuple[CrawlChanges, ...]:
    """Count the crawls of the newer version, in their order; () if its catalog has counted none.

    `connection` has the table `joined` of `versions.diff`, with the column `crawl`. `manifests` and `verdicts` are of
    the older and the newer version.
    """
    found = waves.in_catalog(manifests[1].get("counts", {}))
    if not found:
        return ()
    released = {
        crawl: (kept, added)
        for crawl, kept, added in connection.execute(
            "select crawl, count(*), count(*) filter (was is null) from joined where now is not null group by 1"
        ).fetchall()
    }
    links = _links(connection, found, *verdicts) if all(verdicts) else None
    before = manifests[0].get("crawls", {})
    result = []
    for crawl, counted in found.items():
        kept, added = released.get(crawl, (0, 0))
        dead = None if links is None else {group: links.get((crawl, group), 0) for group in NEWLY}
        both = None if links is None else sum(rows for (of, _), rows in links.items() if of == crawl)
        counts = {name: counted[name] for name in ("pairs", "new", "repeated")}
        result.append(
            CrawlChanges(
                crawl, crawl not in before, **counts, kept=kept, added=added, asked_in_both=both, newly_dead=dead
            )
        )
    return tuple(result)


def are_worth_a_table(found: Sequence[CrawlChanges]) -> bool:
    """Say whether there is more than the counts of one crawl to show."""
    return len(found) > 1 or any(sum((one.newly_dead or {}).values()) for one in found)


def _links(
    connection: duckdb.DuckDBPyConnection,
    found: Mapping[str, Mapping[str, int]],
    old: Sequence[Path],
    new: Sequence[Path],
) -> dict[tuple[str, str | None], int]:
    """Count the pairs of both work lists whose image the older version has, by crawl and group of `NEWLY`."""
    rows = connection.execute(
        f"select n.shard, {waves.group_in_sql('n.reason')}, count(*)"
        " from read_parquet($new, hive_partitioning = false) n"
        " join read_parquet($old, hive_partitioning = false) o using (uid)"
        " where n.shard >= 0 and o.shard >= 0 and not list_contains($dead, o.reason) group by all",
        {"old": duckdb_connection.names(old), "new": duckdb_connection.names(new), "dead": list(_NO_IMAGE)},
    ).fetchall()
    crawl_of = waves.crawl_of_shards(found)
    counts: dict[tuple[str, str | None], int] = {}
    for shard, group, pairs in rows:
        place = crawl_of[shard], group if group in NEWLY else None
        counts[place] = counts.get(place, 0) + pairs
    return counts
