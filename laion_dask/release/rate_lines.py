"""Count the rates for the card: by split, and for the languages and hosts with most attempts.

`rate_queries` counts them, as for the report. Most rates are of found, not of kept pairs: they describe the filters'
input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laion_dask import params
from laion_dask.schema.values import SIGNALS, SPLITS
from laion_dask.statistics import rate_queries
from laion_dask.statistics.intervals import Share
from laion_dask.statistics.rate_queries import ALL, Counted
from laion_dask.storage import numbered

_TOP: Final = 5
"""Languages and hosts that are shown."""
_ORDER: Final = (ALL, *SPLITS)
_ATTEMPTS: Final = "opt_out_of_attempts"


@dataclass(frozen=True, slots=True)
class RateRow:
    """One group: `by` is split, language or host; of split, group `all` is everything."""

    by: str
    group: str
    attempts: int
    shares: dict[str, Share]


MEASURES: Final = {
    "unsafe_of_scored": "unsafe by score, of the images that have one",
    "watermark_of_scored": "watermarked by score, of the images that have one",
    "unsafe_of_kept": "unsafe by score above 0.5, of the kept pairs",
    "watermark_of_kept": "watermarked by score above 0.8, of the kept pairs",
    "listed_of_received": "on a list of known content, of the images received",
    "listed_address_of_pairs": "the address on a list of known content, of all pairs",
    _ATTEMPTS: "host or image opts out, of all that were asked for",
    "page_opt_out_of_attempts": "page opts out and is recorded, of all that were asked for",
    "removed_of_pairs": "taken out by a removal, before or after it was asked for, of all pairs",
}
"""Measures of every version, in the order of the card, which adds the signals of opt-outs that occur."""


def measure(data: Path, settings: params.Filter) -> list[RateRow]:
    """Count every measure by split, and by the languages and hosts with most attempts; [] without shards."""
    if not numbered.tables(data / "download"):
        return []
    return list(_rows(rate_queries.of_version(data, settings)))


def _rows(counted: Sequence[Counted]) -> Iterator[RateRow]:
    groups: dict[tuple[str, str], dict[str, Share]] = {}
    for one in counted:
        groups.setdefault((one.by, one.group), {})[one.measure] = Share.of(one.count, one.total)
    none = Share.of(0, 0)
    names = [name for name in rate_queries.SAFETY if name != rate_queries.PAGES]
    # For a pair that was removed before the download only the split is known without the extraction's tables.
    asked_for = [name for name in names if not name.endswith("_of_pairs")]
    of = {"split": names, "language": asked_for, "host": asked_for}
    for by in ("split", "language", "host"):
        rows = [
            RateRow(by, group, shares[_ATTEMPTS].total, {name: shares.get(name, none) for name in of[by]})
            for (kind, group), shares in groups.items()
            if kind == by and _ATTEMPTS in shares
        ]
        rows.sort(key=lambda row: (_ORDER.index(row.group) if row.by == "split" else 0, -row.attempts, row.group))
        yield from rows if by == "split" else rows[:_TOP]


def by_split(rows: Sequence[RateRow]) -> list[tuple[str, list[str]]]:
    """Return a line for each measure: its meaning, and its share in each split; only signals that occur have one."""
    splits = [row for row in rows if row.by == "split"]
    if not splits:
        return []
    lines = []
    for name, meaning in MEASURES.items():
        lines.append((meaning, [cell(row.shares[name]) for row in splits]))
        if name == _ATTEMPTS:
            measure_of = {one: f"opt_out_{one}_of_attempts" for one in SIGNALS}
            signals = [one for one in SIGNALS if splits[0].shares[measure_of[one]].count]
            lines += [(f"- by `{one}`", [cell(row.shares[measure_of[one]]) for row in splits]) for one in signals]
    return lines


def cell(share: Share) -> str:
    """Format a share as a cell of the card; empty if the total is 0."""
    if not share.total:
        return ""
    return f"{100 * share.count / share.total:.2f} % ({100 * share.low:.2f} to {100 * share.high:.2f})"
