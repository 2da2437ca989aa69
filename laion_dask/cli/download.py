"""`laion-dask download`: download tables of URLs that the user names into a folder, or run the step of the project."""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from laion_dask.cli import console, steps
from laion_dask.storage import packaged
from laion_dask.storage.durations import elapsed

if TYPE_CHECKING:
    from laion_dask import params
    from laion_dask.download import worklist

HELP: Final = """Download a work list, or any table of URLs, into shards of checked, hashed, resized images.

Without arguments: run the step of the project in this folder, with its params.yaml.

With tables (Parquet, CSV, TSV, JSON lines, or text with a URL per line) and --out: only these; no project needed.

\b
  laion-dask download urls.parquet --out images \\
      --contact https://your.site/crawler
  laion-dask download a.csv b.csv --out images --contact you@your.site \\
      --url-col link --caption-col alt
  laion-dask download urls.txt --out images --replay saved.warc.gz

It writes img2dataset's shards: 00000.tar, 00000.parquet, 00000_stats.json. It takes img2dataset's options, too, and
prints what they mean here:

\b
  laion-dask download --url_list=urls.parquet --output_folder=images \\
      --image_size=256 --thread_count=64 --contact=you@your.site

To resume an interrupted run, give the same command again.
"""

_SHOWN: Final = 3
# Options by the parameter of the download section that they set.
_RULES: Final = {
    "contact": "contact",
    "image_size": "side_px",
    "resize_mode": "resize",
    "smaller": "smaller",
    "encode_format": "encode",
    "encode_quality": "quality",
    "connections": "connections",
    "connections_per_host": "connections_per_host",
    "host_interval": "host_interval_s",
    "timeout": "timeout_s",
    "retries": "retries",
    "max_bytes": "max_bytes",
    "max_pixels": "max_pixels",
}
_COLUMNS: Final = "Columns of the table"
_PICTURES: Final = "Images and shards"
_MANNERS: Final = "Requests to hosts"


def download(
    tables: Annotated[
        list[Path] | None, typer.Argument(metavar="TABLE", help="Tables of URLs; none: the project's step.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write into.")] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rules of a published dataset: see `laion-dask recipes`.")
    ] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="A params.yaml to take the rules from; default: the package's."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="Processes; default: one for each core.")
    ] = None,
    overwrite: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--overwrite", help="Replace what an earlier download left in DIR.")
    ] = False,
    replay: Annotated[
        list[Path] | None,
        typer.Option(metavar="WARC", help="Answer from WARC files instead of the web; may be repeated."),
    ] = None,
    input_format: Annotated[
        Literal["parquet", "csv", "tsv", "jsonl", "txt"] | None,
        typer.Option(
            metavar="FORMAT",
            help="parquet, csv, tsv, jsonl or txt; default: by the extension.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    url_col: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: url or URL.", rich_help_panel=_COLUMNS)
    ] = None,
    caption_col: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Default: text, TEXT, caption or alt, if there.", rich_help_panel=_COLUMNS),
    ] = None,
    hash_col: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="md5, sha1, sha256 or sha512 of the original bytes, hex: other bytes are refused.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    bbox_col: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=r"Boxes to blur, \[\[x1, y1, x2, y2], ...] as shares of the image, 0..1.",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    save_additional_columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="Kept in Parquet and JSON; may be repeated.", rich_help_panel=_COLUMNS),
    ] = None,
    order: Annotated[
        Literal["spread", "given"],
        typer.Option(
            metavar="ORDER",
            help="spread: shuffled, hosts spaced evenly; given: as in the tables.",
            rich_help_panel=_COLUMNS,
        ),
    ] = "spread",
    image_size: Annotated[
        int | None,
        typer.Option(
            min=16, max=8192, metavar="PX", help="Side of the images; default: 256.", rich_help_panel=_PICTURES
        ),
    ] = None,
    resize_mode: Annotated[
        Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"] | None,
        typer.Option(
            metavar="MODE",
            help="no, keep_ratio (--image-size is the shorter side), keep_ratio_largest (the longer side; default), "
            "center_crop or border.",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    smaller: Annotated[
        Literal["keep", "enlarge"] | None,
        typer.Option(
            metavar="WHAT",
            help="keep (the default) or enlarge images below --image-size.",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    encode_format: Annotated[
        Literal["jpg", "png", "webp", "original"] | None,
        typer.Option(
            metavar="FORMAT",
            help="jpg, png, webp, or original: the body as received, with --resize-mode no.",
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    encode_quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, metavar="Q", help="Of jpg and webp; default: 95.", rich_help_panel=_PICTURES),
    ] = None,
    shard_rows: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="URLs in a shard.", rich_help_panel=_PICTURES)
    ] = 10_000,
    shard_digits: Annotated[
        int, typer.Option(min=1, max=12, metavar="N", help="DataComp's readers: 8.", rich_help_panel=_PICTURES)
    ] = 5,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1_000, metavar="N", help="Largest body to read.", rich_help_panel=_PICTURES),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1_000, metavar="N", help="Largest image to decode.", rich_help_panel=_PICTURES),
    ] = None,
    contact: Annotated[
        str | None,
        typer.Option(
            metavar="URL|EMAIL", help="Where webmasters can reach you; required on the web.", rich_help_panel=_MANNERS
        ),
    ] = None,
    rights: Annotated[
        str | None,
        typer.Option(
            metavar="strict|none|NAME,...",
            help="Opt-outs to obey: all, none, or some; all are recorded.",
            rich_help_panel=_MANNERS,
        ),
    ] = None,
    connections: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="At once, per worker.", rich_help_panel=_MANNERS)
    ] = None,
    connections_per_host: Annotated[
        int | None, typer.Option(min=1, max=64, metavar="N", help="At once, per host.", rich_help_panel=_MANNERS)
    ] = None,
    host_interval: Annotated[
        float | None,
        typer.Option(min=0, metavar="S", help="Between two requests to a host.", rich_help_panel=_MANNERS),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="S", help="For a whole transfer.", rich_help_panel=_MANNERS)
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(min=0, max=10, metavar="N", help="After failures that may pass.", rich_help_panel=_MANNERS),
    ] = None,
) -> None:
    """Run the step of the project, or download what the arguments name."""
    given = dict(locals())
    if not tables:
        defaults = {"order": "spread", "shard_rows": 10_000, "shard_digits": 5, "overwrite": False}
        if any(value != defaults.get(name) for name, value in given.items() if value not in (None, [])):
            console.fail(
                "download: no table given. Remedy: give at least one Parquet, CSV, TSV, JSON lines or text file", 2
            )
        steps.download()
        return
    if out is None:
        console.fail(f"download: no output folder. Remedy: give --out DIR with {' '.join(map(str, tables))}", 2)
    with console.report_errors("download", kept="Finished shards are kept; the same command resumes from here."):
        from laion_dask.download import worklist

        settings, source = _settings(recipe, params_file, given)
        if bbox_col is not None and settings.download.encode == "original":
            console.fail(
                "download: --bbox-col needs images that are encoded again. Remedy: --encode-format jpg, png or webp"
            )
        columns = worklist.ColumnNames(url_col, caption_col, hash_col, bbox_col, _listed(save_additional_columns))
        cut = worklist.WorkListRules(columns, shard_rows, shard_digits, order, input_format)
        named = ", ".join(map(str, tables[:_SHOWN])) + f" and {len(tables) - _SHOWN} more" * (len(tables) > _SHOWN)
        with _into(out, overwrite=overwrite) as resumed:
            console.say(f"download: {named} into {out}, rules: {source}{'; resuming' if resumed else ''}", err=True)
            _run(tables, out, settings, cut, workers)


def _listed(names: list[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for value in names or () for name in value.split(",") if name.strip())


def _settings(recipe: str | None, file: Path | None, given: Mapping[str, Any]) -> tuple[params.Params, str]:
    """Return the rules and their source: a file (default: the package's), with a recipe and options applied."""
    from laion_dask import params

    base = file or packaged.parameters()
    source = str(file) if file else "the package's"
    if recipe:
        from laion_dask.params import recipes

        settings, source = recipes.load(recipe, base), f"{source}, recipe {recipe}"
    else:
        settings = params.load(base)
    changed: dict[str, Any] = {key: given[name] for name, key in _RULES.items() if given[name] is not None}
    missing = [str(path) for path in given["replay"] or () if not path.is_file()]
    if missing:
        console.fail(f"download: no such file: {', '.join(missing)}. Remedy: give the paths of existing WARC files")
    if given["replay"]:
        changed |= {"source": "replay", "warcs": tuple(glob.escape(str(path)) for path in given["replay"])}
    elif not changed.get("contact", settings.download.contact):
        console.fail(
            "download: no contact given, which the user agent must name. Remedy: --contact with a URL or an e-mail "
            "address that a webmaster can write to"
        )
    else:
        changed["source"] = "web"
    if given["rights"] is not None:
        defaults = params.load(packaged.parameters()).download
        changed["rights"] = _rights(given["rights"], defaults.rights)
        # A value that cannot be parsed counts as an opt-out if its signal is obeyed.
        changed["rights_unknown"] = tuple(name for name in defaults.rights_unknown if name in changed["rights"])
    if not changed.keys() <= {"source", "warcs", "contact"}:
        source += ", options"
    values = settings.model_dump()
    if file is None:
        # The package's rules name the demo's list, which exists only in the project.
        values["catalog"]["lists"] = ()
    return params.parse(values | {"download": values["download"] | changed}, source="download"), source


def _rights(words: str, every: tuple[str, ...]) -> tuple[str, ...]:
    if words in {"strict", "none"}:
        return every if words == "strict" else ()
    names = _listed([words])
    unknown = [name for name in names if name not in every]
    if unknown or not names:
        console.fail(
            f"download: --rights {words}: no such signal: {', '.join(unknown)}. "
            f"Remedy: strict, none, or some of {', '.join(every)}"
        )
    return names


def _into(out: Path, *, overwrite: bool) -> AbstractContextManager[bool]:
    from laion_dask.standalone.download import WORK, outs
    from laion_dask.storage.shards import SIZES

    found = [path.name for path in outs(out)]
    whole = found[-1:] == [SIZES]
    kind = "a download"
    return console.into(out, out / WORK, found, command="download", ours=whole, kind=kind, overwrite=overwrite)


def _run(
    tables: list[Path], out: Path, settings: params.Params, cut: worklist.WorkListRules, workers: int | None
) -> None:
    from laion_dask.download.rates import DownloadRates
    from laion_dask.runner.progress import Progress
    from laion_dask.standalone.download import download_tables

    rates, began = DownloadRates(), time.monotonic()
    progress = Progress("download", "images", rates)
    counts = download_tables(tables, out, settings, cut, progress, workers=workers)
    images, screen = counts["images"], console.console()
    screen.print(console.funnel(f"The funnel of {out}", [("images", images)]))
    seconds = time.monotonic() - began
    read = f"read     {console.short(counts['bytes'], 'B')} in {elapsed(seconds)}"
    screen.print(f"{read}: {rates.rates()}" if rates.rates() else f"{read}; all shards were finished before")
    if rates.slowest():
        screen.print(f"slowest  {rates.slowest()}")
    tars = sorted(out.glob("*.tar"))
    size = console.short(sum(tar.stat().st_size for tar in tars), "B")
    screen.print(f"wrote    {images['kept']:,} images, {size}, in {len(tars):,} shards: {out}/*.tar", soft_wrap=True)
    screen.print("         *.parquet has every row with its outcome, sizes.json the number of images in each tar")
    rows = f"{glob.escape(str(out))}/*.parquet"
    shown = f"duckdb.read_parquet('{rows}').select('key, url, reason, width, height').limit(20).show()"
    screen.print(f'look     python -c "import duckdb; {shown}"', soft_wrap=True)
    if images["seen"] and not images["kept"]:
        console.fail(
            f"download: none of {images['seen']:,} URLs gave an image. Remedy: see the reasons in the funnel; if all "
            "are unreachable, check the network and its name server first"
        )
