"""Compare two releases: pairs added, removed by reason, moved between splits; scores that moved.

DuckDB joins them by uid and spills to disk, so memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow.parquet as pq

from laion_dask.release import composition, manifest
from laion_dask.release.composition import SCORES
from laion_dask.schema.reasons import REASON_STAGE
from laion_dask.schema.values import SPLITS
from laion_dask.statistics.summary import PERCENTILES, percentiles
from laion_dask.storage import duckdb_connection
from laion_dask.versions import waves

NOT_SEEN: Final = "not_seen"
"""The other version has no verdict on this pair: its crawls did not have it, or extraction dropped it."""
UNKNOWN: Final = "unknown"
"""The other version's verdicts are not available."""
LISTS: Final = ("added", "removed", "moved")
_STEPS: Final = 10_000  # differences of scores are counted in ten-thousandths


@dataclass(frozen=True, slots=True)
class ReleaseFolder:
    """One version: the folder of its release, and of its verdicts if available."""

    name: str
    release: Path
    verdicts: Path | None = None


@dataclass(frozen=True, slots=True)
class Moves:
    """The changes of one score, over the pairs that both versions have."""

    score: str
    pairs: int
    """Pairs with this score in both."""
    changed: int
    appeared: int
    vanished: int
    percentiles: tuple[float, ...]
    """The 5th, 25th, 50th, 75th and 95th percentile of new - old, over changed scores; () if there are none."""
    largest: float


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter that differs; None in a version without it."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Diff:
    """The changes from the old version to the new one."""

    old: str
    new: str
    common: int
    added: int
    removed: int
    moved: int
    added_by: Mapping[str, int]
    """By the old version's verdict: the reason for dropping the pair, NOT_SEEN or UNKNOWN."""
    removed_by: Mapping[str, int]
    """By the new version's verdict."""
    moved_by: Mapping[str, int]
    """By "from to"."""
    scores: tuple[Moves, ...]
    parameters: tuple[Parameter, ...]
    statistics: tuple[Mapping[str, Any], Mapping[str, Any]]
    """`composition.measure` of both."""
    waves: tuple[waves.CrawlChanges, ...] = ()
    """By crawl of the new version; () if its catalog has not counted by crawl."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def compare(old: ReleaseFolder, new: ReleaseFolder, lists: Path | None = None) -> Diff:
    """Compare two versions; with `lists`, write added.parquet, removed.parquet and moved.parquet into that folder.

    Removed pairs have the reason of the new version's verdicts or tombstones, added ones that of the old version's.
    `manifest.ManifestError` if a folder is not a release.
    """
    manifests = manifest.read(old.release), manifest.read(new.release)
    with duckdb_connection.connect() as connection:
        _join(connection, old, new)
        for name, verdicts, tombstones in (
            ("added", old.verdicts, old.release / "tombstones.parquet"),
            ("removed", new.verdicts, new.release / "tombstones.parquet"),
        ):
            _explain(connection, name, verdicts, tombstones)
        connection.execute(
            "create temp table moved as select uid, was as old_split, now as new_split from joined where was <> now"
        )
        (common,) = connection.execute(
            "select count(*) from joined where was is not null and now is not null"
        ).fetchone() or (0,)
        added_by, removed_by = (_reasons(connection, name) for name in ("added", "removed"))
        moved = connection.execute(
            "select old_split || ' ' || new_split, count(*) from moved group by 1 order by 1"
        ).fetchall()
        scores = tuple(_moves(connection, name) for name in SCORES)
        by_crawl = waves.changes(connection, manifests, (_tables(old.verdicts), _tables(new.verdicts)))
        if lists is not None:
            lists.mkdir(parents=True, exist_ok=True)
            for name in LISTS:
                path = str(lists / f"{name}.parquet").replace("'", "''")
                connection.execute(f"copy (from {name} order by uid) to '{path}' (format parquet, compression zstd)")
    return Diff(
        old=old.name,
        new=new.name,
        common=common,
        added=sum(added_by.values()),
        removed=sum(removed_by.values()),
        moved=sum(rows for _, rows in moved),
        added_by=added_by,
        removed_by=removed_by,
        moved_by=dict(moved),
        scores=scores,
        parameters=tuple(_parameters(*manifests)),
        statistics=(composition.measure(old.release), composition.measure(new.release)),
        waves=by_crawl,
    )


def _join(connection: duckdb.DuckDBPyConnection, old: ReleaseFolder, new: ReleaseFolder) -> None:
    for name, version in (("a", old), ("b", new)):
        connection.execute(f"create view {name} as {_select(version)}")
    both = ", ".join(f"a.{name} as old_{name}, b.{name} as new_{name}" for name in SCORES)
    connection.execute("set preserve_insertion_order = false")
    connection.execute(
        f"create temp table joined as select coalesce(a.uid, b.uid) as uid, a.split as was, b.split as now, b.crawl,"
        f" {both} from a full join b on a.uid = b.uid"
    )


def _select(version: ReleaseFolder) -> str:
    """Return SQL for uid, split and scores of a version; a score that its tables lack is null."""
    tables = composition.files(version.release)
    if not tables:
        nothing = ", ".join(f"null::float as {name}" for name in SCORES)
        return f"select null::varchar as uid, null::varchar as split, null::varchar as crawl, {nothing} where false"
    columns = pq.read_schema(tables[0]).names
    scores = ", ".join(f"{name}::float as {name}" if name in columns else f"null::float as {name}" for name in SCORES)
    split = composition.split_of("filename")
    crawl = "crawl" if "crawl" in columns else "null::varchar as crawl"
    rows = f"read_parquet({composition.listed(tables)}, filename = true, hive_partitioning = false)"
    return f"select uid, {split} as split, {crawl}, {scores} from {rows}"


def _explain(connection: duckdb.DuckDBPyConnection, name: str, verdicts: Path | None, tombstones: Path) -> None:
    """Create the table of pairs that one version lacks, with the reason that this version has for each."""
    split, lacks = ("now", "was") if name == "added" else ("was", "now")
    connection.execute(f"create temp table lacking as select uid, {split} as split from joined where {lacks} is null")
    tables = _tables(verdicts)
    rows = f"read_parquet({composition.listed(tables)}, hive_partitioning = false)"
    says = f"select uid, reason from {rows}" if tables else _NO_VERDICT
    buried = (
        f"select uid_sha256, reason from read_parquet({composition.listed([tombstones])}, hive_partitioning = false)"
        if tombstones.is_file()
        else "select null::varchar as uid_sha256, null::varchar as reason where false"
    )
    # A missing pair with the verdict keep was lost between filter and release: the verdict is not the reason.
    connection.execute(
        f"create temp table {name} as select lacking.uid, lacking.split,"
        f" coalesce(case when says.reason = 'keep' then '{UNKNOWN}' else says.reason end, buried.reason,"
        f" '{NOT_SEEN if tables else UNKNOWN}') as reason"
        f" from lacking left join ({says}) says on lacking.uid = says.uid"
        f" left join ({buried}) buried on sha256(lacking.uid) = buried.uid_sha256"
    )
    connection.execute("drop table lacking")


def _tables(verdicts: Path | None) -> list[Path]:
    return sorted(verdicts.glob("*.parquet")) if verdicts else []


_NO_VERDICT: Final = "select null::varchar as uid, null::varchar as reason where false"


def _reasons(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, int]:
    counts = dict(connection.execute(f"select reason, count(*) from {name} group by 1").fetchall())
    order = {reason: place for place, reason in enumerate([*REASON_STAGE, NOT_SEEN, UNKNOWN])}
    return {reason: counts[reason] for reason in sorted(counts, key=lambda name: (order.get(name, len(order)), name))}


def _moves(connection: duckdb.DuckDBPyConnection, name: str) -> Moves:
    old, new = (
        f"(old_{name} is not null and isfinite(old_{name}))",
        f"(new_{name} is not null and isfinite(new_{name}))",
    )
    both = "was is not null and now is not null"
    row = connection.execute(
        f"select count(*) filter ({old} and {new}), count(*) filter ({old} and {new} and old_{name} <> new_{name}),"
        f" count(*) filter (not {old} and {new}), count(*) filter ({old} and not {new}) from joined where {both}"
    ).fetchone()
    counts = connection.execute(
        f"select round((new_{name}::double - old_{name}) * {_STEPS})::bigint, count(*) from joined"
        f" where {both} and {old} and {new} and old_{name} <> new_{name} group by 1 order by 1"
    ).fetchall()
    steps = {int(value): int(rows) for value, rows in counts}
    largest = max(steps, key=abs) / _STEPS if steps else 0.0
    quantiles = tuple(value / _STEPS for value in percentiles(steps, PERCENTILES))
    pairs, changed, appeared, vanished = row or (0, 0, 0, 0)
    return Moves(name, pairs, changed, appeared, vanished, quantiles, largest)


def _parameters(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Parameter]:
    before, after = (_flat(version.get("parameters", {})) for version in (old, new))
    names = sorted({*before, *after})
    return [Parameter(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return flat


def for_page(diff: Diff) -> dict[str, Any]:
    """Return the values for the report page: the fields of Diff, its statistics as `rows`, and if crawls are shown."""
    shown = waves.are_worth_a_table(diff.waves)
    return {**diff.as_dict(), "rows": side_by_side(diff.statistics), "waves_shown": shown}


def side_by_side(statistics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the numbers of two versions as rows of text: name, old, new."""
    rows: list[tuple[str, list[Any]]] = [
        (f"pairs, {split}", [numbers["pairs"].get(split, 0) for numbers in statistics]) for split in (*SPLITS, "all")
    ]
    for score in SCORES:
        found = [numbers["scores"].get(score, {}).get("all") for numbers in statistics]
        rows.append((f"{score}, median", [one["percentiles"][2] if one else None for one in found]))
    for size, (_, unit) in composition.SIZES.items():
        found = [numbers["sizes"].get(size, {}).get("all") for numbers in statistics]
        rows.append((f"{size}, median, {unit}", [one[2] if one else None for one in found]))
    for name in statistics[0]["over"] | statistics[1]["over"]:
        found = [numbers["over"].get(name) for numbers in statistics]
        rows.append((name, [one["count"] / one["scored"] if one and one["scored"] else None for one in found]))
    rows.extend((name, [numbers[name]["distinct"] for numbers in statistics]) for name in composition.TABLES)
    rows.append(("tombstones", [sum(numbers["tombstones"].values()) for numbers in statistics]))
    return [(what, _text(values[0]), _text(values[1])) for what, values in rows]


def _text(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
