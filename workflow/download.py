"""The work list in, shards of images out: one task for each shard, as many at once as there are workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import pyarrow.parquet as pq
from distributed import Client

from laion_dask import __version__, cdxj, download, parts, verify
from laion_dask.params import Params
from laion_dask.parts import Part
from laion_dask.replay import Replay
from workflow.stage import Resources, Stage, StageError, data, home, main


@contextmanager
def network(settings: Params, client: Client) -> Iterator[Resources]:
    """Open the way to the images: the live web, an archive of it, or a loopback server that answers out of WARCs."""
    rules = settings.download
    workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    shared = {"user_agent": f"laion-dask/{__version__} (+{rules.contact or 'replay'})", "workers": workers}
    if rules.source == "web":
        yield {**shared, "replay": None}
        return
    if rules.source == "archive":
        yield {**shared, "replay": None, "archive": index(settings)}
        return
    with Replay(archives(settings)) as replay:
        yield {**shared, "replay": replay.address}


def archives(settings: Params) -> list[Path]:
    """List the WARC files to answer from; `StageError` when a glob matches none."""
    found = []
    for pattern in settings.download.warcs:
        matches = sorted(Path(path) for path in glob(pattern, recursive=True))  # noqa: PTH207 - may be absolute
        if not matches:
            message = f"download.warcs has {pattern!r}, which matches no file. Remedy: correct the glob in params.yaml"
            raise StageError(message)
        found += matches
    return found


def index(settings: Params) -> Path:
    """Write the index of all archives into the folder of work in progress."""
    return cdxj.collect(archives(settings), (home() / "download.cdxj").resolve())


def shards(settings: Params, resources: Resources) -> list[Part]:
    """One part for each shard of the work list."""
    rules = settings.download
    answers = "web"
    if rules.source == "replay":
        answers = parts.digest(*archives(settings))
    elif rules.source == "archive":
        answers = cdxj.digest(resources["archive"])
    earlier = verify.shard_files(Path(rules.verify)) if rules.verify is not None else []
    compared = parts.digest(*earlier)
    return [
        Part(
            path.stem,
            parts.digest(path, rules, answers, compared),
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
