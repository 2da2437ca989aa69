"""`laion-dask export`: write a scored version as a folder in another tool's layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from laion_dask.cli import console

HELP = """Write embeddings and metadata as other tools read them.

\b
  clip-retrieval  img_emb/, text_emb/, metadata/: for clip-retrieval index, autofaiss, embedding-reader
  datacomp        <shard>.npz and <shard>.parquet: for DataComp's filters
  subset          subset.npy with the uids, sorted: for DataComp's resharder
  blurred         a copy of the project's shards with the faces blurred that score.faces has found
  webdataset      the project's kept pairs as shards, each with one of its texts as caption: --mix says which

\b
  laion-dask export webdataset --mix alt=0.5,caption=0.5 --out train

Without --from: the version of the project in this folder, without the pairs that its filter drops.
"""


def export(
    layout: Annotated[
        Literal["clip-retrieval", "datacomp", "subset", "blurred", "webdataset"], typer.Argument(metavar="LAYOUT")
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Export what was scored."""
    with console.report_errors("export"):
        from laion_dask.release import exports, webdataset

        if mix is not None and layout != "webdataset":
            console.fail(f"export: --mix is for webdataset, not {layout}. Remedy: leave it out", 2)

        if source is not None:
            chosen = exports.DatasetFolders(source / "images", source / "score")
        else:
            data = Path("data")
            chosen = exports.DatasetFolders(data / "download", data / "score", None if everything else data / "filter")
        if out.exists() and any(out.iterdir()) and not overwrite:
            console.fail(f"export: {out} is not empty. Remedy: --overwrite replaces it, or give another folder")
        fresh = out.with_name(f".{out.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            if layout == "webdataset":
                drawn = webdataset.write(chosen, chosen.score.parent, fresh, webdataset.parse(mix or "alt"), seed)
                rows = drawn.total()
                by = ", ".join(f"{kind} {number:,}" for kind, number in sorted(drawn.items()))
                layout_said = f"webdataset, captions from: {by or 'none'}"
            else:
                rows, layout_said = exports.FORMATS[layout](chosen, fresh, model), layout
            shutil.rmtree(out, ignore_errors=True)
            fresh.rename(out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        console.say(f"export: {rows:,} pairs into {out} as {layout_said}")
