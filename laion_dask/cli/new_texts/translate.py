"""`laion-dask translate`: translate tables of texts that the user names, or run the step of the project."""

from __future__ import annotations

import glob
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from laion_dask.cli import console, steps
from laion_dask.storage import packaged
from laion_dask.storage.durations import elapsed

if TYPE_CHECKING:
    from laion_dask import params

HELP: Final = """Translate the texts of kept pairs into English, beside the alt texts.

Without arguments: run the step of the project in this folder, with its params.yaml.

With a table (Parquet, CSV, TSV, JSON lines) or a folder of tables, and --out: translate only these; no project needed.

A folder is one that `laion-dask score DIR --out` or img2dataset wrote, or any other with tables.

\b
  python -m laion_dask.translate.convert --model facebook/m2m100_418M \\
      --output_dir m2m100
  laion-dask translate texts.parquet --model m2m100 --out english
  laion-dask translate texts.csv --text-col title --lang-col lang \\
      --model m2m100 --beams 5 --out english
  laion-dask translate shards/ --model hf-hub:ORG/NAME --family nllb \\
      --compute float16 --out english
  laion-dask translate texts.jsonl --params params.yaml --out english

The first line makes a model in CTranslate2's format, once. Without --lang-col, fastText detects the languages.

Added to each table: translation (keep, or a reason), english, source_language, cut, and counts of personal data.

To resume an interrupted run, give the same command again. docs/translations.md has models, licences and speeds.
"""


def translate(
    place: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="Table, or folder of tables; none: the project's step.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Folder in CTranslate2's format, local-dir:PATH, hf-hub:ORG/NAME, or demo."),
    ] = None,
    family: Annotated[
        Literal["m2m100", "nllb", "marian"] | None,
        typer.Option(help="Its codes of languages; default: by its name (nllb, opus), else m2m100."),
    ] = None,
    text_col: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the texts; default: text, TEXT, caption or alt.")
    ] = None,
    lang_col: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of their languages (de, zh, …); default: detected.")
    ] = None,
    compute: Annotated[
        str | None, typer.Option(metavar="TYPE", help="int8 or float32; on a GPU also float16, bfloat16, int8_float16.")
    ] = None,
    beams: Annotated[
        int | None, typer.Option(min=1, max=32, metavar="N", help="Hypotheses of the beam search; default: 1.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write into.")] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params", metavar="FILE", help="A params.yaml to take model and rules from."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=4096, metavar="N", help="Processes; default: one for each core or GPU.")
    ] = None,
    overwrite: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--overwrite", help="Replace what an earlier translation left in the folder.")
    ] = False,
) -> None:
    """Run the step of the project, or translate the tables that the argument names."""
    changed = {"model": model, "family": family, "compute": compute, "beams": beams}
    if place is None:
        if any(changed.values()) or text_col or lang_col or out or params_file or workers or overwrite:
            console.fail("translate: no table given. Remedy: give a table or a folder with the options", 2)
        steps.translate()
        return
    if out is None:
        console.fail(f"translate: no output folder. Remedy: give --out DIR with {place}", 2)
    if model is None and params_file is None:
        console.fail("translate: no model given. Remedy: give --model NAME, or --params FILE", 2)
    with console.report_errors("translate", kept="Finished pieces are kept; the same command resumes from here."):
        from laion_dask.standalone import tables
        from laion_dask.standalone.translate import Columns, Detector

        settings = _settings(params_file, {name: value for name, value in changed.items() if value is not None})
        rules = settings.translate
        if rules is None:
            console.fail(f"translate: {params_file} has translate: null. Remedy: give --params with that section")
        detector = Detector(settings.extract.language_confidence, settings.extract.language_model)
        found = tables.find(place)
        listed = f"{len(found):,} table{'s' * (len(found) != 1)}"
        with _into(out, overwrite=overwrite) as resumed:
            console.say(f"translate: {listed} into {out}, by {rules.model}{'; resuming' if resumed else ''}", err=True)
            _run(place, out, rules, Columns(text_col, lang_col), detector, workers)


def _settings(file: Path | None, changed: dict[str, Any]) -> params.Params:
    """Return the parameters of a file (default: the package's), with those of the command line."""
    from laion_dask import params

    settings = params.load(file or packaged.parameters())
    if "model" in changed:
        if Path(changed["model"]).is_dir():
            changed["model"] = f"local-dir:{changed['model']}"
        # A digest in the file is that of its own model.
        changed = {"family": _family(changed["model"]), "expect_sha256": None} | changed
    if not changed or settings.translate is None:
        return settings
    values: dict[str, Any] = settings.model_dump()
    values["translate"] |= changed
    return params.parse(values, "the command line")


def _family(model: str) -> str:
    name = model.lower()
    return "nllb" if "nllb" in name else "marian" if "opus" in name or "marian" in name else "m2m100"


def _into(out: Path, *, overwrite: bool) -> AbstractContextManager[bool]:
    from laion_dask.standalone.translate import WORK, outs

    found = [path.name for path in outs(out)]
    ours = bool(found) and any((out / found[0]).rglob("*.parquet"))
    return console.into(
        out, out / WORK, found, command="translate", ours=ours, kind="a translation", overwrite=overwrite
    )


def _run(place: Path, out: Path, rules: params.Translate, columns: Any, detector: Any, workers: int | None) -> None:  # noqa: ANN401 - of a module that is imported late
    from laion_dask.runner.progress import Progress
    from laion_dask.standalone.translate import OUTS, translate_tables

    progress, began = Progress("translate", "texts"), time.monotonic()
    counts = translate_tables(place, out, rules, columns, detector, progress, workers)
    seconds, texts = time.monotonic() - began, counts["texts"]
    screen = console.console()
    screen.print(console.funnel(f"The funnel of {out}", [("texts", texts)]))
    if counts["cut"]:
        screen.print(f"cut      {counts['cut']:,} English texts end at their limit of tokens")
    shares = f" ({progress.shares()})" if progress.shares() else ""
    screen.print(
        f"read     {texts['seen']:,} texts in {elapsed(seconds)}, {texts['seen'] / seconds:,.0f} texts/s{shares}"
    )
    about = counts["model"]
    screen.print(f"model    {about['model']}, licence of its weights: {about['licence']}", soft_wrap=True)
    screen.print(f"wrote    {out / OUTS[0]}: {texts['kept']:,} English texts", soft_wrap=True)
    files = f"{glob.escape(str(out / OUTS[0]))}/**/*.parquet"
    shown = f"duckdb.read_parquet('{files}').select('english, source_language, translation').limit(20).show()"
    screen.print(f'look     python -c "import duckdb; {shown}"', soft_wrap=True)
