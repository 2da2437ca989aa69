"""The steps of a project: each command runs one stage as `workflow/` of the checkout describes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from laion_dask.cli import console


@contextmanager
def _in_checkout(step: str) -> Iterator[None]:
    """End with a message where the package is installed without the project around it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "workflow":
            raise
        console.fail(
            f"{step}: this step runs in a checkout of the project, and here is only the package. "
            f"Remedy: `pip install -e .` in the checkout, or `python -m workflow.{step}` there"
        )


def inputs() -> None:
    """Digest the files that parameters name, so that a changed one is noticed."""
    with _in_checkout("inputs"):
        from workflow.inputs import main
    main()  # it has no parts, and needs no cluster


def crawl() -> None:
    """List the WAT files to read; for the demo, make them."""
    with _in_checkout("crawl"):
        from workflow.crawl import STAGE
        from workflow.program import main
    main(STAGE)


def extract() -> None:
    """WAT files to image links with alt text and language."""
    with _in_checkout("extract"):
        from workflow.extract import STAGE
        from workflow.program import main
    main(STAGE)


def catalog() -> None:
    """Pairs to a shuffled work list, through PostgreSQL."""
    with _in_checkout("catalog"):
        from workflow.catalog import STAGE
        from workflow.program import main
    main(STAGE)


def download() -> None:
    """Work list to shards of checked, hashed, resized images."""
    with _in_checkout("download"):
        from workflow.download import STAGE
        from workflow.program import main
    main(STAGE)


def score() -> None:
    """Shards to CLIP embeddings, similarity and safety scores."""
    with _in_checkout("score"):
        from workflow.program import main
        from workflow.score import STAGE
    main(STAGE)


def group() -> None:
    """Hashes and embeddings to the images that are near each other."""
    with _in_checkout("group"):
        from workflow.group import STAGE
        from workflow.program import main
    main(STAGE)


def filter_() -> None:
    """Scores and thresholds to a verdict for every pair."""
    with _in_checkout("filter"):
        from workflow.filter import STAGE
        from workflow.program import main
    main(STAGE)


def release() -> None:
    """Verdicts to LAION's tables, subsets, manifest, Croissant and card."""
    with _in_checkout("release"):
        from workflow.program import main
        from workflow.release import STAGE
    main(STAGE)


def report() -> None:
    """Everything to figures, one HTML page and one MLflow run."""
    with _in_checkout("report"):
        from workflow.program import main
        from workflow.report import STAGE
    main(STAGE)
