"""The work list in, shards of images out: one task for each shard, as many at once as there are workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import pyarrow.parquet as pq
from distributed import Client

from laion_dask import __version__, download, parts
from laion_dask.params import Params
from laion_dask.parts import Part
from laion_dask.replay import Replay
from workflow.stage import Resources, Stage, StageError, data, main


@contextmanager
def network(settings: Params, client: Client) -> Iterator[Resources]:
    """Open the way to the images: the live web, or a loopback server that answers out of WARC files."""
    rules = settings.download
    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    shared = {"user_agent": f"laion-dask/{__version__} (+{rules.contact or 'replay'})", "workers": workers}
    if rules.source == "web":
        yield {**shared, "replay": None}
        return
    with Replay(archives(settings)) as replay:
        yield {**shared, "replay": replay.address}


def archives(settings: Params) -> list[Path]:
    """List the WARC files to answer from; `StageError` when a glob matches none."""
    found = []
    for pattern in settings.download.archive:
        matches = sorted(Path(path) for path in glob(pattern, recursive=True))  # noqa: PTH207 - may be absolute
        if not matches:
            message = (
                f"download.archive has {pattern!r}, which matches no file. Remedy: correct the glob in params.yaml"
            )
            raise StageError(message)
        found += matches
    return found


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard of the work list."""
    rules = settings.download
    answers = parts.digest(*archives(settings)) if rules.source == "replay" else "web"
    return [
        Part(
            path.stem,
            parts.digest(path, rules, answers),
            {"name": path.stem, "work": path, "settings": rules},
            weight=pq.read_metadata(path).num_rows,
        )
        for path in sorted((data("catalog") / "shards").glob("*.parquet"))
    ]


STAGE = Stage(
    name="download",
    unit="images",
    find_parts=shards,
    function=download.download,
    resources=network,
    follows=("images", "catalog", "pairs"),
)

if __name__ == "__main__":
    main(STAGE)
