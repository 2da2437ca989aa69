"""`laion-dask export`: write a scored version as a folder in another tool's layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from laion_dask.cli import console

HELP = """Write embeddings and metadata as other tools read them.

\b
  clip-retrieval  img_emb/, text_emb/, metadata/, which autofaiss reads, too
  datacomp        <shard>.npz and <shard>.parquet: for DataComp's filters
  subset          subset.npy with the uids, sorted: for DataComp's resharder
  blurred         the shards with those faces blurred that score.faces found
  webdataset      kept pairs as shards, each with one text: --mix says which
  lance           one Lance table with indexes; needs the extra lance
  ro-crate        Workflow Run RO-Crate: workflow, parameters, digests, times
  eu-summary      the public summary that the EU's AI Act asks for

\b
  laion-dask export webdataset --mix alt=0.5,caption=0.5 --out train
  laion-dask export eu-summary --answers ours.yaml --out summary

Without --from: the version of the project in this folder, without the pairs that its filter drops.
"""


def export(
    layout: Annotated[
        Literal["clip-retrieval", "datacomp", "subset", "blurred", "webdataset", "lance", "ro-crate", "eu-summary"],
        typer.Argument(metavar="LAYOUT"),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="What `laion-dask score DIR --out` wrote.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of score.models, where there are several.")
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(metavar="SHARES", help="webdataset: chance of alt, english and caption; default: alt alone."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="webdataset: of the draw, with each uid.")] = 1,
    everything: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--all", help="Also the pairs that the filter drops.")
    ] = False,
    small_provider: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--small-provider", help="eu-summary: list 5 % of the domains, at most 1,000, not 10 %.")
    ] = False,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="eu-summary: YAML with what people must add, by id.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Export what was scored."""
    with console.report_errors("export"):
        from laion_dask.cli.sharing import versions
        from laion_dask.release import exports, webdataset

        if mix is not None and layout != "webdataset":
            console.fail(f"export: --mix is for webdataset, not {layout}. Remedy: leave it out", 2)
        if (answers is not None or small_provider) and layout != "eu-summary":
            console.fail("export: --answers and --small-provider are for eu-summary. Remedy: leave them out", 2)
        if layout in versions.LAYOUTS and (source is not None or everything or model):
            console.fail(f"export: {layout} describes the version of this project. Remedy: leave out all but --out", 2)

        if source is not None:
            chosen = exports.DatasetFolders(source / "images", source / "score")
        else:
            data = Path("data")
            if layout not in versions.LAYOUTS:
                console.need("export", data / "score", *([] if everything else [data / "filter"]))
            chosen = exports.DatasetFolders(data / "download", data / "score", None if everything else data / "filter")
        if out.exists() and any(out.iterdir()) and not overwrite:
            console.fail(f"export: {out} is not empty. Remedy: --overwrite replaces it, or give another folder")
        fresh = out.with_name(f".{out.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            if layout in versions.LAYOUTS:
                said = versions.write(layout, fresh, out, small=small_provider, answers=answers)
            elif layout == "lance":
                from laion_dask.share import lance_table

                rows, indexed = lance_table.write(chosen, fresh, model)
                said = f"{rows:,} pairs into {out} as lance, with indexes of {', '.join(indexed)}"
            elif layout == "webdataset":
                drawn = webdataset.write(chosen, chosen.score.parent, fresh, webdataset.parse(mix or "alt"), seed)
                rows = drawn.total()
                by = ", ".join(f"{kind} {number:,}" for kind, number in sorted(drawn.items()))
                said = f"{rows:,} pairs into {out} as webdataset, captions from: {by or 'none'}"
            else:
                said = f"{exports.FORMATS[layout](chosen, fresh, model):,} pairs into {out} as {layout}"
            shutil.rmtree(out, ignore_errors=True)
            fresh.rename(out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        console.say(f"export: {said}")
