"""`laion-dask audit`: write a page for labelers, and estimate precision and recall from their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.audit.audit_score import AuditScore
    from laion_dask.statistics.intervals import Estimate

HELP: Final = """Have people label a sample of this version, and estimate from their labels how often decisions err.

\b
  laion-dask audit sample --size 200 --out audit    # a page with questions
  laion-dask audit score anna.csv ben.csv           # from what people saved
  laion-dask audit score --truth                    # the demo: from its labels
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

_Folder = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the sample.")]


@app.command()
def sample(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")] = Path("audit"),
    size: Annotated[int, typer.Option(min=1, help="Pairs to draw, about.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 1,
    questions: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="Questions to ask, in the form of laion_dask/audit/questions.yaml."),
    ] = None,
) -> None:
    """Draw a sample of kept and dropped pairs, by reason and split, into one page with questions about them.

    Give audit.html to labelers; sample.csv, which has the verdicts, is for `audit score`.
    """
    with console.report_errors("audit sample"):
        from laion_dask import params
        from laion_dask.audit import audit_page, audit_sample
        from laion_dask.audit import questions as files

        settings = params.load()
        drawn = audit_sample.sample(
            Path("data"), settings, files.read(questions or files.DEFAULT), size=size, seed=seed
        )
        audit_page.write(out, drawn, settings)
    rows = console.table(
        f"Sample {drawn.name}", "verdict", "split", "pairs", "drawn", right=("pairs", "drawn"), wide="verdict"
    )
    for stratum, pairs in drawn.sizes.items():
        rows.add_row(*stratum, f"{pairs:,}", f"{sum(pair.stratum == stratum for pair in drawn.drawn):,}")
    console.console().print(rows)
    console.say("not drawn from: " + "; ".join(f"{why}: {pairs:,}" for why, pairs in drawn.outside.items()))
    console.say(
        f"open {out / audit_page.PAGE} in a browser, label, save the CSV; then: laion-dask audit score LABELS.csv"
    )


@app.command()
def score(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="LABELS.csv...", help="Files that the page saved.")
    ] = None,
    sample: _Folder = Path("audit"),
    truth: Annotated[bool, typer.Option("--truth", help="Use the demo's truth labels instead of labelers.")] = False,  # noqa: FBT002 - a flag
    export: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write all labels: question, answer, labeler, time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Estimate precision, recall and missed pairs for the whole version, with 95 % intervals."""
    if bool(files) == truth:
        console.fail("audit score: neither label files nor --truth, or both of them. Remedy: give one of them")
    with console.report_errors("audit score"):
        from laion_dask.audit import audit_page, audit_score, labels

        drawn = audit_page.read(sample)
        found = audit_score.from_truth(drawn, Path("data")) if truth else labels.read(files or [], drawn)
        by = "the demo's truth labels, which stand in for people" if truth else "labelers"
        judged = audit_score.score(drawn, found, by=by)
        if export is not None:
            labels.write(export, found, drawn)
    if as_json:
        import json

        console.say(json.dumps(judged.as_dict(), indent=1, allow_nan=False))
    else:
        _print(judged)


@app.command()
def text(
    kind: Annotated[Literal["hate", "toxicity"], typer.Argument(metavar="KIND", help="hate or toxicity.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILES", help="Parquet files; the English ones of the release.")
    ] = None,
    *,
    weights: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the model: config, tokenizer, safetensors.")],
    each: Annotated[int, typer.Option(min=1, help="Captions of each file, drawn without replacement.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 42,
    column: Annotated[
        str, typer.Option(metavar="NAME", help="Column with the texts: 'ENG TEXT', top_caption, re_caption.")
    ] = "TEXT",
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Estimate the share of hateful or toxic captions, as the published audits do, with 95 % intervals.

    hate: pysentimiento/bertweet-hate-speech, shares above 0.5 (arXiv 2311.03449). toxicity: Detoxify's multilingual
    model, unitary/multilingual-toxic-xlm-roberta (DataComp: above 0.1). Intervals exclude the models' own errors.

    Texts that models wrote: --column top_caption data/release/laion-coco/*.parquet.
    """
    with console.report_errors("audit text"):
        from laion_dask.audit import text_audit, text_models

        tables = files or sorted(Path("data/release").glob("en-*.parquet"))
        found = text_audit.audit(tables, text_models.load(kind, weights), kind, each=each, seed=seed, column=column)
    if as_json:
        import json

        console.say(json.dumps(found.as_dict(), indent=1, allow_nan=False))
        return
    title = f"{kind}: {found.captions:,} captions of {found.files:,} files, seed {found.seed}"
    rows = console.table(title, "above", "kind", "captions", "share %", right=("captions", "share %"))
    for one in found.shares:
        share = f"{100 * (one.rate or 0):.4f} ({100 * one.low:.4f} to {100 * one.high:.4f})"
        rows.add_row(f"{one.threshold:g}", one.kind, f"{one.count:,}", share)
    console.console().print(rows)


def _print(judged: AuditScore) -> None:
    names = ("fired", "labelled")
    rows = console.table(
        f"Sample {judged.sample}, judged by {judged.by}: {judged.labels:,} labels of {judged.labelers:,}",
        *("decision", *names, "should %", "precision %", "recall %", "missed", "wrong"),
        right=names,
    )
    for one in judged.decisions:
        rows.add_row(
            one.decision,
            *(f"{getattr(one, name):,}" for name in names),
            _share(one.rate),
            _share(one.precision),
            _share(one.recall),
            _count(one.missed),
            _count(one.wrong),
        )
    console.console().print(rows)
    for one in judged.decisions:
        if one.unsure:
            console.say(f"{one.decision}: {one.unsure:,} pairs not counted, because labelers were unsure or disagreed")
    for found in judged.agreement:
        kappa = "undefined, all answers are equal" if found.kappa is None else f"{found.kappa:.3f}"
        agreed = "" if found.agreed is None else f", {100 * found.agreed:.1f} % agree"
        shared = f"{found.labelers} labelers, {found.pairs:,} pairs{agreed}"
        console.say(f"{found.question}: {found.measure} {kappa} ({shared})")
    console.say("not judged: " + "; ".join(f"{why}: {pairs:,}" for why, pairs in judged.outside.items()))
    console.say(
        "in brackets: 95 % intervals; should: share that deserves it; missed, wrong: pairs of the whole version"
    )


def _share(found: Estimate) -> str:
    if found.value is None:
        return "none"
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def _count(found: Estimate) -> str:
    return "none" if found.value is None else f"{found.value:,.0f} ({found.low:,.0f} to {found.high:,.0f})"
