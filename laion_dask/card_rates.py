"""Tables of a version in, the rates of its card out: by split, language and host, each with its Wilson interval.

The same measures as `rates`, which the report counts by far more groups; one query here, because a release must not
take long. Rates are of what was found, not of what is kept: they say what the filters had to deal with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import params, queries
from laion_dask.statistics import ALL, HOST_SIGNALS, wilson
from laion_dask.verdict import LISTED_IMAGES

_TOP: Final = 5
"""Languages and hosts that have a line."""
NO_LANGUAGE: Final = "none"
_STAGES: Final = {"images": "download", "scores": "score", "verdicts": "filter"}

# One row for each attempt: what it is, and of each measure whom it applies to (of_) and whom it holds for (is_).
_ATTEMPTS: Final = """
create table attempts as
with joined as (
    select images.split, images.language, images.host, images.reason = 'keep' as downloaded,
        coalesce(verdicts.reason, images.reason) as verdict, scores.punsafe, scores.pwatermark,
        images.page_signals <> '' as page, images.rights = 'refused' as refused, images.rights_signal as signal
    from read_parquet($images) images left join read_parquet($scores) scores using (uid)
        left join read_parquet($verdicts) verdicts using (uid)
)
select split, language, host,
    downloaded and isfinite(punsafe) as of_unsafe, downloaded and isfinite(punsafe) and punsafe > $unsafe as is_unsafe,
    downloaded and isfinite(pwatermark) as of_watermark,
    downloaded and isfinite(pwatermark) and pwatermark > $watermark as is_watermark,
    downloaded or verdict in {listed} as of_listed, verdict in {listed} as is_listed,
    true as of_page_opt_out, page as is_page_opt_out{signals}
from joined
"""


@dataclass(frozen=True, slots=True)
class Share:
    """How many of `total` a measure holds for, with its 95 % interval."""

    count: int
    total: int
    low: float
    high: float

    def __str__(self) -> str:
        """Return it as a cell of the card; empty where nothing was looked at."""
        if not self.total:
            return ""
        return f"{100 * self.count / self.total:.2f} % ({100 * self.low:.2f} to {100 * self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Row:
    """One group: `by` is split, language or host; of split, group `all` is everything."""

    by: str
    group: str
    attempts: int
    shares: dict[str, Share]


MEASURES: Final = {
    "unsafe": "unsafe by score, of the images that have one",
    "watermark": "watermarked by score, of the images that have one",
    "listed": "on a list of known content, of the images received",
    "opt_out_any": "host or image opts out, of all that were asked for",
    "page_opt_out": "page opts out and is recorded, of all that were asked for",
    "removed": "taken out by a removal before it was asked for, of all pairs",
}
"""Measures of every version, in the order of the card; between them, the signals of opt-outs that occur."""
_SIGNAL: Final = "opt_out_"


def measure(data: Path, settings: params.Filter) -> list[Row]:
    """Count every measure by split, and by the languages and hosts that most was asked for of.

    Reads the tables of download, score and filter by shard, joined by uid; `filter/removed.parquet` where it is there.
    """
    images = sorted(path for path in (data / "download").glob("*.parquet") if path.stem.isdigit())
    if not images:
        return []
    values: dict[str, Any] = {
        name: [str(data / stage / path.name) for path in images] for name, stage in _STAGES.items()
    }
    names = [*HOST_SIGNALS, "any"]
    held = [f"coalesce(verdict = '{one}' or (refused and signal = '{one}'), false)" for one in HOST_SIGNALS]
    signals = "".join(
        f",\n    true as of_{_SIGNAL}{name}, {rule} as is_{_SIGNAL}{name}"
        for name, rule in zip(names, [*held, " or ".join(held)], strict=True)
    )
    measures = ["unsafe", "watermark", "listed", "page_opt_out", *(f"{_SIGNAL}{name}" for name in names)]
    sums = ", ".join(f"sum(of_{name}::int), sum((of_{name} and is_{name})::int)" for name in measures)
    with queries.connect() as connection:
        connection.execute(
            _ATTEMPTS.format(listed=LISTED_IMAGES, signals=signals),
            {**values, "unsafe": settings.max_punsafe, "watermark": settings.max_pwatermark},
        )
        found = connection.execute(
            f"select split, language, host, count(*), {sums} from attempts"
            " group by grouping sets ((), (split), (language), (host))"
        ).fetchall()
    return list(_rows(found, measures, _removed(data / "filter" / "removed.parquet")))


def _rows(found: Sequence[Sequence[Any]], measures: Sequence[str], removed: dict[str, int]) -> Iterator[Row]:
    by: dict[str, list[Row]] = {"split": [], "language": [], "host": []}
    for split, language, host, attempts, *counts in found:
        kind = "host" if host is not None else "language" if language is not None else "split"
        group = {"host": host, "language": language or NO_LANGUAGE, "split": split or ALL}[kind]
        shares = {
            name: _share(held or 0, of or 0) for name, of, held in zip(measures, counts[::2], counts[1::2], strict=True)
        }
        if kind == "split":
            gone = sum(removed.values()) if group == ALL else removed.get(group, 0)
            shares["removed"] = _share(gone, attempts + gone)
        # The row of a listed image has no host.
        if group:
            by[kind].append(Row(kind, group, attempts, shares))
    for kind, rows in by.items():
        order = (ALL, "en", "multi", "nolang")
        rows.sort(key=lambda row: (order.index(row.group) if row.by == "split" else 0, -row.attempts, row.group))
        yield from rows if kind == "split" else rows[:_TOP]


def _removed(path: Path) -> dict[str, int]:
    if not path.is_file():
        return {}
    counts = pq.read_table(path, columns=["split"])["split"].value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in counts}


def _share(count: int, total: int) -> Share:
    return Share(count, total, *wilson(count, total))


def by_split(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Return a line for each measure: what it is, and its share of each split, in order; of signals, those found."""
    splits = [row for row in rows if row.by == "split"]
    if not splits:
        return []
    lines = []
    for name, told in MEASURES.items():
        lines.append((told, [str(row.shares[name]) for row in splits]))
        if name == "opt_out_any":
            signals = [one for one in HOST_SIGNALS if splits[0].shares[_SIGNAL + one].count]
            lines += [(f"- by `{one}`", [str(row.shares[_SIGNAL + one]) for row in splits]) for one in signals]
    return lines
