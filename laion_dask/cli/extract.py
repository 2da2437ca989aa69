"""`laion-dask extract`: extract pairs from WATs that the user names into a folder, or run the step of the project."""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from laion_dask.cli import console, steps
from laion_dask.storage import packaged
from laion_dask.storage.durations import elapsed

if TYPE_CHECKING:
    import pyarrow as pa

    from laion_dask import params
    from laion_dask.storage.objects import ListedObject

HELP: Final = """Extract image links with alt text and language from WAT files.

Without arguments: run the step of the project in this folder, with its params.yaml.

With files, folders, globs or addresses, and --out: read only these; no project needed.

\b
  laion-dask extract wats/ --out pairs
  laion-dask extract 'wats/*.wat.gz' --out pairs --recipe cc2dataset
  laion-dask extract https://data.commoncrawl.org/PATH.warc.wat.gz --out pairs
  laion-dask extract 's3://bucket/wats/*.warc.wat.gz' --out pairs --workers 4

A PATH is a line of a crawl's wat.paths.gz (crawl-data/ID/wat.paths.gz); `laion-dask crawls` lists the ids.

To resume an interrupted run, give the same command again.
"""


def extract(
    places: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|FOLDER|GLOB|URL", help="WATs to read; none: the project's step."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write into.")] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rules of a published dataset: see `laion-dask recipes`.")
    ] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="A params.yaml to take the rules from; default: the package's."),
    ] = None,
    reader: Annotated[
        Literal["fastwarc", "warcio"] | None, typer.Option(help="Reader to use instead of that in the rules.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="Processes; default: one for each core.")
    ] = None,
    overwrite: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--overwrite", help="Replace what an earlier extraction left in DIR.")
    ] = False,
) -> None:
    """Run the step of the project, or extract what the arguments name."""
    if not places:
        if out or recipe or params_file or reader or workers or overwrite:
            console.fail(
                "extract: no WAT given. Remedy: give at least one file, folder, glob or URL with the options", 2
            )
        steps.extract()
        return
    if out is None:
        console.fail(f"extract: no output folder. Remedy: give --out DIR with {' '.join(places)}", 2)
    with console.report_errors("extract", kept="Finished WATs are kept; the same command resumes from here."):
        from laion_dask.crawl import listing

        rules, source = _rules(recipe, params_file, reader)
        table, in_buckets = listing.at_places(places)
        wats = f"{table.num_rows:,} WAT{'s' * (table.num_rows != 1)}"
        with _into(out, overwrite=overwrite) as resumed:
            console.say(f"extract: {wats} into {out}, rules: {source}{'; resuming' if resumed else ''}", err=True)
            _run(table, in_buckets, out, rules, workers)


def _rules(recipe: str | None, file: Path | None, reader: str | None) -> tuple[params.Extract, str]:
    """Return the rules and their source: a file (default: the package's), with a recipe and a reader applied."""
    from laion_dask import params

    base = file or packaged.parameters()
    source = str(file) if file else "the package's"
    if recipe:
        from laion_dask.params import recipes

        settings, source = recipes.load(recipe, base), f"{source}, recipe {recipe}"
    else:
        settings = params.load(base)
    return settings.extract.model_copy(update={"reader": reader} if reader else {}), source


def _into(out: Path, *, overwrite: bool) -> AbstractContextManager[bool]:
    from laion_dask.standalone.extract import WORK, outs

    found = [path.name for path in outs(out)]
    ours = "reads.parquet" in found
    return console.into(out, out / WORK, found, command="extract", ours=ours, kind="an extraction", overwrite=overwrite)


def _run(
    table: pa.Table, in_buckets: Mapping[str, ListedObject], out: Path, rules: params.Extract, workers: int | None
) -> None:
    from laion_dask.extract.rates import ExtractRates
    from laion_dask.runner.progress import Progress
    from laion_dask.standalone.extract import extract_files

    rates, began = ExtractRates(), time.monotonic()
    counts = extract_files(table, out, rules, Progress("extract", "records", rates), workers, in_buckets)
    ledgers = [(name, counts[name]) for name in ("records", "links")]
    screen = console.console()
    screen.print(console.funnel(f"The funnel of {out}", ledgers))
    if counts["mended"]:
        mended = ", ".join(f"{reason} {rows:,}" for reason, rows in counts["mended"].items())
        screen.print(f"read despite a defect: {mended}")
    seconds = time.monotonic() - began
    read = f"read     {console.short(counts['bytes'], 'B')} in {elapsed(seconds)}"
    screen.print(f"{read}: {rates.rates()}" if rates.rates() else f"{read}; all WATs were finished before")
    files = sorted((out / "pairs").glob("*.parquet"))
    size = console.short(sum(file.stat().st_size for file in files), "B")
    screen.print(f"wrote    {counts['links']['kept']:,} pairs, {size}: {out / 'pairs'}/*.parquet", soft_wrap=True)
    listed = f"losses.parquet lists {counts['defects_listed']:,} defects by WAT and offset"
    screen.print(f"         reads.parquet has each WAT, times.parquet its time; {listed}", soft_wrap=True)
    pairs = f"{glob.escape(str(out / 'pairs'))}/*.parquet"
    shown = f"duckdb.read_parquet('{pairs}').select('url, text, language').limit(20).show()"
    screen.print(f'look     python -c "import duckdb; {shown}"', soft_wrap=True)
    if counts["errors"]:
        lines = [f"  {location}: {error}" for location, error in counts["errors"].items()]
        listing = "\n".join(
            [*lines[:20], *([f"  and {len(lines) - 20:,} more: see reads.parquet"] * (len(lines) > 20))]
        )
        console.fail(
            f"extract: {len(lines)} of {table.num_rows} WATs could not be read completely:\n{listing}\n"
            "What could be read is written. Remedy: give the same command again to retry those that are not local."
        )
