"""The section `group`, and the check that the filter needs no more than the stage group records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from laion_dask.params.section import Section, Seed
from laion_dask.schema.values import PDQ_DISTANCE

# The index of laion_dask.images.pdq_index is exact up to here.
Distance = Annotated[int, Field(ge=0, le=PDQ_DISTANCE)]


class Group(Section):
    """How near images must be to each other to be recorded."""

    model: Annotated[str, Field(min_length=1)] | None
    pdq_distance: Distance
    min_quality: Annotated[int, Field(ge=0, le=100)]
    semantic_floor: Annotated[float, Field(gt=0, le=1)]
    clusters: Annotated[int, Field(ge=1, le=1_000_000)] | None
    neighbours: Annotated[int, Field(ge=1, le=10_000)]
    seed: Seed
    evaluation: tuple[str, ...]


def check(
    group: Group, distances: Mapping[str, int | None], semantic_duplicates: float | None, models: Sequence[str]
) -> None:
    """Raise `ValueError` if the filter needs distances that the stage group does not record.

    `distances` are the filter's by their keys; None if unused.
    """
    if group.model is not None and group.model not in models:
        message = f"group.model = {group.model!r} is not in score.models. Remedy: one of {', '.join(models)}, or null"
        raise ValueError(message)
    for key, distance in distances.items():
        if distance is not None and distance > group.pdq_distance:
            message = (
                f"{key} = {distance} is above group.pdq_distance = {group.pdq_distance}, the largest that is "
                "recorded. Remedy: lower the one or raise the other"
            )
            raise ValueError(message)
    # Rounded, since 1 - 0.05 is not exactly 0.95.
    if semantic_duplicates is not None and round(1 - semantic_duplicates, 9) < group.semantic_floor:
        message = (
            f"filter.semantic_duplicates = {semantic_duplicates} needs cosines from {1 - semantic_duplicates:g}, "
            f"but group.semantic_floor = {group.semantic_floor} is the lowest that is recorded. "
            "Remedy: lower one of them"
        )
        raise ValueError(message)
