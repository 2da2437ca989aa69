"""What identifies a version: a function of tracked files, and the recipe that it was built by."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from laion_dask.params import Params, recipes
from laion_dask.versions import identity


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A lock with the parameters of its release, that fits the metrics beside it."""
    (tmp_path / "metrics").mkdir()
    stages: dict[str, Any] = {}
    for place, stage in enumerate(identity.STAGES):
        counts = tmp_path / "metrics" / f"{stage}.json"
        counts.write_text(f'{{"rows": {place}}}')
        outs = [
            {"path": f"data/{stage}", "md5": f"{place:032x}.dir"},
            {"path": f"metrics/{stage}.json", "md5": hashlib.md5(counts.read_bytes()).hexdigest()},
        ]
        stages[stage] = {"cmd": "x", "outs": outs}
    stages["release"]["params"] = {"params.yaml": {"filter": {"min_words": 3}, "release": {"name": "demo"}}}
    YAML().dump({"schema": "2.0", "stages": stages}, tmp_path / "dvc.lock")
    return tmp_path


def test_a_version_is_named_by_its_lock_whatever_params_yaml_says_by_now(project: Path) -> None:
    name = identity.version(project / "dvc.lock", project / "metrics", {"filter": {"min_words": 0}})
    assert name == identity.version(project / "dvc.lock", project / "metrics", {})
    assert identity.tracked_params(project / "dvc.lock")["filter"] == {"min_words": 3}


def test_another_parameter_in_the_lock_is_another_version(project: Path) -> None:
    name = identity.version(project / "dvc.lock", project / "metrics", {})
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace("min_words: 3", "min_words: 4"))
    assert identity.version(lock, project / "metrics", {}) != name


def test_a_date_among_the_parameters_names_a_version_too(project: Path) -> None:
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace("min_words: 3", "until: 2025-04-15"))
    assert identity.tracked_params(lock)["filter"]["until"].year == 2025
    assert identity.version(lock, project / "metrics", {}) == identity.version(lock, project / "metrics", {})


def test_a_stage_that_read_other_data_than_the_lock_names_is_outdated(project: Path) -> None:
    lock = project / "dvc.lock"
    stages = YAML(typ="safe").load(lock)
    for place, (before, after) in enumerate(pairwise([*identity.STAGES, "report"])):
        of = stages["stages"].setdefault(after, {"cmd": "x", "outs": [{"path": "data/report", "md5": "r.dir"}]})
        of["deps"] = [{"path": f"data/{before}", "md5": f"{place:032x}.dir"}, {"path": "workflow/x.py", "md5": "any"}]
    YAML().dump(stages, lock)
    assert identity.outdated(lock) == []
    # As after `dvc exp run filter`: the stages behind it did not run again.
    lock.write_text(lock.read_text().replace(f"md5: {6:032x}.dir", "md5: other.dir", 1))
    assert identity.outdated(lock) == ["translate"]


def test_a_lock_that_does_not_fit_the_metrics_names_nothing(project: Path) -> None:
    (project / "metrics" / "filter.json").write_text('{"rows": 99}')
    one, other = (
        identity.version(project / "dvc.lock", project / "metrics", {"filter": {"min_words": words}})
        for words in (0, 1)
    )
    assert one != other


@pytest.mark.parametrize(
    ("named", "experiment", "expected"),
    [
        (["laion-5b", "demo"], "", "laion-5b demo"),
        ([], "laion-5b-as-run-0a1b2c3d", "laion-5b-as-run"),
        ([], "similarity-en-0-2-0a1b2c3d", ""),
        ([], "", ""),
    ],
)
def test_the_recipe_is_known_by_the_parameters_or_by_the_name_of_the_experiment(
    defaults: Params, named: list[str], experiment: str, expected: str
) -> None:
    values = defaults.model_dump(mode="json") | {"recipe": named}
    assert identity.Origin(Path(), "", experiment).recipe(values) == expected


def test_the_recipe_is_known_by_its_values_and_of_two_that_fit_the_larger_one(defaults: Params) -> None:
    values = recipes.apply("laion-5b", defaults.model_dump(mode="json"))
    values.pop("recipe", None)
    assert identity.Origin(Path(), "").recipe(values) == "laion-5b"
    values["filter"]["similarity"]["en"] = 0.99
    assert identity.Origin(Path(), "").recipe(values) == ""


def test_where_there_is_no_git_there_is_no_parent(tmp_path: Path) -> None:
    assert identity.Origin(tmp_path, "HEAD").parent("x") == ""
