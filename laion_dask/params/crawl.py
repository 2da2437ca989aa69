"""The section `crawl`: the WAT files to read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from laion_dask.params.section import Section, Seed


class Crawl(Section):
    """The WATs to read: the demo's, local files, or a seeded sample of Common Crawl."""

    source: Literal["demo", "files", "commoncrawl"]
    seed: Seed
    wats: Annotated[int, Field(ge=1)] | None
    files: tuple[str, ...]
    crawls: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ...]
    base_url: str
    demo_pages: Annotated[int, Field(ge=24, le=1_000_000)]
    demo_wats: Annotated[int, Field(ge=1, le=10_000)]

    @model_validator(mode="after")
    def _source_has_its_list(self) -> Crawl:
        if self.source == "files" and not self.files:
            message = "source files needs crawl.files: give at least one path or glob"
            raise ValueError(message)
        if self.source == "commoncrawl" and not self.crawls:
            message = "source commoncrawl needs crawl.crawls: give at least one id, e.g. [CC-MAIN-2024-22]"
            raise ValueError(message)
        if self.source == "demo" and self.demo_wats > self.demo_pages:
            message = f"demo_wats {self.demo_wats} is above demo_pages {self.demo_pages}: some would have no page"
            raise ValueError(message)
        return self
