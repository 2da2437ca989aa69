"""The data classes of a planned page and of the plan of the whole demo crawl."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from laion_dask.demo.crawl.answers import HostAnswer
from laion_dask.demo.crawl.labels import PageSignal
from laion_dask.demo.crawl.links import WrittenLink
from laion_dask.demo.crawl.sites import Site

Kind = Literal["html", "pdf", "json", "picture", "broken_json", "no_envelope", "no_payload"]
DAMAGED: Final[tuple[Kind, ...]] = ("broken_json", "no_envelope", "no_payload")
NON_HTML: Final[tuple[Kind, ...]] = ("pdf", "json", "picture")


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """One captured page: its address, the content of its record, and its links in order."""

    number: int
    url: str
    kind: Kind
    site: Site
    language: str
    signal: PageSignal
    base: str
    license: str
    links: tuple[WrittenLink, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole demo crawl: pages by WAT file, answers by WARC file."""

    sites: tuple[Site, ...]
    wats: tuple[tuple[PlannedPage, ...], ...]
    warcs: tuple[tuple[HostAnswer, ...], ...]
