"""Parameters in, the list of WATs to read out; for the demo, the demo crawl itself: one task for each file of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.crawl import listing
from laion_dask.demo.crawl import files as demo
from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.storage.files import digest
from workflow.stage import Resources, Stage, main


def files(settings: Params, _: Resources) -> list[Part]:
    """One part for each file of the demo crawl; one for the list of any other source."""
    rules = settings.crawl
    if rules.source != "demo":
        # What a listing says can change outside; it is small, so it is read anew each time.
        return [Part("wats", digest(rules), {"settings": rules, "project": Path.cwd()}, redo=True)]
    shape = {"seed": rules.seed, "pages": rules.demo_pages, "wats": rules.demo_wats}
    # Pictures take longer than pages, so the WARCs go first.
    return [
        Part(name, digest(name, shape), {"name": name, **shape}, weight=9 if name.startswith("warc") else 1)
        for name in demo.part_names(rules.demo_pages, rules.demo_wats)
    ]


def make(
    out: Path,
    *,
    settings: params.Crawl | None = None,
    project: Path = Path(),
    **shape: Any,  # noqa: ANN401 - the demo's own
) -> dict[str, Any]:
    """Write one file of the demo crawl, or the list of another source."""
    if settings is None:
        return demo.write_part(out, **shape)
    table = listing.list_wats(settings, project)
    pq.write_table(table, out / "wats.parquet")
    return {"wats": table.num_rows}


def complete(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Add the demo's list of WATs, truth table and list of known content."""
    parts.publish_files(done, out)
    rules = settings.crawl
    if rules.source == "demo":
        home = Path("data") / STAGE.name
        demo.finish(out, seed=rules.seed, pages=rules.demo_pages, wats=rules.demo_wats, home=home)
    return {"wats": pq.read_metadata(out / "wats.parquet").num_rows}


STAGE = Stage(name="crawl", unit="pages", find_parts=files, function=make, publish=complete)

if __name__ == "__main__":
    main(STAGE)
