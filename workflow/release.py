"""Stage release: write the versioned tables, by splits or by ranges of uids; then card, Croissant and manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.release import part, publication
from laion_dask.release.tables import steps
from laion_dask.release.tables.kept import Shards
from laion_dask.runner import part_files, parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Run, Stage, data, metrics, total
from laion_dask.schema.reasons import FUNNEL, NEW_TEXTS
from laion_dask.storage import embeddings
from laion_dask.storage.numbered import tables
from workflow.program import main

_BEFORE = ("crawl", *(stage for stage, _ in FUNNEL if stage != "release"), *(stage for stage, _ in NEW_TEXTS))


def splits(settings: Params, _: Resources) -> list[Part]:
    """One part for each split; none where there are so many pairs that `ranges` makes all parts."""
    return [] if steps.ranges(_kept()) > 1 else steps.splits(_shards(), settings.release, _models())


def ranges(settings: Params, _: Resources, done: Sequence[Done], run: Run) -> Sequence[Done]:
    """Many pairs: parts for groups of shards, and then for files, each from the ranges of uids that it spans."""
    if steps.ranges(_kept()) == 1:
        return done
    return steps.by_ranges(
        _shards(), _kept(), settings.release, _models(), lambda function, todo: run(function, todo, {})
    )


def complete(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add tombstones, card, Croissant and manifest to the tables."""
    parts.publish_files(done, out)
    rules = settings.release
    earlier = Path(rules.tombstones) if rules.tombstones else None
    tombstones = part.write_tombstones(out, sorted(data("filter").glob("*.parquet")), rules.version, earlier)
    counts = {stage: metrics(stage) for stage in _BEFORE}
    counts["release"] = total(STAGE, done)
    manifest = publication.publish(out, Path("data"), settings, counts, tombstones, _digests(done))
    return {"tombstones": tombstones, "files": len(manifest["files"])}


def _kept() -> int:
    return int(metrics("filter")["pairs"]["kept"])


def _shards() -> Shards:
    images = tables(data("download"))
    scores, verdicts = ([data(stage) / path.name for path in images] for stage in ("score", "filter"))
    return Shards(images, scores, verdicts, {stage: tables(data(stage)) for stage, _ in NEW_TEXTS})


def _models() -> Mapping[str, Mapping[str, str]]:
    return embeddings.about(data("score") / embeddings.STORE)


def _digests(done: Sequence[Done]) -> dict[str, str]:
    """Return the sha256 of each file of the parts, as the worker took it that wrote the file.

    The workers have just compared all files with it: the driver need not read them again.
    """
    written = (part_files.read(one.folder) for one in done)
    return {name: sha256 for part in written if part for name, (_, sha256) in part.files.items()}


STAGE = Stage(
    name="release",
    unit="pairs",
    find_parts=splits,
    function=part.release,
    further=ranges,
    publish=complete,
    follows=("pairs", "filter", "pairs"),
)

if __name__ == "__main__":
    main(STAGE)
