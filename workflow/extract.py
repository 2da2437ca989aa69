"""WATs in; pairs, defects and one row for each reading out: one task for each WAT, in a project or without one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import dask
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.extract import language, readings
from laion_dask.extract import part as extract
from laion_dask.params import Params
from laion_dask.runner import cluster, code_digest, parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.progress import Progress
from laion_dask.storage.files import digest, sha256
from workflow.stage import Resources, Stage, StageError, alone, data, home, main, total

OUTS: Final = ("pairs", "losses.parquet", "times.parquet", "reads.parquet")
"""What `extract_files` leaves in its folder; the last one says that all are there."""
WORK: Final = ".extract"
"""Finished WATs of an extraction that is not complete."""


def wats(settings: Params, _: Resources) -> list[Part]:
    """One part for each WAT of the list; a local WAT is known by its bytes, a remote one by its address."""
    return _find_parts(pq.read_table(data("crawl") / "wats.parquet"), settings.extract, _by_bytes)


def publish(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the pairs; a WAT that cannot be read is counted, but where none can, there is nothing to go on with."""
    # A clock must never get into the files of a version: times lie beside it.
    counts = readings.publish(done, out, times=home() / "times" / "extract.parquet")
    readings.forget_unanswered(done)
    _refuse_nothing(done)
    return {**counts, "language_model": _language_model(settings.extract)}


def _language_model(rules: params.Extract) -> dict[str, str]:
    """Say which model decides of languages, for the manifest."""
    file = language.language_model(rules.language_model)
    return {"file": file.name, "sha256": sha256(file)}


STAGE = Stage(name="extract", unit="links", find_parts=wats, function=extract.extract, publish=publish)


def extract_files(
    table: pa.Table, out: Path, settings: params.Extract, progress: Progress, workers: int | None = None
) -> dict[str, Any]:
    """Extract WATs (`schema.WATS`) into `OUTS` of a folder, without a project, and return the counts as the stage does.

    Its `errors` are those WATs that could not be read to their end, by location. WATs that an interrupted run has
    finished by the same rules are not read again; what the folder holds of an earlier extraction is replaced at the
    end. Raises what `parts.run` raises, and `StageError` where no WAT can be read or another run writes there too.
    """
    work = out / WORK
    work.mkdir(parents=True, exist_ok=True)
    # More processes than WATs would only start and end.
    asked = min(workers or cluster.workers(), max(1, table.num_rows))
    with alone(work), dask.config.set({"laion-dask.cluster.workers": asked}):
        code = code_digest.of_stage(STAGE.name)
        todo = [replace(part, key=digest(part.key, code)) for part in _find_parts(table, settings, _by_stat)]
        with cluster.open_client() as client:
            done = parts.undamaged(
                lambda: parts.run(extract.extract, todo, work / "parts", client, progress=progress), client, progress
            )
        counts = total(STAGE, done)
        fresh = work / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        counts.update(readings.publish(done, fresh, times=fresh / "times.parquet"))
        unanswered = readings.forget_unanswered(done)
        _refuse_nothing(done)
        for name in OUTS:
            remove(out / name)
            (fresh / name).rename(out / name)
        if not unanswered:
            shutil.rmtree(work)
    errors = {part.part.args["location"]: part.counts["error"] for part in done if part.counts.get("error")}
    return counts | {"language_model": _language_model(settings), "errors": errors}


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _find_parts(table: pa.Table, rules: params.Extract, identify: Callable[[str], object]) -> list[Part]:
    rows = table.to_pylist()
    # The file may change under its name.
    model = _language_model(rules)
    with ThreadPoolExecutor() as pool:
        identities = list(pool.map(identify, (row["location"] for row in rows)))
    todo = []
    for row, identity in zip(rows, identities, strict=True):
        args = {
            "name": f"{row['order']:06d}",
            "location": row["location"],
            "crawl": row["crawl"],
            "wat": row["wat"],
            "order": row["order"],
            "settings": rules,
        }
        key = digest(identity, row["crawl"], row["wat"], row["order"], rules, model)
        todo.append(Part(args["name"], key, args, weight=max(row["bytes"], 0)))
    return todo


def _by_bytes(location: str) -> str:
    """Identify a local WAT by its bytes; one that is elsewhere, or nowhere, by its address."""
    local = Path(location)
    return digest(local) if local.is_file() else location


def _by_stat(location: str) -> object:
    """Identify a local WAT by path, size and time: its bytes would have to be read twice before the first pair."""
    local = Path(location)
    if not local.is_file():
        return location
    status = local.stat()
    return [str(local.resolve()), status.st_size, status.st_mtime_ns]


def _refuse_nothing(done: Sequence[Done]) -> None:
    """Raise `StageError` where no WAT at all can be read."""
    unreadable = readings.unreadable(done)
    if unreadable and len(unreadable) == len(done):
        first = unreadable[0]
        raise StageError(
            f"none of the {len(done)} WATs can be read; {first.part.args['location']}: {first.counts['error']}"
        )


if __name__ == "__main__":
    main(STAGE)
