"""`laion-dask crawls`: list Common Crawl's crawls, and estimate what reading them would give and cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask.cli import console
from laion_dask.cli.console import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laion_dask.crawl.estimate import CrawlEstimate

HELP: Final = """List the crawls of Common Crawl; with ids, what reading them would give and cost.

\b
  laion-dask crawls
  laion-dask crawls CC-MAIN-2024-22 --wats 1000 --cores 100
  laion-dask crawls CC-MAIN-2024-18 CC-MAIN-2024-22 --sizes 20 --json

Reads the list of WATs and, by HEAD requests, the sizes of a few; reads no WAT. The rest comes from measurements.

See `laion-dask extract --help` for how to read WATs.
"""


def crawls(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Crawls, such as CC-MAIN-2024-22.")] = None,
    wats: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="WATs to read of each crawl; default: all.")
    ] = None,
    sizes: Annotated[
        int, typer.Option(min=0, max=1000, metavar="K", help="WATs of each crawl whose size is requested.")
    ] = 5,
    cores: Annotated[
        int | None, typer.Option(min=1, metavar="C", help="Cores to read with; default: those of this machine.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples, as crawl.seed.")] = 1,
    base_url: Annotated[
        str, typer.Option(metavar="URL", help="Where crawl-data/ is; s3://commoncrawl works too.")
    ] = "https://data.commoncrawl.org",
    list_url: Annotated[str | None, typer.Option(metavar="URL", help="Another collinfo.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print the list of crawls, or an estimate for those that are named."""
    with console.report_errors("crawls"):
        if not ids:
            _list(list_url, as_json=as_json)
            return
        from laion_dask.cluster.settings import cores as cores_here

        found = {name: _one(name, base_url.rstrip("/"), wats, sizes, cores or cores_here(), seed) for name in ids}
        if as_json:
            console.say(json.dumps(_plain(found), indent=2))
        else:
            _print(found)


def _list(url: str | None, *, as_json: bool) -> None:
    from laion_dask.crawl import listing as source

    snapshots = source.snapshots(url or source.COLLECTIONS_URL)
    if as_json:
        console.say(json.dumps([snapshot._asdict() for snapshot in snapshots], indent=2))
        return
    rows = console.table(f"{len(snapshots)} crawls, newest first", "id", "name", "from", "to", wide="name")
    for snapshot in snapshots:
        rows.add_row(*snapshot)
    console.console().print(rows)
    if snapshots:
        console.say(f"to estimate one: laion-dask crawls {snapshots[0].id} --wats 100")


def _one(name: str, base_url: str, wats: int | None, sizes: int, cores: int, seed: int) -> tuple[int, CrawlEstimate]:
    """Return how many WATs a crawl has, and the estimate for those that are to be read."""
    from laion_dask.crawl import listing as source
    from laion_dask.crawl.estimate import estimate

    rows = source.listed(base_url, name)
    # The sample that crawl.wats would take with this seed; the sizes of its first WATs are requested.
    chosen = source.sample(rows, wats or len(rows), seed)
    try:
        found = source.sizes([row["location"] for row in chosen[:sizes]])
    except source.CrawlError as error:
        console.say(f"{name}: {error} The estimate assumes the usual size of a WAT.", err=True)
        found = []
    return len(rows), estimate(len(chosen), cores, found)


def _print(found: dict[str, tuple[int, CrawlEstimate]]) -> None:
    from laion_dask.crawl.estimate import MEASURED

    columns = ("crawl", "WATs", "to read", "pairs", "to write", "core hours", "hours")
    rows = console.table("Estimated results and cost", *columns, right=columns[1:])
    for name, (_, one) in found.items():
        rows.add_row(name, *_cells([one]))
    if len(found) > 1:
        rows.add_section()
        rows.add_row("together", *_cells([one for _, one in found.values()]))
    screen = console.console()
    screen.print(rows)
    for name, (listed, one) in found.items():
        spread = f" ± {short(one.wat_bytes_error, 'B')}" if one.wat_bytes_error == one.wat_bytes_error else ""
        asked = f"mean of {one.asked}" if one.asked else "the usual size"
        screen.print(f"{name}: {one.wats:,} of {listed:,} WATs, {short(one.wat_bytes, 'B')}{spread} each ({asked})")
    first = next(iter(found.values()))[1]
    screen.print(
        f"hours on {first.cores:,} cores, which need {short(first.bytes_per_second, 'B/s')} from the network; pairs by "
        "the default rules, before duplicates are merged\n"
    )
    basis = console.table("Measured values", "measured", "of what", "source", right=("measured",), wide="source")
    for name, measure in MEASURED.items():
        if name != "wat_bytes" or not all(one.asked for _, one in found.values()):
            basis.add_row(short(measure.value), measure.unit, measure.source)
    screen.print(basis)


def _cells(estimates: Sequence[CrawlEstimate]) -> list[str]:
    def total(name: str) -> float:
        return float(sum(getattr(one, name) for one in estimates))

    return [
        f"{total('wats'):,.0f}",
        short(total("read_bytes"), "B"),
        short(total("pairs")),
        short(total("written_bytes"), "B"),
        short(total("core_hours")),
        short(total("hours")),
    ]


def _plain(found: dict[str, tuple[int, CrawlEstimate]]) -> dict[str, Any]:
    from laion_dask.crawl.estimate import MEASURED

    return {
        "crawls": [{"id": name, "listed": listed} | one.as_dict() for name, (listed, one) in found.items()],
        "measured": {name: measure._asdict() for name, measure in MEASURED.items()},
    }
