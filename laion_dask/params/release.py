"""The sections `release` and `report` of params.yaml: the published tables, and the report."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from laion_dask.params.section import Section, Seed

# In the order of laion_dask.release.layouts.NAMES.
Layout = Literal[
    "laion-400m", "laion-5b", "re-laion", "datacomp", "img2dataset", "laion-translated", "laion-coco", "recap-datacomp"
]


class Release(Section):
    """The content of the released tables."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    published: date | None
    creator: Annotated[str, Field(min_length=1, max_length=200)]
    contact: Annotated[str, Field(min_length=1, max_length=200)]
    url: Annotated[str, Field(pattern=r"^https?://[^\s\"<>]+$")]
    tables: tuple[Layout, ...]
    tombstones: str | None
    rows_per_file: Annotated[int, Field(ge=1)]
    high_resolution_px: Annotated[int, Field(ge=1)]
    aesthetic: tuple[float, ...]


class Report(Section):
    """The content of the report, and the MLflow experiment that records it."""

    histogram_bins: Annotated[int, Field(ge=5, le=1_000)]
    top_hosts: Annotated[int, Field(ge=1, le=1_000)]
    gallery: Annotated[int, Field(ge=0, le=500)]
    seed: Seed
    experiment: Annotated[str, Field(min_length=1, max_length=500, pattern=r"^\S([^\x00-\x1f]*\S)?$")]
    against: Annotated[str, Field(min_length=1, max_length=250, pattern=r"^[^-\s][^\s]*$")] | None
