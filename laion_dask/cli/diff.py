"""`laion-dask diff`: compare two versions, and print what changed between them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laion_dask.cli import console as cli_console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.table import Table

    from laion_dask.versions.diff import Diff

HELP: Final = """Compare two versions: pairs added, removed and why, moved between splits; how scores changed.

Of versions with several crawls: what each crawl brought, and which links are newly dead.

\b
  laion-dask diff data/release ../copy/release     # folders of releases
  laion-dask diff v1.0 main                        # Git revisions
  laion-dask diff main exp-name --out changes      # an experiment; each pair

The files of a Git revision or a DVC experiment come out of DVC's cache. With --out, each pair is in a table (Parquet).
"""


def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="The older: a folder, a Git revision or a DVC experiment.")],
    new: Annotated[str, typer.Argument(metavar="B", help="The newer.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write added, removed and moved .parquet there: each pair.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print tables."""
    from laion_dask.versions import checkout
    from laion_dask.versions import diff as differences

    with cli_console.report_errors("diff"), checkout.opened(old) as before, checkout.opened(new) as after:
        found = differences.compare(before, after, out)
    if as_json:
        cli_console.say(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)


def _print(found: Diff) -> None:
    from laion_dask.versions.diff import side_by_side
    from laion_dask.versions.waves import are_worth_a_table

    console = cli_console.console()
    cli_console.say(
        f"{found.old} \N{RIGHTWARDS ARROW} {found.new}: {found.common:,} pairs in both, {found.added:,} added, "
        f"{found.removed:,} removed, {found.moved:,} moved between splits"
    )
    counted: tuple[tuple[str, str, Mapping[str, int]], ...] = (
        (f"Removed, by what {found.new} says of them", "reason", found.removed_by),
        (f"Added, by what {found.old} said of them", "reason", found.added_by),
        ("Moved between splits", "from, to", found.moved_by),
    )
    for title, name, counts in counted:
        if counts:
            rows = cli_console.table(title, name, "pairs", right=("pairs",))
            for reason, pairs in counts.items():
                rows.add_row(reason, f"{pairs:,}")
            console.print(rows)
    if are_worth_a_table(found.waves):
        for rows in by_crawl(found):
            console.print(rows)
    numbers = ("pairs", "changed", "appeared", "vanished", "5 %", "median", "95 %", "largest")
    rows = cli_console.table("Scores of pairs in both: new minus old", "score", *numbers, right=numbers)
    for moves in found.scores:
        spread = [f"{moves.percentiles[place]:+.4f}" for place in (0, 2, 4)] if moves.percentiles else [""] * 3
        counts_ = [f"{count:,}" for count in (moves.pairs, moves.changed, moves.appeared, moves.vanished)]
        rows.add_row(moves.score, *counts_, *spread, f"{moves.largest:+.4f}" if moves.changed else "")
    console.print(rows)
    rows = cli_console.table("Statistics", "number", found.old, found.new, right=(found.old, found.new))
    for row in side_by_side(found.statistics):
        rows.add_row(*row)
    console.print(rows)
    if found.parameters:
        rows = cli_console.table("Parameters that differ", "parameter", found.old, found.new, wide=found.new)
        # Long values are wrapped; names are not.
        rows.columns[0].min_width = max(len(one.name) for one in found.parameters)
        rows.columns[1].no_wrap, rows.columns[1].overflow = False, "fold"
        for one in found.parameters:
            rows.add_row(one.name, json.dumps(one.old), json.dumps(one.new))
        console.print(rows)


def by_crawl(found: Diff) -> Iterator[Table]:
    """Yield tables of what each crawl brought and which links are newly dead, each within 80 columns.

    A crawl that only the new version has is marked with a +.
    """
    names = {one.crawl: f"{one.crawl} +" if one.only_new else one.crawl for one in found.waves}
    numbers: tuple[str, ...] = ("new", "repeated", "kept", "added")
    rows = cli_console.table(f"By crawl of {found.new}; +: not in {found.old}", "crawl", *numbers, right=numbers)
    for one in found.waves:
        rows.add_row(names[one.crawl], *(f"{getattr(one, name):,}" for name in numbers))
    yield rows
    links = [one for one in found.waves if one.asked_in_both]
    if links:
        dead = [*(links[0].newly_dead or {})]
        rows = cli_console.table(
            "Links with an image before, that are newly dead", "crawl", "before", *dead, right=("before", *dead)
        )
        for one in links:
            counts = (one.asked_in_both or 0, *(one.newly_dead or {}).values())
            rows.add_row(names[one.crawl], *(f"{count:,}" for count in counts))
        yield rows
