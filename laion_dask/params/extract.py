"""The section `extract`: the rules by which pairs are extracted from WATs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from laion_dask.params.section import Section
from laion_dask.params.types import Directive, Extension, Fraction


class Extract(Section):
    """Rules by which pairs are extracted from WATs."""

    reader: Literal["fastwarc", "warcio"]
    link_kinds: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9:_-]+@?/[#A-Za-z0-9:_-]+)$")], ...], Field(min_length=1)
    ]
    relative_urls: Literal["resolve", "drop"]
    url_form: Literal["whatwg", "as_written", "escaped"]
    schemes: Annotated[tuple[Literal["http", "https", "ftp", "ftps"], ...], Field(min_length=1)]
    refused_extensions: tuple[Extension, ...]
    refused_substrings: tuple[Annotated[str, Field(min_length=1)], ...]
    max_url_chars: Annotated[int, Field(ge=16, le=100_000)] | None
    max_host_chars: Annotated[int, Field(ge=4, le=100_000)] | None
    private_hosts: Literal["drop", "keep"]
    malformed_hosts: Literal["drop", "keep"]
    entities: Literal["by_date", "always", "never"]
    text_steps: tuple[Literal["repair", "ftfy", "visible", "printable", "lines", "spaces", "strip", "escape"], ...]
    min_chars: Annotated[int, Field(ge=0, le=10_000)]
    max_chars: Annotated[int, Field(ge=1, le=100_000)] | None
    uid: Literal["text_url", "url_text"]
    unique_in_wat: Literal["none", "url"]
    max_pairs_per_page: Annotated[int, Field(ge=1)] | None
    language_detector: Literal["fasttext"]
    language_model: str | None
    language_confidence: Fraction
    license: Literal["page", "before"]
    page_opt_out: Literal["drop", "record"]
    opt_out_directives: tuple[Directive, ...]
    personal_data: Literal["count", "skip"]

    @field_validator("language_detector", mode="before")
    @classmethod
    def _gcld3_is_gone(cls, value: object) -> object:
        if value in {"gcld3", "cld3"}:
            message = f"{value} can no longer be built. Remedy: fasttext, which replaces it in every recipe"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Extract:
        if self.max_chars is not None and self.min_chars > self.max_chars:
            message = f"min_chars {self.min_chars} is above max_chars {self.max_chars}: no text could be kept"
            raise ValueError(message)
        if "escape" in self.text_steps[:-1]:
            message = "text_steps: escape must be last: it is applied after the text is cut"
            raise ValueError(message)
        return self
