"""The work list in, shards of images out: one task for each shard, as many at once as there are workers."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from glob import glob
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import dask
import pyarrow.parquet as pq
from distributed import Client
from distributed.utils import get_ip

from laion_dask import __version__
from laion_dask.blocklists import known_content, known_lists
from laion_dask.blocklists.known_index import Index
from laion_dask.download import earlier, rounds, worklist
from laion_dask.download import part as download
from laion_dask.download.worklist import TableError, WorkListRules
from laion_dask.params import Params
from laion_dask.runner import cluster, code_digest, parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Downloads, Progress
from laion_dask.runner.tasks import PartFunction
from laion_dask.storage import printable
from laion_dask.storage.files import digest, link
from laion_dask.storage.shards import SIZES, write_sizes
from laion_dask.web.archive.replay import Replay
from laion_dask.web.fetch.limit_server import LimitServer
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.recorded import Survey
from workflow.stage import Resources, Run, Stage, StageError, alone, data, home, main, total

WORK: Final = ".download"
"""Work lists and finished shards of a download of tables that is not complete."""


@contextmanager
def network(settings: Params, client: Client) -> Iterator[Resources]:
    """Open the way to the images: the live web within rate limits, an archive, or a server that answers out of WARCs.

    The driver's limit server serves all workers, on whatever machine; recorded answers need no limits. The replay
    server answers on this machine only.
    """
    rules = settings.download
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    agent = f"laion-dask/{__version__} (+{rules.contact or 'replay'})"
    shared = {"user_agent": agent, "workers": max(1, len(workers))}
    if rules.source == "archive":
        yield {**shared, "replay": None, "archive": index(settings)}
    elif rules.source == "replay":
        with Replay(archives(settings)) as replay:
            _say(replay.index.survey)
            yield {**shared, "replay": replay.address}
    else:
        with LimitServer(rules, _reachable_from(workers, client)) as server:
            yield {**shared, "replay": None, "limit_server": server.address}


def _say(survey: Survey) -> None:
    """Say what the WARC files hold; an archive of this project's own, read by its index, counts no records."""
    if survey.answered or survey.left_out or survey.other:
        said = f"download.warcs: {'; '.join(survey.lines())}"
        print(printable.plain(said), file=sys.stderr, flush=True)  # noqa: T201 - for people


def _reachable_from(workers: Sequence[str], client: Client) -> str:
    """Return the address of this machine at which the workers reach it: the loopback where all are here."""
    if all(urlsplit(worker).scheme == "inproc" or urlsplit(worker).hostname == "127.0.0.1" for worker in workers):
        return "127.0.0.1"
    scheduler = urlsplit(client.scheduler_info(n_workers=0)["address"]).hostname
    return str(get_ip(scheduler))


def archives(settings: Params) -> list[Path]:
    """List the WARC files to answer from, each once; `StageError` when a path or glob matches none."""
    found: dict[Path, None] = {}
    for pattern in settings.download.warcs:
        # What exists under the name as given is that file: a[1].warc.gz is a name, and a glob for another.
        names = [pattern] if Path(pattern).is_file() else glob(pattern, recursive=True)  # noqa: PTH207 - may be absolute
        matches = sorted(Path(name).absolute() for name in names)
        if not matches:
            message = f"download.warcs has {pattern!r}, which matches no file. Remedy: correct the glob in params.yaml"
            raise StageError(message)
        found |= dict.fromkeys(matches)
    return list(found)


def index(settings: Params) -> Path:
    """Write the index of all archives into the folder of work in progress."""
    out = home() / "download.cdxj"
    survey = cdxj.survey_beside(out)
    path = cdxj.collect(archives(settings), out, survey)
    _say(survey)
    return path


def shards(settings: Params, resources: Resources) -> list[Part]:
    """One part for each shard of the work list."""
    rules = settings.download
    answers = _answers(settings, resources)
    compared = digest(*(earlier.shard_files(Path(rules.verify)) if rules.verify is not None else []))
    # One more round is no reason to fetch what a round before has fetched.
    shaping = rules.model_dump(mode="json", exclude={"rounds"})
    # Nor is a new list of known content: filter finds what is here already.
    listed = known_lists.compiled(settings.catalog.lists, home() / "lists")
    shard_rows = settings.catalog.shard_rows
    return [
        Part(
            path.stem,
            digest(path, shaping, answers, compared, shard_rows),
            {"name": path.stem, "work": path, "settings": rules, "shard_rows": shard_rows, "lists": listed},
            weight=pq.read_metadata(path).num_rows,
        )
        for path in sorted((data("catalog") / "shards").glob("*.parquet"))
    ]


def _answers(settings: Params, resources: Resources) -> str:
    """Digest what stands in for the web, if anything does."""
    if settings.download.source == "replay":
        return digest(*archives(settings))
    return cdxj.digest(resources["archive"]) if settings.download.source == "archive" else "web"


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
    key = digest(part.part.key, number, rounds.later_file(part.folder, name))
    args = {**part.part.args, "before": part.folder, "round_number": number}
    return Part(f"{name}-{number}", key, args, weight=part.counts["later"])


def _joined(ended: Sequence[Done]) -> Part:
    name = ended[0].part.name
    key = digest([[part.part.key, part.folder / f"{name}.parquet"] for part in ended])
    return Part(name, key, {"name": name, "rounds": [part.folder for part in ended]}, weight=ended[0].part.weight)


def publish(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the shards and their sizes; how long each try took lies beside the version, where a clock may be."""
    _publish_shards(done, out)
    rounds.join_tries(
        (rounds.tries_file(part.folder, part.part.name) for part in done), home() / "times" / "download.parquet"
    )
    listed = known_lists.compiled(settings.catalog.lists, home() / "lists")
    return {
        "listed": known_content.total(listed, (part.counts["listed"] for part in done)),
        "lists": known_lists.about(listed),
    }


def _publish_shards(done: Sequence[Done], out: Path) -> None:
    for part in done:
        for path in parts.files(part):
            if path.parent == part.folder:
                link(path, out / path.name)
    write_sizes(out)


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


def download_tables(
    tables: Sequence[Path],
    out: Path,
    settings: Params,
    cut: WorkListRules,
    progress: Progress,
    *,
    workers: int | None = None,
    reach: Callable[[Params, Client], AbstractContextManager[Resources]] = network,
) -> dict[str, Any]:
    """Download tables of URLs into shards in a folder, without a project, and return the counts as the stage does.

    Shards that an interrupted run has finished by the same rules from the same tables are not fetched again; what the
    folder holds of an earlier download is replaced at the end. `reach` opens the way to the images. Raises what
    `parts.run` raises, `TableError`, and `StageError` where another run writes there too.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    with alone(work):
        listed = known_lists.compiled(settings.catalog.lists, work / "known")
        todo = _parts_of(_work_lists(tables, cut, work), settings, cut.shard_rows, listed)
        # More processes than shards would only start and end.
        asked = min(workers or cluster.workers(), max(1, len(todo)))
        machine = {"laion-dask.cluster.workers": asked}
        with ExitStack() as servers, dask.config.set(machine), cluster.open_client() as client:
            resources = servers.enter_context(reach(settings, client))
            shards_at = work / "parts"

            def run(function: PartFunction, todo: Sequence[Part], shared: Resources) -> list[Done]:
                # Rows of a further round have been counted in the progress of the first.
                further = Progress("again", "images")
                return parts.run(function, todo, shards_at, client, shared=shared, progress=further)

            def make() -> Sequence[Done]:
                done = parts.run(download.download, todo, shards_at, client, shared=resources, progress=progress)
                return again(settings, resources, done, run)

            done = parts.undamaged(make, client, progress)
        counts = total(replace(STAGE, follows=None), done)
        counts["listed"] = known_content.total(listed, (part.counts["listed"] for part in done))
        fresh = work / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        _publish_shards(done, fresh)
        remove(out)
        # The sizes come last: they say that all is there.
        for path in sorted(fresh.iterdir(), key=lambda path: (path.name == SIZES, path.name)):
            path.rename(out / path.name)
        shutil.rmtree(work)
    return counts


def _parts_of(work: Sequence[Path], settings: Params, shard_rows: int, listed: Sequence[Index]) -> list[Part]:
    rules = settings.download
    shaping = rules.model_dump(mode="json", exclude={"rounds"})
    answers = digest(*archives(settings)) if rules.source == "replay" else "web"
    code = code_digest.of_stage(STAGE.name)
    return [
        Part(
            path.stem,
            digest(path, shaping, answers, shard_rows, code),
            {"name": path.stem, "work": path, "settings": rules, "shard_rows": shard_rows, "lists": listed},
            weight=pq.read_metadata(path).num_rows,
        )
        for path in work
    ]


def outs(out: Path) -> list[Path]:
    """List what `download_tables` has left in a folder, `sizes.json`, which comes last, at the end."""
    found = [path for path in out.glob("*") if re.fullmatch(r"\d{5,}(\.tar|\.parquet|_stats\.json)", path.name)]
    return [*sorted(found), *([out / SIZES] if (out / SIZES).is_file() else [])]


def remove(out: Path) -> None:
    """Remove the shards of an earlier download; what is not ours stays."""
    for path in reversed(outs(out)):
        path.unlink()


def _work_lists(tables: Sequence[Path], cut: WorkListRules, work: Path) -> list[Path]:
    """Cut the tables to work lists, unless an interrupted run has done so with the same tables."""
    for path in tables:
        if not path.is_file():
            raise TableError(f"{path}: no such file. Remedy: give the path of an existing table")
    # Known by path, size and time: their bytes would have to be read twice before the first image.
    status = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in tables]
    folder = work / "lists" / digest(status, asdict(cut))
    mark = folder / "rows.txt"
    if not mark.is_file():
        shutil.rmtree(work / "lists", ignore_errors=True)
        rows = worklist.cut(tables, folder, cut)
        if not rows:
            named = f"{tables[0]} and {len(tables) - 1} more have" if len(tables) > 1 else f"{tables[0]} has"
            raise TableError(f"{named} no rows: nothing is asked for. Remedy: give a table with at least one address")
        mark.write_text(f"{rows}\n")
    return sorted(folder.glob("*.parquet"))


if __name__ == "__main__":
    main(STAGE)
