"""Rules over all shards: tables in, verdicts by uid out, with the steps of the stage filter run one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made.versions import judging, tables

from laion_dask import params
from laion_dask.filter import over_all, part, rules
from laion_dask.runner.part import Done, Part


def verdicts(
    folder: Path, shards: Sequence[tuple[pa.Table, pa.Table]], wanted: params.Filter, files: rules.Files | None = None
) -> tuple[dict[str, str], list[Done]]:
    """Judge shards of (images, scores) and apply the rules over all of them; return verdicts by uid, and the parts."""
    files = files or rules.Files(str(folder))
    done = [_judged(folder, f"{place:05d}", *shard, wanted, files) for place, shard in enumerate(shards)]
    first = {one.part.name: one.folder for one in done}

    def run(function: Any, todo: Sequence[Part], _: Any) -> list[Done]:  # noqa: ANN401 - as `runner.stage.Run`
        return [_ran(folder, function, one) for one in todo]

    for step in over_all.steps(wanted, folder / "plan"):
        done = [*over_all.apply(step, wanted, done, first, run)]
    found = {}
    for one in done:
        table = pq.read_table(one.folder / f"{one.part.name}.parquet")
        found |= dict(zip(table["uid"].to_pylist(), table["reason"].to_pylist(), strict=True))
    return found, done


def _judged(
    folder: Path, name: str, images: pa.Table, scores: pa.Table, wanted: params.Filter, files: rules.Files
) -> Done:
    args = {
        "name": name,
        "images": tables.write(folder / "images" / f"{name}.parquet", images),
        "scores": tables.write(folder / "score" / f"{name}.parquet", scores),
        "groups": None,
        "columns": judging.columns(scores, wanted, files),
        "settings": wanted,
        "files": files,
        "batches": {},
    }
    return _ran(folder, part.judge, Part(name, f"judged-{name}", args))


def _ran(folder: Path, function: Any, one: Part) -> Done:  # noqa: ANN401 - any function of a part
    out = folder / "parts" / one.key
    out.mkdir(parents=True)
    return Done(one, out, function(out, **one.args))
