"""What a study started from stands on its page; a page under Git gets no numbers of parameters that HEAD has not."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.projects.dvc_projects import call

from experiments import baseline, study

PARAMS = "# a comment\nfilter:\n  max_punsafe: 0.5\n"
DVC_YAML = "stages: {filter: {deps: [workflow/filter.py, laion_dask/filter, data/score]}}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "removals.csv").write_text("kind\n")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    for name in ("workflow/filter.py", "laion_dask/filter/rules.py", "laion_dask/other.py", "docs/studies/one.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# old\n")
    call(tmp_path, "git", "init", "-q")
    call(tmp_path, "git", "add", "-A")
    call(tmp_path, "git", "commit", "-qm", "first")
    return tmp_path


def asked(answers: list[str]) -> study.Study:
    """A study that notes that it was run."""

    def answer(_: Path, folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        answers.append(folder.name)
        return "## Answer\n"

    return study.Study("one", "One", "What?", ("ask",), answer)


CHANGES = [
    ("params.yaml", PARAMS.replace("0.5", "0.4"), "filter.max_punsafe 0.5 -> 0.4"),
    ("params.yaml", "filter: {}\n", "filter.max_punsafe 0.5 -> absent"),
    ("params.yaml", PARAMS.replace("0.5", "1"), "filter.max_punsafe 0.5 -> 1"),
    ("removals.csv", "kind\nurl\n", "removals.csv has other content"),
    ("laion_dask/filter/rules.py", "# new\n", "laion_dask/filter/rules.py has other content"),
    ("laion_dask/filter/more.py", "# new\n", "laion_dask/filter/more.py has other content"),
    ("dvc.yaml", DVC_YAML + "# new\n", "dvc.yaml has other content"),
]
STATED = ("params.yaml", "removals.csv")
"""What a page names with its digest."""


@pytest.mark.parametrize(("name", "text", "said"), CHANGES)
def test_a_page_under_git_is_refused_before_anything_runs_where_the_workspace_differs(
    project: Path, name: str, text: str, said: str
) -> None:
    (project / name).write_text(text)
    ran: list[str] = []
    with pytest.raises(baseline.BaselineError, match="Remedy: commit the change or take it back") as refused:
        study.write(project, asked(ran), project / "docs" / "studies")
    assert said in str(refused.value)
    assert ran == []
    assert (project / "docs" / "studies" / "one.md").read_text() == "# old\n"


@pytest.mark.parametrize(("name", "text", "said"), CHANGES)
def test_elsewhere_it_is_written_and_names_what_differs(project: Path, name: str, text: str, said: str) -> None:
    before = baseline.read(project)
    (project / name).write_text(text)
    page = study.write(project, asked([]), project / "elsewhere").read_text()
    assert f"not those of HEAD: {said}." in page
    now = baseline.read(project)
    assert ((now.parameters, now.removals) != (before.parameters, before.removals)) is (name in STATED)
    assert now.parameters in page
    assert now.removals in page


@pytest.mark.parametrize(
    "text", [PARAMS, PARAMS.replace("a comment", "another"), "filter: {max_punsafe: 0.50}\n"], ids=["same", "#", "form"]
)
def test_comments_and_form_are_no_other_parameters(project: Path, text: str) -> None:
    before = baseline.read(project)
    (project / "params.yaml").write_text(text)
    assert baseline.read(project) == before
    page = study.write(project, asked([]), project / "docs" / "studies").read_text()
    assert f"`{before.parameters}`" in page
    assert "not those of HEAD" not in page


def test_code_that_no_stage_depends_on_is_no_other_baseline(project: Path) -> None:
    (project / "laion_dask" / "other.py").write_text("# new\n")
    (project / "notes.txt").write_text("mine\n")
    assert baseline.read(project).changed == ()


def test_true_is_another_value_than_1(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("0.5", "1"))
    call(project, "git", "commit", "-qam", "one")
    (project / "params.yaml").write_text(PARAMS.replace("0.5", "true"))
    assert baseline.read(project).changed == ("filter.max_punsafe 1 -> True",)


def test_a_page_whose_tables_alone_are_under_git_is_refused_too(project: Path) -> None:
    (project / "docs" / "studies" / "one").mkdir()
    (project / "docs" / "studies" / "one" / "table.csv").write_text("a\n")
    call(project, "git", "rm", "-q", "--cached", "docs/studies/one.md")
    call(project, "git", "add", "docs/studies/one/table.csv")
    (project / "params.yaml").write_text(PARAMS.replace("0.5", "0.4"))
    with pytest.raises(baseline.BaselineError, match="is under Git"):
        study.write(project, asked([]), project / "docs" / "studies")


def test_a_link_to_the_folder_of_pages_is_no_way_around(project: Path) -> None:
    (project / "elsewhere").symlink_to(project / "docs" / "studies")
    (project / "params.yaml").write_text(PARAMS.replace("0.5", "0.4"))
    with pytest.raises(baseline.BaselineError, match="is under Git"):
        study.write(project, asked([]), project / "elsewhere")


def test_parameters_that_were_never_committed_are_not_those_of_head(project: Path) -> None:
    call(project, "git", "rm", "-q", "--cached", "params.yaml", "removals.csv")
    call(project, "git", "commit", "-qm", "without")
    assert baseline.read(project).changed == ("HEAD has no params.yaml", "removals.csv has other content")
    with pytest.raises(baseline.BaselineError, match=r"HEAD has no params\.yaml"):
        study.write(project, asked([]), project / "docs" / "studies")


def test_a_change_while_the_study_runs_stops_it_before_the_page_is_written(project: Path) -> None:
    def answer(root: Path, folder: Path) -> str:
        folder.mkdir(parents=True)
        (root / "params.yaml").write_text(PARAMS.replace("0.5", "0.4"))
        return "## Answer\n"

    with pytest.raises(baseline.BaselineError, match=r"while the study ran \(filter.max_punsafe 0.5 -> 0.4\)"):
        study.write(project, study.Study("one", "One", "What?", ("ask",), answer), project / "elsewhere")
    assert not (project / "elsewhere" / "one.md").exists()


def test_outside_of_git_there_is_no_head_to_differ_from(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS)
    assert baseline.read(tmp_path).changed == ()


def test_a_damaged_params_yaml_is_named_with_the_remedy(project: Path) -> None:
    (project / "params.yaml").write_text("filter: [\n")
    with pytest.raises(baseline.BaselineError, match=r"params\.yaml cannot be read .*Remedy: `git checkout params"):
        baseline.read(project)


@pytest.mark.slow
def test_the_command_ends_with_one_message(project: Path) -> None:
    (project / "params.yaml").write_text(PARAMS.replace("0.5", "0.4"))
    page = project / "docs" / "studies" / "similarity_by_split.md"
    page.write_text("# old\n")
    call(project, "git", "add", str(page))
    done = programs.finished(
        [sys.executable, "-c", "from experiments.study import app; app()", "similarity_by_split"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("study: docs/studies/similarity_by_split.md is under Git")
    assert len(done.stderr.splitlines()) == 1
