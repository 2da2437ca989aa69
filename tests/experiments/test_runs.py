"""Planning experiments: names by content, refusals before anything runs, help that teaches, studies with pages."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT
from made.processes import programs

from experiments import ask, runs, study, values
from laion_dask import params
from laion_dask.params import recipes


def names(changes: dict[str, Any], root: Path = ROOT) -> str:
    return runs.plan(root, [("a label, rather long", changes)])[0].name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    (tmp_path / "code.py").write_text("1")
    spec = "stages:\n  filter:\n    cmd: x\n    deps: [code.py, data/score]\n    outs: [data/filter]\n"
    (tmp_path / "dvc.yaml").write_text(spec + "  score:\n    cmd: x\n    outs: [data/score]\n")
    return tmp_path


def test_an_experiment_is_named_after_its_parameters_not_after_how_they_were_said(project: Path) -> None:
    default = params.load(ROOT / "params.yaml").filter.similarity.en
    name = names({}, project)
    assert re.fullmatch(r"a-label-rather-long-[0-9a-f]{8}", name)
    assert names({"filter.similarity.en": default}, project) == name
    assert names({"filter.similarity.en": 0.99}, project) != name


def test_other_code_is_another_experiment_and_other_data_of_a_stage_is_not(project: Path) -> None:
    name = names({}, project)
    (project / "data" / "score").mkdir(parents=True)
    (project / "data" / "score" / "x").write_text("made by a stage")
    (project / "README.md").write_text("no stage reads this")
    assert names({}, project) == name
    (project / "code.py").write_text("2")
    assert names({}, project) != name


def test_an_experiment_that_ends_at_a_stage_is_no_whole_version_and_has_another_name(project: Path) -> None:
    (whole,), (partly,) = (runs.plan(project, [("a", {})], upto=upto) for upto in (None, "filter"))
    assert whole.name != partly.name
    assert (whole.upto, partly.upto) == (None, "filter")


@pytest.mark.parametrize(
    ("changes", "error", "word"),
    [
        ({"filter.max_punsafe": 7}, params.ParamsError, "max_punsafe"),
        ({"filter.max_punsave": 0.5}, values.ValuesError, "max_punsafe, perhaps"),
    ],
)
def test_absurd_values_are_refused_before_anything_runs(
    project: Path, changes: dict[str, Any], error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        runs.plan(project, [("first", {}), ("second", changes)])


def test_a_project_without_a_version_says_what_to_do_first(tmp_path: Path) -> None:
    with pytest.raises(runs.RunError, match="make repro"):
        runs.plan(tmp_path, [("first", {})])


@pytest.mark.parametrize("name", recipes.names())
def test_on_the_demo_every_recipe_is_laid_without_weights_that_have_to_be_fetched(name: str) -> None:
    base = params.load(ROOT / "params.yaml").model_dump(mode="json")
    laid = params.parse(values.lay(base, ask.recipe(name, base, demo=True)))
    assert {model.model for model in laid.score.models} == {"demo"}


@pytest.mark.parametrize("module", ["sweep", "compare", "study", "rebuild_mlflow"])
def test_help_teaches_without_heavy_imports(module: str) -> None:
    done = programs.finished([sys.executable, "-m", f"experiments.{module}", "--help"], check=True, cwd=ROOT)
    assert len(done.stdout.splitlines()) > 12
    assert module == "rebuild_mlflow" or f"python -m experiments.{module}" in done.stdout


def test_every_study_has_its_page_and_stands_in_the_readme() -> None:
    readme = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    for name in study.names():
        page = ROOT / "docs" / "studies" / f"{name}.md"
        text = page.read_text(encoding="utf-8")
        known = study.load(name)
        assert text.startswith(f"# {known.title}\n")
        assert known.question in text
        assert all(command in text for command in known.commands)
        assert "## Answer" in text
        pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
        assert len(pictures) >= 2
        assert all((page.parent / picture).is_file() for picture in pictures)
        assert f"docs/studies/{name}.md" in readme
