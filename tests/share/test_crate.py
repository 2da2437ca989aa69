"""RO-Crate: the released validator has nothing to object to; what is in it is what DVC and the traces recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from made.versions import crate_validator, locked_project

from laion_dask import params
from laion_dask.runner import trace_file
from laion_dask.share import crate, locked

Entities = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return locked_project.write(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def written(project: Path, defaults: params.Params) -> Path:
    out = project / "crate"
    crate.write(project, out, defaults)
    return out


@pytest.fixture(scope="module")
def entities(written: Path) -> Entities:
    graph = json.loads((written / crate.METADATA).read_text())["@graph"]
    return {entity["@id"]: entity for entity in graph}


@pytest.mark.slow
def test_the_released_validator_finds_no_requirement_unmet(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crate_validator.issues(written, monkeypatch) == []


@pytest.mark.slow
def test_the_validator_does_object_to_a_run_without_its_tool(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((written / crate.METADATA).read_text())
    for entity in document["@graph"]:
        if entity["@id"] == "#run-crawl":
            del entity["instrument"]
    for path in written.rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(written)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path.relative_to(written)).write_bytes(path.read_bytes())
    (tmp_path / crate.METADATA).write_text(json.dumps(document))
    assert any("instrument" in issue for issue in crate_validator.issues(tmp_path, monkeypatch))


def test_every_stage_is_a_step_with_its_program_and_its_run(entities: Entities) -> None:
    workflow = entities["dvc.yaml"]
    assert [step["@id"] for step in workflow["step"]] == [f"#step-{name}" for name in locked_project.STAGES]
    for name, read in locked_project.STAGES.items():
        run = entities[f"#run-{name}"]
        assert run["instrument"] == {"@id": f"workflow/{name}.py"}
        objects = [run["object"]] if isinstance(run.get("object"), dict) else run.get("object", [])
        given = [entities[one["@id"]] for one in objects]
        assert tuple(one["name"] for one in given if one["@type"] != "PropertyValue") == read


def test_what_a_stage_wrote_has_the_digest_and_size_of_the_lock(entities: Entities, project: Path) -> None:
    stage = next(one for one in locked.read(project).stages if one.name == "crawl")
    results = [entities[one["@id"]] for one in entities["#run-crawl"]["result"]]
    assert [(one["name"], one["contentSize"], entities[one["identifier"]["@id"]]["value"]) for one in results] == [
        (file.path, str(file.bytes), file.md5) for file in stage.written
    ]
    assert results[0]["@id"].startswith("arcp://ni,sha-256;")
    assert results[0]["@id"].endswith("/data/crawl/")


def test_the_parameters_of_a_stage_are_its_inputs(entities: Entities, defaults: params.Params) -> None:
    given = [entities[one["@id"]] for one in entities["#run-crawl"]["object"]]
    values = {one["name"]: one["value"] for one in given if one["@type"] == "PropertyValue"}
    shown = defaults.model_dump(mode="json")["crawl"]
    assert values.keys() == {f"crawl.{name}" for name in shown}
    assert values["crawl.demo_pages"] == shown["demo_pages"]
    assert json.loads(values["crawl.files"]) == shown["files"]
    assert values["crawl.wats"] == "null"


def test_times_are_those_of_the_trace_and_none_are_made_up(entities: Entities, project: Path) -> None:
    trace = trace_file.read(project / "data" / "trace" / "crawl.parquet")
    assert trace is not None
    run = entities["#run-crawl"]
    times = [datetime.fromisoformat(run[name]) for name in ("startTime", "endTime")]
    assert times == [datetime.fromtimestamp(round(at), UTC) for at in (trace.began, trace.ended)]
    assert "startTime" not in entities["#run-inputs"]
    assert "not known" in entities["#run-inputs"]["description"]


def test_a_connection_leads_from_the_out_of_a_stage_to_the_input_of_another(entities: Entities) -> None:
    found = entities[entities["#step-release"]["connection"]["@id"]]
    assert found["sourceParameter"] == {"@id": "#output-crawl-data-crawl"}
    assert found["targetParameter"] == {"@id": "#input-release-data-crawl"}


def test_the_ledger_of_removals_is_named_and_not_copied(written: Path, entities: Entities) -> None:
    assert any(entity.get("name") == "removals.csv" for entity in entities.values())
    assert not (written / "removals.csv").exists()
    assert not list(written.rglob("*.parquet"))


def test_files_in_the_crate_are_those_of_the_project(written: Path, project: Path) -> None:
    for path in written.rglob("*"):
        name = path.relative_to(written)
        if path.is_file() and name.as_posix() != crate.METADATA:
            assert _digest(path) == _digest(project / name)


def test_the_same_version_gives_the_same_bytes(written: Path, project: Path, defaults: params.Params) -> None:
    crate.write(project, project / "again", defaults)
    assert _digest(project / "again" / crate.METADATA) == _digest(written / crate.METADATA)


def _change_parameters(folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("demo_pages: 3000", "demo_pages: 3001"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change_parameters, r"crawl.demo_pages: 3001, the version was built with 3000"),
        (lambda folder: (folder / "metrics" / "crawl.json").write_text("{}"), "metrics/crawl.json is not the one"),
        (lambda folder: (folder / "dvc.lock").unlink(), "dvc.lock is missing"),
        (lambda folder: (folder / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n"), "no run of inputs, crawl"),
    ],
)
def test_files_of_another_version_are_refused(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    change(locked_project.write(tmp_path))
    with pytest.raises(locked.LockError, match=message):
        locked.read(tmp_path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
