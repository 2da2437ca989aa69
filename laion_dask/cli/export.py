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

Without --from: the version of the project in this folder, without the pairs that its filter drops.
"""


def export(
    layout: Annotated[Literal["clip-retrieval", "datacomp", "subset", "blurred"], typer.Argument(metavar="LAYOUT")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="What `laion-dask score DIR --out` wrote.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of score.models, where there are several.")
    ] = None,
    everything: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--all", help="Also the pairs that the filter drops.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Export what was scored."""
    with console.report_errors("export"):
        from laion_dask.release import exports

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
            rows = exports.FORMATS[layout](chosen, fresh, model)
            shutil.rmtree(out, ignore_errors=True)
            fresh.rename(out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        console.say(f"export: {rows:,} pairs into {out} as {layout}")
