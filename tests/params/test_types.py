"""params.yaml: a value that means something else than it says is refused, as is one of which nothing can come."""

from __future__ import annotations

from typing import Any

import pytest
from made.parameters import FILE, parent, refusal
from ruamel.yaml import YAML

from laion_dask import params


@pytest.fixture
def values() -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(FILE))


# Values that were taken, and ended as a raw error hours later, or meant something else than they say.
MISLEADING: dict[str, list[Any]] = {
    **{f"{section}.seed": [-1, 2**31, "1"] for section in ("crawl", "catalog", "group", "report")},
    "crawl.demo_pages": ["3000", 3000.5, False],
    "crawl.crawls": [["CC-MAIN-2024-22", "CC-MAIN-2024-22"], [""], ["a b"]],
    "crawl.files": [[""], ["a", "a"]],
    "extract.refused_extensions": [[".gif"], ["*.gif"], ["gif", "gif"], ["gif "]],
    "extract.refused_substrings": [["x", "x"]],
    "extract.language_model": ["", " "],
    "extract.min_chars": ["5", "1_000"],
    "catalog.removals": ["", "removals\0.csv"],
    "download.ports": [["80", 443], [True, 443], [80, 80]],
    "download.timeout_s": ["10", float("inf"), float("nan")],
    "download.host_interval_s": [float("inf"), True],
    "download.robots_tokens": [["CCBot", "CCBot"]],
    "download.rights": [["robots", "robots"]],
    "download.hashes": [["md5", "sha256", "md5"]],
    "filter.max_aspect_ratio": [float("inf"), float("nan"), "3"],
    "filter.similarity.en": [float("nan"), "0.3"],
    "filter.languages": [["en", "en"]],
    "filter.keep_uids": [["a.npy", "a.npy"], [""]],
    "release.aesthetic": [[float("inf")], [5.0, 5.0], ["5"]],
    "report.experiment": ["x" * 501, " ", "a\nb"],
}


@pytest.mark.parametrize(
    ("key", "value"),
    [(key, value) for key, bad in MISLEADING.items() for value in bad],
    ids=lambda value: repr(value)[:40],
)
def test_a_value_that_means_something_else_than_it_says_is_refused(
    values: dict[str, Any], key: str, value: object
) -> None:
    section, name = parent(values, key)
    section[name] = value
    message = refusal(values)
    assert key in message
    assert "Remedy: " in message


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"min": 5.0, "max": 4.0}, "5 is above 4"),
        ({"above": 5.0, "below": 5.0}, "5 is not below 5"),
        ({"min": 5.0, "below": 5.0}, "5 is not below 5"),
        ({"above": 5.0, "max": 5.0}, "5 is not below 5"),
        ({"min": float("nan")}, "is not a finite number"),
        ({"max": float("inf")}, "is not a finite number"),
    ],
    ids=repr,
)
def test_limits_that_nothing_can_pass_are_refused(values: dict[str, Any], limits: dict[str, float], told: str) -> None:
    values["filter"]["thresholds"] = [{"name": "t", "column": "aesthetic", **limits}]
    assert told in refusal(values)


def test_one_value_may_be_both_limits(values: dict[str, Any]) -> None:
    values["filter"]["thresholds"] = [{"name": "t", "column": "aesthetic", "min": 5.0, "max": 5.0}]
    assert params.parse(values).filter.thresholds[0].min == 5.0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"filter.min_chars": 3000}, "filter.min_chars = 3000 is above extract.max_chars = 2000"),
        ({"crawl.demo_pages": 24, "crawl.demo_wats": 25}, "demo_wats 25 is above demo_pages 24"),
    ],
)
def test_values_of_which_nothing_can_come_are_refused(
    values: dict[str, Any], changes: dict[str, Any], told: str
) -> None:
    for key, value in changes.items():
        section, name = parent(values, key)
        section[name] = value
    assert told in refusal(values)


def test_a_step_of_texts_may_come_twice(values: dict[str, Any]) -> None:
    values["extract"]["text_steps"] = ["spaces", "repair", "spaces"]
    assert params.parse(values).extract.text_steps == ("spaces", "repair", "spaces")
