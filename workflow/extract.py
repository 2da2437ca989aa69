"""Stage extract: read links with their texts out of WATs, one part for each WAT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask.extract import part, parts, readings
from laion_dask.params import Params
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data, home
from workflow.program import main


def wats(settings: Params, _: Resources) -> list[Part]:
    """One part for each WAT of the list.

    A local WAT is known by its bytes, one in a bucket by address, size and ETag, another remote one by its address.
    """
    table = pq.read_table(data("crawl") / "wats.parquet")
    return parts.of_wats(table, settings.extract, parts.by_bytes, parts.listed_objects(data("crawl")))


def publish(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the pairs; WATs that cannot be read are counted, and a list without a readable one is an error."""
    # Times differ from run to run, so they lie beside the version and not in its files.
    counts = readings.publish(done, out, times=home() / "times" / "extract.parquet")
    readings.remove_failed_remote(done)
    parts.require_readable(done)
    return {**counts, "language_model": parts.language_model(settings.extract)}


STAGE = Stage(name="extract", unit="links", find_parts=wats, function=part.extract, publish=publish)

if __name__ == "__main__":
    main(STAGE)
