"""The section `catalog`: deduplication, removals and shuffling of pairs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from laion_dask.params import lists as list_params
from laion_dask.params.section import Section, Seed


class Catalog(Section):
    """Deduplication, removals and shuffling of pairs."""

    buckets: Annotated[int, Field(ge=1, le=65_536)]
    shard_rows: Annotated[int, Field(ge=16, le=10_000)]
    seed: Seed
    removals: str
    lists: tuple[list_params.HashList, ...]

    @field_validator("lists")
    @classmethod
    def _lists_have_names(cls, lists: tuple[list_params.HashList, ...]) -> tuple[list_params.HashList, ...]:
        list_params.check_names(lists)
        return lists

    @model_validator(mode="after")
    def _buckets_are_a_power_of_two(self) -> Catalog:
        if self.buckets & (self.buckets - 1):
            message = f"buckets {self.buckets} is not a power of two: buckets are cut by the first bits of the uid"
            raise ValueError(message)
        return self
