"""WATs in, pairs out: one task for each WAT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask import extract, parts
from laion_dask.params import Params
from laion_dask.parts import Done, Part
from workflow.stage import Resources, Stage, StageError, data, main


def wats(settings: Params, _: Resources) -> list[Part]:
    """One part for each WAT of the list; a local WAT is known by its bytes, a remote one by its address."""
    rules = settings.extract
    todo = []
    for row in pq.read_table(data("crawl") / "wats.parquet").to_pylist():
        local = Path(row["location"])
        args = {
            "name": f"{row['order']:06d}",
            "location": row["location"],
            "crawl": row["crawl"],
            "wat": row["wat"],
            "order": row["order"],
            "settings": rules,
        }
        key = parts.digest(local if local.is_file() else row["location"], row["wat"], row["order"], rules)
        todo.append(Part(args["name"], key, args, weight=max(row["bytes"], 0)))
    return todo


def check_readable(_: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the pairs; a WAT that cannot be read is counted, but where none can, there is nothing to go on with."""
    unreadable = [part for part in done if part.counts["records"]["dropped"].get("wat_unreadable")]
    if unreadable and len(unreadable) == len(done):
        first = unreadable[0]
        message = f"none of the {len(done)} WATs can be read; {first.part.args['location']}: {first.counts['error']}"
        raise StageError(message)
    parts.publish_files(done, out)
    return {"wats_unreadable": len(unreadable)}


STAGE = Stage(name="extract", unit="links", find_parts=wats, function=extract.extract, publish=check_readable)

if __name__ == "__main__":
    main(STAGE)
