"""Extract pairs from WATs into a folder, without a project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from laion_dask import params
from laion_dask.extract import part, parts, readings
from laion_dask.runner.part import Done
from laion_dask.runner.progress import Progress
from laion_dask.standalone import on_files
from laion_dask.standalone.on_files import FilesRun
from laion_dask.storage.objects import ListedObject

OUTS: Final = ("pairs", "losses.parquet", "times.parquet", "reads.parquet")
"""What `extract_files` leaves in its folder; the last one says that all are there."""
WORK: Final = ".extract"
"""Finished WATs of an extraction that is not complete."""


def extract_files(
    table: pa.Table,
    out: Path,
    settings: params.Extract,
    progress: Progress,
    workers: int | None = None,
    listed: Mapping[str, ListedObject] | None = None,
) -> dict[str, Any]:
    """Extract WATs (`schema.WATS`) into `OUTS` of a folder, and return the counts as the stage does.

    `listed` are those in buckets, as `listing.at_places` gives them: one that has changed since is not read. The
    `errors` of the counts are those WATs that could not be read to their end, by location; remote ones are asked for
    again by the next run. Raises what `on_files.run` raises, and `StageError` where no WAT can be read.
    """

    def publish(done: Sequence[Done], fresh: Path) -> Mapping[str, Any]:
        counts = readings.publish(done, fresh, times=fresh / "times.parquet")
        readings.remove_failed_remote(done)
        parts.require_readable(done)
        return counts

    described = FilesRun(
        stage="extract",
        unit="links",
        find_parts=lambda: parts.of_wats(table, settings, parts.by_status, listed or {}),
        function=part.extract,
        publish=publish,
        outs=outs,
    )
    counts, done = on_files.run(described, out / WORK, progress, workers)
    errors = {part.part.args["location"]: part.counts["error"] for part in done if part.counts.get("error")}
    return counts | {"language_model": parts.language_model(settings), "errors": errors}


def outs(folder: Path) -> list[Path]:
    """List what `extract_files` has left in a folder."""
    return [path for name in OUTS if (path := folder / name).exists()]
