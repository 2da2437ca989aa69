"""Stage filter: a verdict for every pair of the catalog, one part for each shard, then rules that need all shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.filter import over_all, part, parts, publish
from laion_dask.params import Params
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Run, Stage, home
from workflow.program import main


def plan() -> Path:
    """Return the folder, beside the parts, of prepared sets of uids, random batches and chances."""
    return home() / "parts" / "filter-plan"


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard: the rules that a row can answer alone."""
    return parts.of_shards(settings, plan())


def decide_over_all(settings: Params, _: Resources, judged: Sequence[Done], run: Run) -> Sequence[Done]:
    """Take out removals by perceptual hash, then add the rules that need all shards: each sees what is kept so far."""
    first = {done.part.name: done.folder for done in judged}
    done = over_all.take_out(settings, judged, run)
    for step in over_all.steps(settings.filter, plan()):
        done = over_all.apply(step, settings.filter, done, first, run)
    return done


def publish_all(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the verdicts, and what the rules over all shards wrote beside them."""
    return {**publish.publish(settings, done, out), **over_all.publish(settings.filter, plan(), out)}


STAGE = Stage(
    name="filter",
    unit="pairs",
    find_parts=shards,
    function=part.judge,
    further=decide_over_all,
    publish=publish_all,
    follows=("pairs", "group", "images"),
)

if __name__ == "__main__":
    main(STAGE)
