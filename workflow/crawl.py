"""Stage crawl: list the WATs to read; for the demo, make the demo crawl, with one part for each of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask.crawl import listing, part
from laion_dask.demo.crawl import files as demo
from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage
from laion_dask.storage.files import digest
from workflow.program import main


def files(settings: Params, _: Resources) -> list[Part]:
    """One part for each file of the demo crawl; one for the list of any other source."""
    rules = settings.crawl
    if rules.source != "demo":
        # A listing is small and may change at its source, so it is read again in each run.
        return [
            Part("wats", digest(rules), {"write": listing.write, "settings": rules, "project": Path.cwd()}, redo=True)
        ]
    shape = {"seed": rules.seed, "pages": rules.demo_pages, "wats": rules.demo_wats}
    # WARCs hold pictures and take longest, so they go first.
    return [
        Part(
            name,
            digest(name, shape),
            {"write": demo.write_part, "name": name, **shape},
            weight=9 if name.startswith("warc") else 1,
        )
        for name in demo.part_names(rules.demo_pages, rules.demo_wats)
    ]


def complete(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add the demo's list of WATs, truth table and list of known content."""
    parts.publish_files(done, out)
    rules = settings.crawl
    if rules.source == "demo":
        home = Path("data") / STAGE.name
        demo.finish(out, pages=rules.demo_pages, wats=rules.demo_wats, home=home)
    return {"wats": pq.read_metadata(out / "wats.parquet").num_rows}


STAGE = Stage(name="crawl", unit="pages", find_parts=files, function=part.crawl, publish=complete)

if __name__ == "__main__":
    main(STAGE)
