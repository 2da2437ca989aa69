"""The stage release: few pairs are parts of splits, many are parts of ranges; the manifest has the parts' digests."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from made.versions import published

from laion_dask import params
from laion_dask.release.tables import steps
from laion_dask.runner import attempts, parts
from laion_dask.runner.part import Done, Part
from workflow import release as stage

PAIRS = 30


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defaults: params.Params) -> Path:
    """What the stages before leave of 30 kept pairs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    published.build(tmp_path, published.rows(PAIRS), defaults)
    shutil.rmtree(tmp_path / "data" / "release")
    counted(PAIRS)
    return tmp_path


def counted(kept: int) -> None:
    """Write the metrics of the stages before, with so many kept pairs."""
    Path("metrics").mkdir(exist_ok=True)
    for name, counts in published.counts(published.rows(PAIRS)).items():
        Path("metrics", f"{name}.json").write_text(json.dumps(counts))
    ledger = {"seen": kept, "kept": kept, "dropped": {}}
    Path("metrics", "filter.json").write_text(json.dumps({"pairs": ledger}))


def run(function: attempts.PartFunction, todo: Sequence[Part], _: Mapping[str, Any]) -> list[Done]:
    """Make parts here, without a cluster."""
    work = Path("work").absolute()
    return [Done(one, work / one.key, attempts.finish_part(function, work / one.key, one.args)) for one in todo]


def tables(done: Sequence[Done], out: Path) -> dict[str, str]:
    out.mkdir()
    parts.publish_files(done, out)
    found = sorted(out.rglob("*.parquet"))
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.mark.usefixtures("project")
def test_few_pairs_need_one_part_for_each_split(defaults: params.Params) -> None:
    first = stage.splits(defaults, {})
    assert [part.name for part in first] == ["en", "multi", "nolang"]
    done = run(stage.STAGE.function, first, {})
    assert stage.ranges(defaults, {}, done, run) is done


def test_many_pairs_are_made_by_ranges_and_have_the_same_files(project: Path, defaults: params.Params) -> None:
    at_once = run(stage.STAGE.function, stage.splits(defaults, {}), {})
    counted(steps.RANGE_PAIRS + 1)
    assert stage.splits(defaults, {}) == []
    by_ranges = stage.ranges(defaults, {}, [], run)
    assert {done.part.name for done in by_ranges} >= {"all-en-00000", "english-multi-00000", "top_caption-en-00000"}
    assert tables(at_once, project / "once") == tables(by_ranges, project / "twice")


def test_a_changed_shard_makes_its_run_and_all_files_others(project: Path, defaults: params.Params) -> None:
    counted(steps.RANGE_PAIRS + 1)
    before = {done.part.key for done in stage.ranges(defaults, {}, [], run)}
    again = {done.part.key for done in stage.ranges(defaults, {}, [], run)}
    verdicts = project / "data" / "filter" / "00000.parquet"
    published.build(project, published.rows(PAIRS, aesthetic=9.0), defaults)
    assert verdicts.is_file()
    assert again == before
    assert not before & {done.part.key for done in stage.ranges(defaults, {}, [], run)}


def test_the_manifest_takes_the_digests_that_the_parts_have(project: Path, defaults: params.Params) -> None:
    settings = defaults.model_copy(
        update={"catalog": defaults.catalog.model_copy(update={"removals": "removals.csv", "lists": ()})}
    )
    done = run(stage.STAGE.function, stage.splits(settings, {}), {})
    out = project / "out"
    out.mkdir()
    stage.complete(settings, done, out)
    listed = json.loads((out / "manifest.json").read_text())["files"]
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert listed.keys() == found.keys() - {"manifest.json"}
    assert {name: about["sha256"] for name, about in listed.items()} == {
        name: hashlib.sha256(found[name].read_bytes()).hexdigest() for name in listed
    }
