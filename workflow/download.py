"""The work list in, shards of images out: one task for each shard, as many at once as there are workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from distributed import Client
from distributed.utils import get_ip

from laion_dask import __version__, cdxj, download, parts, rounds, verify
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from laion_dask.progress import Downloads
from laion_dask.replay import Replay
from laion_dask.turns import TurnServer
from workflow.stage import Resources, Run, Stage, StageError, data, home, main


@contextmanager
def network(settings: Params, client: Client) -> Iterator[Resources]:
    """Open the way to the images: the live web, an archive or a server that answers out of WARCs, and turns at hosts.

    Turns are given by the driver to all workers, on whatever machine; the replay server answers on this one only.
    """
    rules = settings.download
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    agent = f"laion-dask/{__version__} (+{rules.contact or 'replay'})"
    if rules.source == "archive":
        yield {"user_agent": agent, "workers": 1, "replay": None, "archive": index(settings)}
        return
    with TurnServer(rules, _reachable_from(workers, client)) as turns:
        shared = {"user_agent": agent, "workers": max(1, len(workers)), "turns": turns.address}
        if rules.source == "web":
            yield {**shared, "replay": None}
            return
        with Replay(archives(settings)) as replay:
            yield {**shared, "replay": replay.address}


def _reachable_from(workers: Sequence[str], client: Client) -> str:
    """Return the address of this machine at which the workers reach it: the loopback where all are here."""
    if all(urlsplit(worker).scheme == "inproc" or urlsplit(worker).hostname == "127.0.0.1" for worker in workers):
        return "127.0.0.1"
    scheduler = urlsplit(client.scheduler_info(n_workers=0)["address"]).hostname
    return str(get_ip(scheduler))


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
    compared = parts.digest(*(verify.shard_files(Path(rules.verify)) if rules.verify is not None else []))
    # One more round is no reason to fetch what a round before has fetched.
    shaping = rules.model_dump(mode="json", exclude={"rounds"})
    return [
        Part(
            path.stem,
            parts.digest(path, shaping, answers, compared),
            {"name": path.stem, "work": path, "settings": rules},
            weight=pq.read_metadata(path).num_rows,
        )
        for path in sorted((data("catalog") / "shards").glob("*.parquet"))
    ]


def again(settings: Params, shared: Resources, first: Sequence[Done], run: Run) -> Sequence[Done]:
    """Try again, as parts of their own, what failed for now; then join the rounds of each shard."""
    tried = {part.part.name: [part] for part in first}
    for number in range(2, settings.download.rounds + 1):
        left = [ended[-1] for ended in tried.values() if ended[-1].counts["later"]]
        for part in run(download.download, [_next_round(part, number) for part in left], shared) if left else []:
            tried[part.part.args["name"]].append(part)
    several = [_joined(ended) for ended in tried.values() if len(ended) > 1]
    joined = {part.part.name: part for part in (run(rounds.settle, several, {}) if several else [])}
    return [joined.get(name, ended[0]) for name, ended in tried.items()]


def _next_round(part: Done, number: int) -> Part:
    name = part.part.args["name"]
    key = parts.digest(part.part.key, number, rounds.later_file(part.folder, name))
    args = {**part.part.args, "before": part.folder, "round_number": number}
    return Part(f"{name}-{number}", key, args, weight=part.counts["later"])


def _joined(ended: Sequence[Done]) -> Part:
    name = ended[0].part.name
    key = parts.digest([[part.part.key, part.folder / f"{name}.parquet"] for part in ended])
    return Part(name, key, {"name": name, "rounds": [part.folder for part in ended]}, weight=ended[0].part.weight)


def publish(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the shards; how long each try took lies beside the version, where a clock may be."""
    for part in done:
        for path in parts.files(part):
            if path.parent == part.folder:
                parts.link(path, out / path.name)
    rounds.join_tries(
        (rounds.tries_file(part.folder, part.part.name) for part in done), home() / "times" / "download.parquet"
    )
    return {}


STAGE = Stage(
    name="download",
    unit="images",
    find_parts=shards,
    function=download.download,
    publish=publish,
    resources=network,
    further=again,
    progress=Downloads,
    follows=("images", "catalog", "pairs"),
)

if __name__ == "__main__":
    main(STAGE)
