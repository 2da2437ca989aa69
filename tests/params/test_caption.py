"""Parameters of captions that do not fit each other are refused with both values."""

from __future__ import annotations

from typing import Any

import pytest

from laion_dask import params

STEP = {"name": "a", "model": "demo"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained": "laion2b"}, "pretrained = laion2b with kind blip. Remedy: null"),
        ({"min_tokens": 21, "max_tokens": [30, 20]}, "min_tokens = 21 is above the shortest of max_tokens = 20"),
        ({"rank": [STEP | {"keep": 5}]}, "rank leaves 5 of 5 samples. Remedy: .* the last one keeps 1"),
        ({"rank": [STEP | {"keep": 9}, STEP | {"name": "b", "keep": 1}]}, "rank leaves 9, 1 of 5 samples"),
        ({"rank": [STEP | {"keep": 5}, STEP | {"keep": 1}]}, "rank has a name twice: a, a"),
        ({"rank": [STEP | {"keep": 2}, STEP | {"name": "b", "keep": 4}]}, "rank leaves 2, 4 of 5 samples"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    values = params.load().model_dump(mode="json")
    values["caption"] |= changes
    with pytest.raises(params.ParamsError, match=message):
        params.parse(values)


@pytest.mark.parametrize("keeps", [[1], [5, 1], [5, 5, 1], [5, 3, 2, 1]])
def test_a_ranking_in_steps_ends_with_one(keeps: list[int]) -> None:
    values = params.load().model_dump(mode="json")
    values["caption"]["rank"] = [STEP | {"name": f"r{place}", "keep": keep} for place, keep in enumerate(keeps)]
    found = params.parse(values).caption
    assert found is not None
    assert [step.keep for step in found.rank] == keeps


@pytest.mark.parametrize("section", ["translate", "caption"])
def test_a_stage_is_switched_off_with_null(section: str) -> None:
    values = params.load().model_dump(mode="json")
    values[section] = None
    assert getattr(params.parse(values), section) is None
