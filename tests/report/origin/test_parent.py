"""Where a version comes from and what came before it: out of Git and of traces, and without them nothing is claimed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made.versions import history, sample_version, traces

from laion_dask.params import Params
from laion_dask.report.origin import drawing, headline, parent


def stricter(settings: Params, least: float = 0.42) -> Params:
    similarity = settings.filter.similarity.model_copy(update={"en": least})
    return settings.model_copy(update={"filter": settings.filter.model_copy(update={"similarity": similarity})})


def written(folder: Path, kept: int, links: int) -> tuple[Path, Path]:
    data, metrics = sample_version.write(folder, links=links, shards=1)
    rates = {"unsafe_of_kept": {"all": {"rate": 0.0125}}}
    report = {"kept": {"en": kept, "all": kept}, "safety": rates, "truth": {"keep": {"recall": kept / 100}}}
    (metrics / "report.json").write_text(json.dumps(report))
    return data, metrics


@pytest.fixture
def project(tmp_path: Path, defaults: Params) -> tuple[Path, dict[str, str]]:
    """Two versions in Git, `old` and `new`, with other thresholds and counts; the files are those of the second."""
    root = tmp_path / "project"
    history.create(root)
    commits = {}
    for name, settings, kept, links in (("old", defaults, 60, 60), ("new", stricter(defaults), 50, 80)):
        data, metrics = written(tmp_path / name, kept, links)
        commits[name] = history.commit(root, settings.model_dump(mode="json"), data, metrics)
        shutil.rmtree(root / "data", ignore_errors=True)
        shutil.copytree(data, root / "data")
    return root, commits


def read(root: Path, settings: Params) -> parent.Beginning:
    counts = sample_version.load_metrics(root / "metrics")
    values = settings.model_dump(mode="json")
    return parent.read(root / "dvc.lock", root / "metrics", values, root / "data", counts)


def test_the_parent_is_the_version_before_in_git_with_its_parameters_and_numbers(
    project: tuple[Path, dict[str, str]], defaults: Params
) -> None:
    root, commits = project
    found = read(root, stricter(defaults))
    assert (found.commit, found.date, found.uncommitted) == (commits["new"], "2026-01-01", False)
    assert found.parent
    assert (found.parent.commit, found.parent.date) == (commits["old"], "2026-01-01")
    assert found.changes() == [("filter.similarity.en", "0.25", "0.42")]
    assert found.numbers == headline.choose(sample_version.load_metrics(root / "metrics"))
    assert (found.parent.numbers["kept"], found.numbers["kept"]) == (60, 50)
    assert found.parent.numbers["links"] < found.numbers["links"]
    shown = drawing.draw_parent(found)
    for text in ("filter.similarity.en", "0.25 → ", ">0.42<", ">60<", ">50<", "\N{MINUS SIGN}10.00"):
        assert text in shown
    assert f"{commits['old'][:10]} of 2026-01-01" in drawing.draw_origin(found)


def test_what_is_not_committed_is_said(project: tuple[Path, dict[str, str]], defaults: Params) -> None:
    root, commits = project
    with (root / "params.yaml").open("a") as file:
        file.write("\n# a remark\n")
    found = read(root, stricter(defaults))
    assert found.uncommitted
    assert f"{commits['new'][:10]} of 2026-01-01, with changes" in drawing.draw_origin(found)


def test_times_are_those_of_the_stages_that_made_this_version(
    project: tuple[Path, dict[str, str]], defaults: Params
) -> None:
    root, _ = project
    assert "Built" not in drawing.draw_origin(read(root, stricter(defaults)))
    traces.write(root / "data", root / "metrics", "score", finished=False)
    assert read(root, stricter(defaults)).began == ""
    traces.write(root / "data", root / "metrics", "score")
    found = read(root, stricter(defaults))
    assert "" < found.began <= found.ended
    assert f"{found.began} to " in drawing.draw_origin(found)


def test_without_git_there_is_neither_commit_nor_parent(tmp_path: Path, defaults: Params) -> None:
    _, metrics = written(tmp_path, 50, 60)
    found = read(metrics.parent, defaults)
    assert (found.commit, found.date, found.parent, found.changes()) == ("", "", None, [])
    assert "none: not under Git" in drawing.draw_origin(found)
    shown = drawing.draw_parent(found)
    assert "There is no version before it" in shown
    assert ">50<" in shown


def test_of_many_parameters_the_first_are_shown_and_the_others_counted(
    project: tuple[Path, dict[str, str]], defaults: Params
) -> None:
    found = read(project[0], stricter(defaults))
    names = [f"filter.rule_{number:02}" for number in range(12)]
    many = replace(found, parameters={**found.parameters, **dict.fromkeys(names, "<b>")})
    shown = drawing.draw_parent(many)
    assert "and 5 more" in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    none = replace(found, parameters=found.parent.parameters if found.parent else {})
    assert "None: inputs or code have changed." in drawing.draw_parent(none)


def test_files_are_named_by_the_version_and_lie_beside_it(
    project: tuple[Path, dict[str, str]], defaults: Params
) -> None:
    root, _ = project
    found, digests = read(root, stricter(defaults)), {"data/crawl": "1.dir"}
    names = drawing.names(digests, root / "metrics")
    assert names != drawing.names({"data/crawl": "2.dir"}, root / "metrics")
    placed = drawing.write(root / "data", root / "metrics", digests, found)
    assert placed == [root / "data" / "trace" / name for name in names.values()]
