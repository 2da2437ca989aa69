"""`laion-dask linkrot`: compare two downloads, and print what became of the pairs of the earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.versions.linkrot import LinkRot, LinkRotGroup

HELP: Final = """Compare two downloads: which pairs give the same bytes, the same picture, another one, or none.

\b
  dvc get . data/download --rev v1 --out earlier
  laion-dask linkrot earlier data/download --out linkrot

Fetches nothing: to ask every address again, set download.verify to the earlier folder and run download.
"""


def linkrot(
    earlier: Annotated[Path, typer.Argument(metavar="EARLIER", help="Folder of the earlier download.")],
    now: Annotated[Path, typer.Argument(metavar="NOW", help="Folder of the later one.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write linkrot.json, .parquet, .png and .svg.")
    ] = None,
    hosts: Annotated[int, typer.Option(min=0, metavar="N", help="Hosts to show, those with most pairs.")] = 10,
) -> None:
    """Print a table, and write the report where asked."""
    import tempfile

    from laion_dask.versions import linkrot as report

    with console.report_errors("linkrot"), tempfile.TemporaryDirectory() as unused:
        found = report.write(out or Path(unused), now, earlier, top_hosts=hosts)
        if out is not None:
            from laion_dask.report import linkrot_figure

            linkrot_figure.write(out, found)
    _print(found)


def _print(found: LinkRot) -> None:
    from laion_dask.schema.comparison import CLASSES

    pairs = found.everything.pairs
    if not pairs:
        console.say("the two downloads have no pair in common")
        return
    names = [name.replace("_", " ") for name in CLASSES]
    rows = console.table("What became of the pairs", "group", "pairs", *names, right=("pairs", *names))
    for group in (found.everything, *found.years, *found.hosts):
        rows.add_row(group.name, f"{group.pairs:,}", *_shares(group))
    console.console().print(rows)
    for share in found.everything.shares:
        console.say(
            f"{share.found.replace('_', ' '):<14} {share.count:>9,}  {100 * (share.rate or 0):6.2f} %  "
            f"(95 %: {100 * share.low:.2f} to {100 * share.high:.2f})  {CLASSES[share.found]}"
        )


def _shares(group: LinkRotGroup) -> list[str]:
    return [f"{100 * share.rate:.1f} %" if share.rate is not None else "" for share in group.shares]
