"""The saved view: columns that runs have, and the address that opens them."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from laion_dask.params import Params
from laion_dask.report import run_metrics, tracking
from laion_dask.report.runs import view


def test_its_columns_are_counts_and_thresholds_that_runs_have(defaults: Params) -> None:
    state = json.loads(json.loads(view.value())["state"])
    parameters = tracking.flat_params(defaults.model_dump(mode="json"))
    known = {f"metrics.`{name}`" for name in run_metrics.HEADLINE} | {f"params.`{name}`" for name in parameters}
    assert set(state["selectedColumns"]) <= known
    shown = " ".join(state["selectedColumns"])
    for word in (
        "similarity.en",
        "similarity.multi",
        "max_punsafe",
        "kept en",
        "kept nolang",
        "unsafe kept",
        "precision",
    ):
        assert word in shown
    assert state["columnOrder"][2:] == state["selectedColumns"]
    assert set(state["columnWidths"]) <= set(state["columnOrder"])


@pytest.mark.parametrize(
    ("tag", "ours"),
    [
        (None, True),
        (view.value(), True),
        (json.dumps(json.loads(view.value()) | {"name": "of other code"}), True),
        (json.dumps(json.loads(view.value()) | {"updatedAt": 1_800_000_000_000}), False),
        ("damaged", True),
    ],
)
def test_a_view_that_somebody_has_overwritten_stays(tag: str | None, ours: bool) -> None:  # noqa: FBT001 - a case
    assert view.is_ours(tag) is ours


def test_the_address_opens_the_runs_with_the_view_and_not_the_page_for_language_models() -> None:
    page = urlsplit(view.address("http://127.0.0.1:5000/", "7"))
    path, _, query = page.fragment.partition("?")
    assert (page.netloc, path) == ("127.0.0.1:5000", "/experiments/7/runs")
    assert parse_qs(query) == {"workflowType": ["machine_learning"], "viewStateShareKey": [view.KEY]}
