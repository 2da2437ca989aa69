"""Stage release: write the versioned tables, one part for each split; then card, Croissant and manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.release import part, publication
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data, metrics, total
from laion_dask.schema.reasons import FUNNEL, NEW_TEXTS
from laion_dask.schema.values import SPLITS
from laion_dask.storage import embeddings
from laion_dask.storage.files import digest
from workflow.program import main

_BEFORE = ("crawl", *(stage for stage, _ in FUNNEL if stage != "release"), *(stage for stage, _ in NEW_TEXTS))


def splits(settings: Params, _: Resources) -> list[Part]:
    """One part for each split."""
    images = sorted(data("download").glob("*.parquet"))
    scores = [data("score") / path.name for path in images]
    verdicts = [data("filter") / path.name for path in images]
    models = embeddings.about(data("score") / embeddings.STORE)
    new_texts = {stage: sorted(data(stage).glob("*.parquet")) for stage, _ in NEW_TEXTS}
    written = [path for paths in new_texts.values() for path in paths]
    inputs = digest(*images, *scores, *verdicts, *written, settings.release, models)
    common: dict[str, Any] = {"images": images, "scores": scores, "verdicts": verdicts, "new_texts": new_texts}
    common |= {"settings": settings.release, "models": models}
    return [Part(split, digest(split, inputs), {"split": split, **common}) for split in SPLITS]


def complete(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add tombstones, card, Croissant and manifest to the tables."""
    parts.publish_files(done, out)
    rules = settings.release
    earlier = Path(rules.tombstones) if rules.tombstones else None
    tombstones = part.write_tombstones(out, sorted(data("filter").glob("*.parquet")), rules.version, earlier)
    counts = {stage: metrics(stage) for stage in _BEFORE}
    counts["release"] = total(STAGE, done)
    manifest = publication.publish(out, Path("data"), settings, counts, tombstones)
    return {"tombstones": tombstones, "files": len(manifest["files"])}


STAGE = Stage(
    name="release",
    unit="pairs",
    find_parts=splits,
    function=part.release,
    publish=complete,
    follows=("pairs", "filter", "pairs"),
)

if __name__ == "__main__":
    main(STAGE)
