"""`laion-dask score`: score the tars of a folder that the user names, or run the step of the project."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask.cli import console, steps
from laion_dask.storage import packaged
from laion_dask.storage.durations import elapsed

if TYPE_CHECKING:
    from laion_dask import params

HELP: Final = """Compute CLIP embeddings, similarities and safety scores of shards.

Without arguments: run the step of the project in this folder, with its params.yaml.

With a folder of tars as img2dataset or webdataset write them, and --out: score only these; no project needed.

\b
  laion-dask score shards/ --out scored \\
      --model ViT-B-32 --pretrained laion2b_s34b_b79k
  laion-dask score shards/ --out scored --model ViT-L-14 --pretrained openai \\
      --heads aesthetic_v1=sa_0_4_vit_l_14_linear.pth \\
      --heads nsfw_laion=clip_nsfw_vit_l_14.npz
  laion-dask score shards/ --params params.yaml --out scored

--heads is KIND=FILE, KIND:COLUMN=FILE for a column of another name, or demo; see docs/heads.md for the kinds.

To resume an interrupted run, give the same command again. `laion-dask export` exports the results.
"""


def score(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder with tars; none: the project's step.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="open_clip's name, hf-hub:ORG/NAME, local-dir:PATH, or demo.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(metavar="TAG", help="open_clip's tag, or the path of a checkpoint.")
    ] = None,
    heads: Annotated[
        list[str] | None, typer.Option(metavar="KIND=FILE", help="A head on the embeddings; may be repeated.")
    ] = None,
    faces: Annotated[
        str | None, typer.Option(metavar="FILE", help="A face detector in ONNX, such as SCRFD; or demo.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write into.")] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="A params.yaml to take the models and all rules from."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="Processes; default: one for each core or GPU.")
    ] = None,
    overwrite: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--overwrite", help="Replace what an earlier scoring left in the folder.")
    ] = False,
) -> None:
    """Run the step of the project, or score the folder that the argument names."""
    if folder is None:
        if model or pretrained or heads or faces or out or params_file or workers or overwrite:
            console.fail("score: no images given. Remedy: give a folder of tars with the options", 2)
        steps.score()
        return
    if out is None:
        console.fail(f"score: no output folder. Remedy: give --out DIR with {folder}", 2)
    if model is None and (params_file is None or pretrained or heads or faces):
        console.fail("score: no model given. Remedy: give --model NAME, with --pretrained TAG where it has several", 2)
    with console.report_errors("score", kept="Finished tars are kept; the same command resumes from here."):
        from laion_dask.images import tar_folders

        rules = _rules(params_file, model, pretrained, heads or [], faces)
        tars = tar_folders.find(folder)
        names = ", ".join(one.model for one in rules.models)
        listed = f"{len(tars):,} tar{'s' * (len(tars) != 1)}"
        with _into(out, overwrite=overwrite) as resumed:
            console.say(f"score: {listed} into {out}, by {names}{'; resuming' if resumed else ''}", err=True)
            _run(folder, out, rules, workers)


def _rules(
    file: Path | None, model: str | None, pretrained: str | None, heads: list[str], faces: str | None
) -> params.Score:
    """Return the rules of a file (default: the package's), with a given model, its heads and a face detector."""
    from laion_dask import params

    base = file or packaged.parameters()
    if model is None:
        return params.load(base).score
    values: dict[str, Any] = params.load(base).model_dump()
    # A folder from another tool has no splits, so one model scores all images.
    chosen: dict[str, Any] = {"name": "demo" if model == "demo" else "clip", "model": model, "pretrained": pretrained}
    values["score"] |= {"models": [chosen], "heads": [_head(head) for head in heads], "tags": []}
    if faces is not None:
        values["score"]["faces"] = {"file": faces}
    return params.parse(values, "the command line").score


def _head(text: str) -> dict[str, str]:
    kind, _, file = text.partition("=")
    kind, _, column = kind.partition(":")
    return {"kind": kind} | ({"file": file} if file else {}) | ({"column": column} if column else {})


def _into(out: Path, *, overwrite: bool) -> AbstractContextManager[bool]:
    from laion_dask.standalone.score import WORK, outs
    from laion_dask.storage import embeddings

    found = [path.name for path in outs(out)]
    store = out / "score" / embeddings.STORE

    def by() -> str:
        models = ", ".join(about["model"] for about in embeddings.about(store).values())
        return f" by {models}" if models else ""

    return console.into(
        out, out / WORK, found, command="score", ours=store.exists(), kind="a scoring", by=by, overwrite=overwrite
    )


def _run(folder: Path, out: Path, rules: params.Score, workers: int | None) -> None:
    from laion_dask.runner.progress import Progress
    from laion_dask.standalone.score import score_folder

    progress, began = Progress("score", "images"), time.monotonic()
    counts = score_folder(folder, out, rules, progress, workers)
    seconds, images = time.monotonic() - began, counts["images"]
    screen = console.console()
    screen.print(console.funnel(f"The funnel of {out}", [("images", images), ("captions", counts["captions"])]))
    if counts["broken_json"]:
        screen.print(f"the JSON of {counts['broken_json']:,} images cannot be read and is ignored")
    shares = f" ({progress.shares()})" if progress.shares() else ""
    screen.print(
        f"scored   {images['seen']:,} images in {elapsed(seconds)}, {images['seen'] / seconds:,.0f} images/s{shares}"
    )
    screen.print(
        f"wrote    {out / 'score'}: embeddings.zarr and scores; {out / 'images'}: their images", soft_wrap=True
    )
    screen.print(f"next     laion-dask export clip-retrieval --from {out} --out DIR", soft_wrap=True)
