"""Download tables of URLs into a folder of shards, without a project."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.blocklists import known_content, known_lists
from laion_dask.download import answers, part, parts, worklist
from laion_dask.download.worklist import TableError, WorkListRules
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.runner.stage import Resources, Run
from laion_dask.standalone import on_files
from laion_dask.standalone.on_files import FilesRun
from laion_dask.storage.files import digest
from laion_dask.storage.shards import SIZES
from laion_dask.workers.pool import Pool

WORK: Final = ".download"
"""Work lists and finished shards of a download of tables that is not complete."""


@contextmanager
def network(rules: params.Download, work: Path, pool: Pool) -> Iterator[Resources]:
    """Open what answers the requests of all workers."""
    workers, host = pool.per_host(), pool.driver_host()
    opening = answers.opened(rules, workers, host, work / "download.cdxj", encrypted=pool.encrypted)
    with opening as resources:
        yield resources


def download_tables(
    tables: Sequence[Path],
    out: Path,
    settings: params.Params,
    cut: WorkListRules,
    progress: Progress,
    *,
    workers: int | None = None,
    reach: Callable[[params.Download, Path, Pool], AbstractContextManager[Resources]] = network,
) -> dict[str, Any]:
    """Download tables of URLs into shards in a folder, and return the counts as the stage does.

    `reach` opens what answers the requests: of the web or of WARC files. Raises what `on_files.run` raises, and
    `TableError`.
    """
    rules, work = settings.download, out / WORK
    lists = []

    def find_parts() -> list[Part]:
        lists.extend(known_lists.compiled(settings.catalog.lists, work / "known"))
        return parts.of_work_lists(
            _work_lists(tables, cut, work), rules, cut.shard_rows, answers.identity(rules, {}), lists
        )

    def try_again(resources: Resources, first: Sequence[Done], run: Run) -> Sequence[Done]:
        return parts.try_again(rules, resources, first, run)

    def publish(done: Sequence[Done], fresh: Path) -> Mapping[str, Any]:
        parts.publish_shards(done, fresh)
        return {"listed": known_content.total(lists, (part.counts["listed"] for part in done))}

    described = FilesRun(
        stage="download",
        unit="images",
        find_parts=find_parts,
        function=part.download,
        publish=publish,
        outs=outs,
        resources=lambda pool: reach(rules, work, pool),
        further=try_again,
    )
    return on_files.run(described, work, progress, workers)[0]


def outs(folder: Path) -> list[Path]:
    """List what `download_tables` has left in a folder, `sizes.json` at the end; other files are not its own."""
    found = [path for path in folder.glob("*") if re.fullmatch(r"\d{5,}(\.tar|\.parquet|_stats\.json)", path.name)]
    return [*sorted(found), *([folder / SIZES] if (folder / SIZES).is_file() else [])]


def _work_lists(tables: Sequence[Path], cut: WorkListRules, work: Path) -> list[Path]:
    """Cut the tables to work lists, unless an interrupted run has done so with the same tables."""
    for path in tables:
        if not path.is_file():
            raise TableError(f"{path}: no such file. Remedy: give the path of an existing table")
    # Known by path, size and time: reading their bytes first would double the time to the first image.
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
