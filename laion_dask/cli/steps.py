"""The steps of a project: each command runs one stage as `workflow/` of the checkout describes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laion_dask.cli import console


@contextmanager
def _in_checkout(step: str) -> Iterator[None]:
    """End with a message if the package is installed without the project's checkout."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "workflow":
            raise
        console.fail(
            f"{step}: this step needs a checkout of the project; only the package is installed here. "
            f"Remedy: `pip install -e .` in the checkout, or `python -m workflow.{step}` there"
        )


def inputs() -> None:
    """Digest the files that parameters name, so that changes are detected."""
    with _in_checkout("inputs"):
        from workflow.inputs import main
    main()  # it has no parts and needs no cluster


def crawl() -> None:
    """List the WAT files to read; make them for the demo."""
    with _in_checkout("crawl"):
        from workflow.crawl import STAGE
        from workflow.program import main
    main(STAGE)


def extract() -> None:
    """Extract image links with alt text and language from WAT files."""
    with _in_checkout("extract"):
        from workflow.extract import STAGE
        from workflow.program import main
    main(STAGE)


def catalog() -> None:
    """Make a shuffled work list of unique pairs, with PostgreSQL."""
    with _in_checkout("catalog"):
        from workflow.catalog import STAGE
        from workflow.program import main
    main(STAGE)


def download() -> None:
    """Download the work list into shards of checked, hashed, resized images."""
    with _in_checkout("download"):
        from workflow.download import STAGE
        from workflow.program import main
    main(STAGE)


def score() -> None:
    """Compute CLIP embeddings, similarities and safety scores of shards."""
    with _in_checkout("score"):
        from workflow.program import main
        from workflow.score import STAGE
    main(STAGE)


def group() -> None:
    """Find near-duplicate images by hashes and embeddings."""
    with _in_checkout("group"):
        from workflow.group import STAGE
        from workflow.program import main
    main(STAGE)


def filter_() -> None:
    """Apply thresholds to scores: a verdict for every pair."""
    with _in_checkout("filter"):
        from workflow.filter import STAGE
        from workflow.program import main
    main(STAGE)


def translate() -> None:
    """Translate the texts of kept pairs into English, beside the alt texts."""
    with _in_checkout("translate"):
        from workflow.program import main
        from workflow.translate import STAGE
    main(STAGE)


def caption() -> None:
    """Describe the images of kept pairs: captions beside the alt texts, ranked by CLIP."""
    with _in_checkout("caption"):
        from workflow.caption import STAGE
        from workflow.program import main
    main(STAGE)


def release() -> None:
    """Write LAION's tables, subsets, manifest, Croissant and card from the verdicts."""
    with _in_checkout("release"):
        from workflow.program import main
        from workflow.release import STAGE
    main(STAGE)


def report() -> None:
    """Make figures, one HTML page and one MLflow run."""
    with _in_checkout("report"):
        from workflow.program import main
        from workflow.report import STAGE
    out = Path("data") / STAGE.name
    console.say(f"report: reading metrics/ and data/, drawing figures, writing {out}", err=True)
    main(STAGE)
    for line in written(out):
        console.say(line)


def written(out: Path) -> Iterator[str]:
    """Yield what a report consists of, where it is opened, and where it stands beside other versions."""
    page = out / "report.html"
    # Each figure is there as PNG and as SVG.
    figures = len({path.stem for path in (out / "figures").glob("*")})
    tables = len(list((out / "tables").glob("*")))
    size = console.short(page.stat().st_size, "B")
    yield f"wrote     {page} ({size}), {figures} figures and {tables} tables beside it"
    yield f"open      {page.absolute().as_uri()}"
    yield "versions  laion-dask mlflow ui"
