"""Stage download: fetch the images of the work list into shards, one part for each shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from laion_dask.blocklists import known_content, known_lists
from laion_dask.download import answers, part, parts, rounds
from laion_dask.download.rates import DownloadRates
from laion_dask.params import Params
from laion_dask.runner.ahead import Following
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Run, Stage, data, home
from laion_dask.storage.numbered import tables
from laion_dask.workers.pool import Pool
from workflow.program import main


@contextmanager
def network(settings: Params, pool: Pool) -> Iterator[Resources]:
    """Open what answers the requests: the live web with its rate limits, a replay server, or an archive."""
    workers, host = pool.per_host(), pool.driver_host()
    opening = answers.opened(settings.download, workers, host, home() / "download.cdxj", encrypted=pool.encrypted)
    with opening as resources:
        yield resources


def shards(settings: Params, resources: Resources) -> list[Part]:
    """One part for each shard of the work list."""
    rules = settings.download
    lists = known_lists.compiled(settings.catalog.lists, home() / "lists")
    paths = tables(data("catalog") / "shards")
    answered = answers.identity(rules, resources)
    return parts.with_earlier(parts.of_work_lists(paths, rules, settings.catalog.shard_rows, answered, lists))


def try_again(settings: Params, resources: Resources, first: Sequence[Done], run: Run) -> Sequence[Done]:
    """Run the further rounds of what failed for now."""
    return parts.try_again(settings.download, resources, first, run)


def score_next(_: Params) -> Following:
    """Name the stage score; by its module's name, so that its code is not in the keys of this stage."""
    following: Following = import_module("workflow.score").AHEAD
    return following


def publish(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the shards and their sizes; the times of all attempts lie beside the version, not in its files."""
    parts.publish_shards(done, out)
    rounds.join_tries(
        (rounds.tries_file(part.folder, part.part.name) for part in done), home() / "times" / "download.parquet"
    )
    listed = known_lists.compiled(settings.catalog.lists, home() / "lists")
    return {
        "listed": known_content.total(listed, (part.counts["listed"] for part in done)),
        "lists": known_lists.about(listed),
    }


STAGE = Stage(
    name="download",
    unit="images",
    find_parts=shards,
    function=part.download,
    publish=publish,
    resources=network,
    further=try_again,
    line=DownloadRates,
    then=score_next,
    follows=("images", "catalog", "pairs"),
)

if __name__ == "__main__":
    main(STAGE)
