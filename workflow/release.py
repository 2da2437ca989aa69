"""Verdicts in, the versioned tables out: one task for each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask import embeddings, parts, release
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from workflow.stage import Resources, Stage, data, main, metrics, total


def splits(settings: Params, _: Resources) -> list[Part]:
    """One part for each split."""
    images = sorted(data("download").glob("*.parquet"))
    scores = [data("score") / path.name for path in images]
    verdicts = [data("filter") / path.name for path in images]
    digest = parts.digest(*images, *scores, *verdicts, settings.release)
    files = {"images": images, "scores": scores, "verdicts": verdicts}
    return [
        Part(split, parts.digest(split, digest), {"split": split, "settings": settings.release, **files})
        for split in release.SPLITS
    ]


def complete(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add tombstones, manifest and card to the tables."""
    parts.publish_files(done, out)
    tombstones = release.write_tombstones(out, sorted(data("filter").glob("*.parquet")))
    counts = {
        stage: metrics(stage) for stage in ("crawl", "extract", "catalog", "download", "score", "group", "filter")
    }
    counts["release"] = total(STAGE, done)
    models = embeddings.about(data("score") / embeddings.STORE)
    manifest = release.write_manifest(out, settings, counts, models, tombstones)
    release.write_card(out, manifest)
    return {"tombstones": tombstones, "files": len(manifest["files"])}


STAGE = Stage(
    name="release",
    unit="pairs",
    find_parts=splits,
    function=release.release,
    publish=complete,
    follows=("pairs", "filter", "pairs"),
)

if __name__ == "__main__":
    main(STAGE)
