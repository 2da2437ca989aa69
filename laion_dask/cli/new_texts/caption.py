"""`laion-dask caption`: caption the tars of a folder that the user names, or run the step of the project."""

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

HELP: Final = """Describe the images of kept pairs: captions beside the alt texts, ranked by CLIP.

Without arguments: run the step of the project in this folder, with its params.yaml.

With a folder of tars as img2dataset or webdataset write them, and --out: caption only these; no project needed.

\b
  laion-dask caption shards/ --out captioned --samples 40 \\
      --model hf-hub:Salesforce/blip-image-captioning-large \\
      --rank ViT-L-14:openai:5 --rank RN50x64:openai
  laion-dask caption shards/ --out captioned --kind coca \\
      --model coca_ViT-L-14 --pretrained mscoco_finetuned_laion2b_s13b_b90k \\
      --rank ViT-L-14:openai
  laion-dask caption shards/ --params params.yaml --out captioned

--rank is NAME, NAME:TAG, NAME:KEEP or NAME:TAG:KEEP: a CLIP model, and how many captions it keeps; the last keeps 1.

How captions are sampled stands in the section caption of params.yaml: docs/captions.md.

To resume an interrupted run, give the same command again.
"""
_PLACES: Final = ("local-dir:", "hf-hub:")
_KEPT: Final = 5


def caption(
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder with tars; none: the project's step.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="hf-hub:ORG/NAME, local-dir:PATH, demo; kind coca: open_clip's name."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="blip (default), image_to_text or coca; docs/captions.md.")
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(metavar="TAG", help="Kind coca: open_clip's tag, or the path of a checkpoint.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, max=256, metavar="N", help="Captions of each image to choose from.")
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:TAG][:KEEP]", help="A CLIP model that ranks them; may be repeated, in order."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write into.")] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="A params.yaml to take the models and the sampler from."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="Processes; default: one for each core or GPU.")
    ] = None,
    overwrite: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--overwrite", help="Replace what an earlier run left in the folder.")
    ] = False,
) -> None:
    """Run the step of the project, or caption the folder that the argument names."""
    of_model = bool(kind or pretrained or samples or rank)
    if folder is None:
        if model or of_model or out or params_file or workers or overwrite:
            console.fail("caption: no images given. Remedy: give a folder of tars with the options", 2)
        steps.caption()
        return
    if out is None:
        console.fail(f"caption: no output folder. Remedy: give --out DIR with {folder}", 2)
    if model is None and (params_file is None or of_model):
        console.fail("caption: no model given. Remedy: give --model NAME, with --rank for the choice", 2)
    if model is not None and model != "demo" and not rank:
        console.fail("caption: no model ranks the captions. Remedy: give --rank NAME:TAG, such as ViT-L-14:openai", 2)
    with console.report_errors("caption", kept="Finished tars are kept; the same command resumes from here."):
        from laion_dask.images import tar_folders

        rules = _rules(params_file, model, kind, pretrained, samples, rank or ["demo"])
        tars = tar_folders.find(folder)
        listed = f"{len(tars):,} tar{'s' * (len(tars) != 1)}"
        with _into(out, overwrite=overwrite) as resumed:
            console.say(f"caption: {listed} into {out}, by {rules.model}{'; resuming' if resumed else ''}", err=True)
            _run(folder, out, rules, workers)


def _rules(
    file: Path | None,
    model: str | None,
    kind: str | None,
    pretrained: str | None,
    samples: int | None,
    rank: list[str],
) -> params.Caption:
    """Return the rules of a file (default: the package's), with a given model and the rankers of its captions."""
    from laion_dask import params

    base = params.load(file or packaged.parameters())
    if model is None:
        if base.caption is None:
            console.fail(
                f"caption: {file} has caption: null. Remedy: give a file with that section, or --model NAME", 2
            )
        return base.caption
    default = base.caption or params.load(packaged.parameters()).caption
    values: dict[str, Any] = base.model_dump()
    section = {} if default is None else default.model_dump()
    count = samples or section["samples"]
    section |= {"model": model, "kind": kind or "blip", "pretrained": pretrained, "expect_sha256": None}
    section |= {"samples": count, "rank": rankers(rank, count)}
    values["caption"] = section
    parsed = params.parse(values, "the command line").caption
    if parsed is None:
        raise TypeError("the section caption is there")
    return parsed


def rankers(texts: list[str], samples: int) -> list[dict[str, Any]]:
    """Return the entries of caption.rank for the options --rank.

    Where none is given, the last one keeps 1 and the others 5, or all where there are fewer.
    """
    found = []
    for number, text in enumerate(texts, start=1):
        place = next((place for place in _PLACES if text.startswith(place)), "")
        name, *rest = text.removeprefix(place).split(":")
        keep = int(rest.pop()) if rest and rest[-1].isdecimal() else None
        default = 1 if number == len(texts) else min(_KEPT, samples)
        found.append(
            {
                "name": "demo" if text == "demo" else f"rank{number}",
                "model": f"{place}{name}",
                "pretrained": ":".join(rest) or None,
                "keep": default if keep is None else keep,
            }
        )
    return found


def _into(out: Path, *, overwrite: bool) -> AbstractContextManager[bool]:
    from laion_dask.standalone.caption import MODELS, WORK, outs

    found = [path.name for path in outs(out)]
    ours = (out / "caption" / MODELS).is_file()
    return console.into(out, out / WORK, found, command="caption", ours=ours, kind="a captioning", overwrite=overwrite)


def _run(folder: Path, out: Path, rules: params.Caption, workers: int | None) -> None:
    from laion_dask.runner.progress import Progress
    from laion_dask.standalone.caption import caption_folder

    progress, began = Progress("caption", "images"), time.monotonic()
    counts = caption_folder(folder, out, rules, progress, workers)
    seconds, captions = time.monotonic() - began, counts["captions"]
    screen = console.console()
    screen.print(console.funnel(f"The captions of {out}", [("captions", captions)]))
    if counts["broken_json"]:
        screen.print(f"the JSON of {counts['broken_json']:,} images cannot be read and is ignored")
    shares = f" ({progress.shares()})" if progress.shares() else ""
    rate = captions["seen"] / seconds
    screen.print(f"captioned {captions['seen']:,} images in {elapsed(seconds)}, {rate:,.1f} images/s{shares}")
    screen.print(
        f"wrote     {out / 'caption'}: the captions and models.json; {out / 'images'}: their images", soft_wrap=True
    )
