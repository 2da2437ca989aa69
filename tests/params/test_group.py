"""What the filter asks for and the stage group does not record is refused with key, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest
from made.places import ROOT
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.schema.values import PDQ_DISTANCE

FILE = ROOT / "params.yaml"


def parse(changes: dict[str, Any]) -> params.Params:
    values = YAML(typ="safe", pure=True).load(FILE)
    for key, value in changes.items():
        section, name = key.split(".")
        values[section][name] = value
    return params.parse(values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"group.pdq_distance": 20},
            "filter.near_max_distance = 31 is above group.pdq_distance = 20, the largest that is recorded.",
        ),
        (
            {"group.pdq_distance": 20, "filter.near_duplicates": "keep", "filter.evaluation_max_distance": 21},
            "filter.evaluation_max_distance = 21 is above group.pdq_distance = 20",
        ),
        (
            {"filter.semantic_duplicates": 0.06},
            "filter.semantic_duplicates = 0.06 needs cosines from 0.94, but group.semantic_floor = 0.95 is the",
        ),
        ({"group.model": "b32"}, "group.model = 'b32' is not in score.models. Remedy: one of demo, or null"),
    ],
)
def test_what_is_not_recorded_cannot_be_asked_for(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(params.ParamsError) as refused:
        parse(changes)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"group.pdq_distance": 20, "filter.near_duplicates": "keep"},
        {"group.pdq_distance": 20, "filter.near_max_distance": 20},
        {"filter.semantic_duplicates": 0.05},
        {"group.semantic_floor": 0.8, "filter.semantic_duplicates": 0.2},
        {"group.model": "demo", "filter.evaluation_max_distance": 31, "filter.evaluation_min_cosine": 0.9},
    ],
)
def test_what_is_recorded_can_be_asked_for(changes: dict[str, Any]) -> None:
    assert parse(changes)


def test_distances_go_as_far_as_the_index_is_exact() -> None:
    assert parse({"group.pdq_distance": PDQ_DISTANCE})
    with pytest.raises(params.ParamsError, match=r"group\.pdq_distance = 32"):
        parse({"group.pdq_distance": PDQ_DISTANCE + 1, "filter.near_duplicates": "keep"})
