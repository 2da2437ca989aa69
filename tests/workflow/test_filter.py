"""The stage of filtering: which files make a part another one, and so which parts run again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT
from made.versions import judging, tables

from laion_dask import params
from laion_dask.params import filters
from workflow import filter as stage

NEAR = {"name": "near", "column": "centroid_cosine", "min": 0.5}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards as the stages before leave them, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "removals.csv", tmp_path)
    for name in ("00000", "00001"):
        images = tables.images({}, {})
        tables.write(tmp_path / "data" / "download" / f"{name}.parquet", images)
        tables.write(tmp_path / "data" / "score" / f"{name}.parquet", tables.scores({}, {}))
        tables.write(tmp_path / "data" / "group" / f"{name}.parquet", judging.grouped(images))
    return tmp_path / "data"


def keys(defaults: params.Params, **changes: Any) -> list[str]:  # noqa: ANN401 - values of any rule
    """Return the keys of the parts under rules that a test changes."""
    wanted = filters.Filter.model_validate(judging.RULES.model_dump() | changes)
    catalog = defaults.catalog.model_copy(update={"lists": ()})
    return [part.key for part in stage.shards(defaults.model_copy(update={"filter": wanted, "catalog": catalog}), {})]


@pytest.mark.parametrize("table", ["download", "score"])
def test_a_changed_table_makes_its_part_another_and_leaves_the_other(
    project: Path, defaults: params.Params, table: str
) -> None:
    before = keys(defaults)
    path = project / table / "00001.parquet"
    changed = tables.images({}, {"reason": "robots"}) if table == "download" else tables.scores({}, {"similarity": 0.0})
    tables.write(path, changed)
    after = keys(defaults)
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, False),
        ({"thresholds": [NEAR]}, True),
        ({"where": "centroid_cosine > 0.5"}, True),
        ({"top": [{"name": "near", "column": "centroid_cosine", "fraction": 0.5}]}, True),
        ({"evaluation_max_distance": 20}, True),
        # Decided over all shards, by what was found then.
        ({"near_duplicates": "drop", "semantic_duplicates": 0.05}, False),
    ],
)
def test_the_groups_make_another_part_only_where_a_rule_reads_them(
    project: Path, defaults: params.Params, changes: dict[str, Any], *, asked: bool
) -> None:
    before = keys(defaults, **changes)
    tables.write(project / "group" / "00000.parquet", tables.groups({"cluster": 7}, {"cluster": 8}))
    after = keys(defaults, **changes)
    assert (before[0] != after[0]) is asked
    assert before[1] == after[1]


def test_a_rule_on_embeddings_makes_another_part_of_other_embeddings(project: Path, defaults: params.Params) -> None:
    scores = tables.scores({}, {})
    scores = scores.append_column("similarity_b32", scores["similarity"])
    for name in ("00000", "00001"):
        tables.write(project / "score" / f"{name}.parquet", scores)
    stored = project / "score" / "embeddings.zarr" / "b32" / "image" / "c" / "1" / "0"
    stored.parent.mkdir(parents=True)
    targets = project / "targets.npy"
    targets.write_bytes(b"any")
    like_targets = {"column": "like", "kind": "normsim", "model": "b32", "targets": str(targets), "norm": 2}
    found = {}
    for content in (b"one", b"other"):
        stored.write_bytes(content)
        found[content] = keys(defaults, computed=[like_targets]), keys(defaults)
    (with_one, one), (with_other, other) = found.values()
    assert with_one[0] == with_other[0]
    assert with_one[1] != with_other[1]
    # Without such a rule they are not read.
    assert one == other


def test_a_changed_list_of_any_language_makes_every_part_another(project: Path, defaults: params.Params) -> None:
    lists = project / "lists"
    lists.mkdir()
    for name in ("en.txt", "de.txt"):
        (lists / name).write_text("fox\n")
    rule = {"by_language": str(lists), "t": 20, "seed": 1}
    before = keys(defaults, balance=rule)
    (lists / "de.txt").write_text("fuchs\n")
    assert not {*before} & {*keys(defaults, balance=rule)}
