"""Count the measures of a version by group, with the same names for report, card and MLflow.

The name of a measure ends with its denominator (`unsafe_of_kept`), so that equal names have equal denominators. DuckDB
counts all groups in one pass, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.schema.faces import BOXES
from laion_dask.schema.reasons import LISTED_IMAGES, REASON_STAGE, REASONS
from laion_dask.schema.values import SIGNALS
from laion_dask.statistics import domain_classes
from laion_dask.storage import attempts, duckdb_connection

ALL: Final = "all"
NO_LANGUAGE: Final = "nolang"
PERSONAL: Final = ("emails", "phones", "cards", "accounts", "ips")
FACES: Final = "faces_of_searched"
"""Images with a box of score.faces, of those that the detector saw."""
# LAION-5B's thresholds (LAION blog, 31 March 2022): fixed, so that versions with other limits stay comparable.
LAION_5B_UNSAFE: Final = 0.5
LAION_5B_WATERMARK: Final = 0.8
PAGES: Final = "page_opt_out_of_links"
"""Links of pages that opt out, dropped or recorded, of all image links; not by split, which links do not have yet."""

REMOVED: Final = tuple(reason for reason in REASON_STAGE if reason.startswith("removed_"))
"""Every reason of a removal, from the catalog or the filter."""
_LISTED_ADDRESSES: Final = ("listed_url", "listed_address")

SAFETY: Final = (
    *("unsafe_of_scored", "watermark_of_scored", "unsafe_of_kept", "watermark_of_kept"),
    *("listed_of_received", "listed_address_of_pairs", PAGES, "page_opt_out_of_attempts", "opt_out_of_attempts"),
    *(f"opt_out_{signal}_of_attempts" for signal in SIGNALS),
    "removed_of_pairs",
)
"""Measures of every version, in the order of report and card."""

_BY: Final = {7: "split", 11: "language", 13: "domain_class", 14: "host", 15: "split"}


class Measure(NamedTuple):
    """A measure as SQL conditions of one row: `of` for its denominator, `holds` for its numerator."""

    name: str
    of: str
    holds: str


@dataclass(frozen=True, slots=True)
class Counted:
    """The count of a measure among the `total` rows of a group; by `split`, group `all` is everything."""

    measure: str
    by: str
    group: str
    count: int
    total: int


# One row with the verdict for each pair, requested or removed before. A removed pair has language and host only if the
# extraction's tables are available.
_PAIRS: Final = """
create temp table pairs as
select images.split, coalesce(nullif(images.language, ''), $none) as language, images.host, true as attempt,
    images.reason = 'keep' as downloaded, coalesce(verdicts.reason, images.reason) as verdict,
    images.page_signals <> '' as page, images.rights = 'refused' as refused, images.rights_signal as signal{scores}
from {joined}
union all by name
select gone.split, {gone}, false as attempt, false as downloaded, gone.reason as verdict
from {removed} gone{found}
"""
# A folder that was not made by the stage may lack the table.
_NONE_REMOVED: Final = "(select null::varchar as uid, null::varchar as split, null::varchar as reason where false)"
_FOUND: Final = """ left join (
    select uid, min_by(language, wat_order) as language, min(host) as host
    from read_parquet($pairs, hive_partitioning = false) group by uid
) found using (uid)"""


def measures(settings: params.Filter) -> list[Measure]:
    """Return the measures of every version, except `PAGES`."""
    received = f"(downloaded or verdict in {LISTED_IMAGES})"
    # In the precision of the scores, as in the filter.
    scored = [
        Measure(f"{name}_of_{of}", f"{rows} and isfinite({column})", f"{column} > {most}::float")
        for of, rows, limits in (
            ("scored", "downloaded", (settings.max_punsafe, settings.max_pwatermark)),
            ("kept", "verdict = 'keep'", (LAION_5B_UNSAFE, LAION_5B_WATERMARK)),
        )
        for (name, column), most in zip((("unsafe", "punsafe"), ("watermark", "pwatermark")), limits, strict=True)
    ]
    # An obeyed signal is the reason; a recorded one is in rights_signal.
    rules = {one: f"coalesce(verdict = '{one}' or (refused and signal = '{one}'), false)" for one in SIGNALS}
    return [
        *scored,
        Measure("listed_of_received", received, f"verdict in {LISTED_IMAGES}"),
        Measure("listed_address_of_pairs", "true", f"verdict in {_LISTED_ADDRESSES}"),
        Measure("page_opt_out_of_attempts", "attempt", "page"),
        Measure("opt_out_of_attempts", "attempt", " or ".join(rules.values())),
        *(Measure(f"opt_out_{one}_of_attempts", "attempt", rule) for one, rule in rules.items()),
        Measure("removed_of_pairs", "true", f"verdict in {REMOVED}"),
    ]


def dropped() -> list[Measure]:
    """Return a measure for each reason of the filter, with the downloaded images as denominator."""
    return [Measure(f"dropped_{one}_of_downloaded", "downloaded", f"verdict = '{one}'") for one in REASONS["filter"]]


def of_version(
    data: Path, settings: params.Filter, *, hosts: Collection[str] | None = None, further: bool = False
) -> list[Counted]:
    """Count a version's measures by split, language, class of domain and host; `MissingStageError` without its tables.

    Groups of hosts are those of `hosts`; None: all. With `further` the reasons of the filter and the tags and boxes of
    the score are counted too, and removed pairs have the language and host from the extraction.
    """
    images = attempts.shard_files(data / "download")
    files = {stage: [data / stage / path.name for path in images] for stage in ("download", "score", "filter")}
    missing = [path for path in (*files["score"], *files["filter"]) if not path.is_file()]
    if missing:
        raise attempts.MissingStageError(f"{missing[0]} is missing: run the stage {missing[0].parent.name} again")
    measured = [*measures(settings), *(dropped() if further else ())]
    with duckdb_connection.connect() as connection:
        columns = ["punsafe", "pwatermark"]
        if images:
            tags = _further(files["score"][0]) if further else []
            columns += tags
            _load(connection, data, files, columns, with_hosts=further)
            measured += _tag_measures(connection, tags)
        else:
            _load_removed(connection, data)
        return _counted(connection, "pairs", measured, hosts)


def of_tables(paths: Sequence[Path], rows: Sequence[Measure], hosts: Collection[str] | None = None) -> list[Counted]:
    """Count measures over the rows of tables with split, language and host."""
    if not paths:
        return []
    with duckdb_connection.connect() as connection:
        connection.execute(
            "create temp table pairs as select * replace (coalesce(nullif(language, ''), $none) as language)"
            " from read_parquet($files, union_by_name = true, hive_partitioning = false)",
            {"files": duckdb_connection.names(paths), "none": NO_LANGUAGE},
        )
        return _counted(connection, "pairs", rows, hosts)


def personal() -> list[Measure]:
    """Return the measures of personal data in texts and addresses, over all pairs of the work lists."""
    any_kind = " or ".join(f"{name} > 0" for name in PERSONAL)
    return [
        *(Measure(f"personal_{name}_of_attempts", "true", f"{name} > 0") for name in PERSONAL),
        Measure("personal_any_of_attempts", "true", any_kind),
    ]


def pages(data: Path, metrics: Mapping[str, Mapping[str, Any]]) -> Counted:
    """Count the links of pages that opt out: dropped by the counts of the extraction, or recorded in its tables."""
    links = metrics.get("extract", {}).get("links", {"seen": 0, "dropped": {}})
    recorded = 0
    for path in sorted((data / "extract" / "pairs").glob("*.parquet")):
        signals = pq.read_table(path, columns=["page_signals"])["page_signals"]
        recorded += sum(bool(signal) for signal in signals.to_pylist())
    count = int(links["dropped"].get("page_opt_out", 0)) + recorded
    return Counted(PAGES, "split", ALL, count, int(links["seen"]))


def _load(
    connection: duckdb.DuckDBPyConnection,
    data: Path,
    files: Mapping[str, Sequence[Path]],
    columns: Sequence[str],
    *,
    with_hosts: bool,
) -> None:
    pairs = sorted((data / "extract" / "pairs").glob("*.parquet")) if with_hosts else []
    removed_columns = (
        f"coalesce(nullif(found.language, ''), '{NO_LANGUAGE}') as language, found.host"
        if pairs
        else ("null::varchar as language, null::varchar as host")
    )
    values = attempts.bound(files["download"], files["score"], files["filter"]) | {"none": NO_LANGUAGE}
    values |= {"pairs": duckdb_connection.names(pairs)} if pairs else {}
    scores = "".join(f', scores."{name}"' for name in columns)
    connection.execute(
        _PAIRS.format(
            joined=attempts.joined(whole=True),
            scores=scores,
            gone=removed_columns,
            removed=_removed(data),
            found=_FOUND if pairs else "",
        ),
        values,
    )


def _removed(data: Path) -> str:
    path = data / "filter" / "removed.parquet"
    if not path.is_file():
        return _NONE_REMOVED
    return "read_parquet('" + duckdb_connection.names([path])[0].replace("'", "''") + "', hive_partitioning = false)"


def _load_removed(connection: duckdb.DuckDBPyConnection, data: Path) -> None:
    """Load a version without shards, which has only removed pairs."""
    names = ("language", "host", "signal")
    nothing = ", ".join(
        [
            *(f"null::varchar as {name}" for name in names),
            *(f"null::float as {name}" for name in ("punsafe", "pwatermark")),
        ]
    )
    flags = ", ".join(f"false as {name}" for name in ("attempt", "downloaded", "page", "refused"))
    connection.execute(
        f"create temp table pairs as select split, reason as verdict, {nothing}, {flags} from {_removed(data)}"
    )


def _further(scores: Path) -> list[str]:
    names = pq.read_schema(scores).names
    return [name for name in names if name in {"laion400m_nsfw", BOXES.name} or name.startswith("tag_")]


def _tag_measures(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> Iterator[Measure]:
    types = {name: str(kind) for name, kind, *_ in connection.sql("describe pairs").fetchall()}
    for name in names:
        if name == BOXES.name:
            yield Measure(FACES, f'downloaded and "{name}" is not null', f'len("{name}") > 0')
        elif types[name] == "VARCHAR":
            tags = connection.sql(f'select distinct "{name}" from pairs where "{name}" <> \'\' order by 1').fetchall()
            for (tag,) in tags:
                quoted = tag.replace("'", "''")
                yield Measure(f"{name}_{tag}_of_scored", f'"{name}" is not null', f"\"{name}\" = '{quoted}'")
        else:
            yield Measure(f"{name}_of_scored", f'downloaded and isfinite("{name}")', f'"{name}" > 0.5')


def _counted(
    connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Measure], hosts: Collection[str] | None
) -> list[Counted]:
    """Count measures over a table with split, language and host, in one pass for all groups."""
    names = [str(host) for (host,) in connection.sql(f"select distinct host from {table} where host <> ''").fetchall()]
    shown = set(names) if hosts is None else set(hosts)
    classes = pa.table(
        {
            "host": pa.array(names, pa.string()),
            "domain_class": pa.array([domain_classes.domain_class(host) for host in names], pa.string()),
            "shown": pa.array([host if host in shown else None for host in names], pa.string()),
        }
    )
    connection.register("classes", classes)
    flags = ", ".join(f"({one.of}) as o{at}, ({one.of}) and ({one.holds}) as h{at}" for at, one in enumerate(rows))
    sums = ", ".join(f"count_if(h{at}), count_if(o{at})" for at in range(len(rows)))
    rows_of_groups = connection.execute(
        f"with flagged as (select split, language, domain_class, shown as host, {flags}"
        f" from {table} left join classes using (host))"
        f" select grouping(split, language, domain_class, host), split, language, domain_class, host, {sums}"
        " from flagged"
        " group by grouping sets ((), (split), (language), (domain_class), (host))"
    ).fetchall()
    counted = []
    for kind, *names_and_counts in rows_of_groups:
        group = ALL if kind == 15 else next((name for name in names_and_counts[:4] if name is not None), "")
        counts = names_and_counts[4:]
        for at, one in enumerate(rows):
            count, total = counts[2 * at : 2 * at + 2]
            if group and total:
                counted.append(Counted(one.name, _BY[kind], group, count, total))
    return counted
