"""The section `translate`: the model that translates texts into English, and which texts it is given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from laion_dask.params.section import Section
from laion_dask.params.types import Sha256
from laion_dask.schema.values import Split


class Translate(Section):
    """A translation model in CTranslate2's format, and which texts it translates into English."""

    model: Annotated[str, Field(min_length=1)]
    family: Literal["m2m100", "nllb", "marian"]
    expect_sha256: Sha256 | None
    compute: Literal["int8", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32"]
    splits: Annotated[tuple[Split, ...], Field(min_length=1)]
    source: Literal["column", "none"]
    no_language: Literal["skip", "try"]
    beams: Annotated[int, Field(ge=1, le=32)]
    max_source_tokens: Annotated[int, Field(ge=8, le=1022)]
    max_tokens: Annotated[int, Field(ge=2, le=1022)] | None
    batch: Annotated[int, Field(ge=1, le=4096)]
