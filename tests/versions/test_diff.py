"""Two versions compared: every pair that came, went or moved is counted once, with the reason of its version."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.processes import programs
from made.versions import published, sample_version, tables
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.release import composition
from laion_dask.report import part
from laion_dask.versions import checkout, diff

OLD = [
    {"uid": 1, "similarity": 0.5},
    {"uid": 2, "similarity": 0.5, "aesthetic": 5.0},
    {"uid": 3},
    {"uid": 4},
    {"uid": 5, "split": "nolang"},
    {"uid": 6, "reason": "low_similarity"},
    {"uid": 7, "punsafe": float("nan")},
]
NEW = [
    {"uid": 1, "similarity": 0.5},
    {"uid": 2, "similarity": 0.25, "aesthetic": 5.5},
    {"uid": 3, "reason": "unsafe"},
    {"uid": 4, "reason": "removed_hash"},
    {"uid": 5, "split": "multi"},
    {"uid": 6},
    {"uid": 7, "punsafe": 0.25},
    {"uid": 8},
]


def build(folder: Path, rows: list[dict[str, Any]], settings_: params.Params) -> Path:
    return published.build(folder, [{**row, "uid": tables.uid(row["uid"])} for row in rows], settings_)


@pytest.fixture(scope="module")
def small(defaults: params.Params) -> params.Params:
    """Parameters of a release without layouts."""
    return defaults.model_copy(update={"release": defaults.release.model_copy(update={"tables": ()})})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, small: params.Params) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("both")
    other = small.model_copy(update={"filter": small.filter.model_copy(update={"max_punsafe": 0.3})})
    return build(folder / "old", OLD, small), build(folder / "new", NEW, other)


def compare(old: Path, new: Path) -> diff.Diff:
    with checkout.opened(str(old)) as before, checkout.opened(str(new)) as after:
        return diff.compare(before, after)


@pytest.mark.slow
def test_pairs_that_came_went_and_moved_are_counted_by_reason(both: tuple[Path, Path]) -> None:
    found = compare(*both)
    assert (found.common, found.added, found.removed, found.moved) == (4, 2, 2, 1)
    assert found.removed_by == {"unsafe": 1, "removed_hash": 1}
    assert found.added_by == {"low_similarity": 1, "not_seen": 1}
    assert found.moved_by == {"nolang multi": 1}
    back = compare(*reversed(both))
    assert (back.added_by, back.removed_by) == (found.removed_by, found.added_by)


def test_scores_that_moved_are_measured(both: tuple[Path, Path]) -> None:
    scores = {moves.score: moves for moves in compare(*both).scores}
    assert scores["similarity"] == diff.Moves("similarity", 4, 1, 0, 0, (-0.25,) * 5, -0.25)
    assert scores["aesthetic"] == diff.Moves("aesthetic", 4, 1, 0, 0, (0.5,) * 5, 0.5)
    assert scores["punsafe"] == diff.Moves("punsafe", 3, 0, 1, 0, (), 0.0)
    assert {moves.score: moves.vanished for moves in compare(*reversed(both)).scores}["punsafe"] == 1


def test_parameters_that_differ_are_named(both: tuple[Path, Path]) -> None:
    changed = {one.name: (one.old, one.new) for one in compare(*both).parameters}
    assert changed["filter.max_punsafe"] == (0.5, 0.3)
    # Beside it only the paths of this test's two folders.
    assert changed.keys() == {"filter.max_punsafe", "catalog.lists", "catalog.removals"}


def test_statistics_stand_side_by_side(both: tuple[Path, Path]) -> None:
    found = compare(*both)
    assert found.statistics == (composition.measure(both[0]), composition.measure(both[1]))
    rows = {what: (old, new) for what, old, new in diff.side_by_side(found.statistics)}
    assert rows["pairs, all"] == ("6", "6")
    assert rows["pairs, nolang"] == ("1", "0")
    assert rows["pairs, multi"] == ("0", "1")
    assert rows["tombstones"] == ("0", "1")


def test_tombstones_give_the_reason_where_there_are_no_verdicts(both: tuple[Path, Path]) -> None:
    old, new = both
    found = diff.compare(diff.ReleaseFolder("old", old), diff.ReleaseFolder("new", new))
    assert found.removed_by == {"removed_hash": 1, "unknown": 1}
    assert found.added_by == {"unknown": 2}


def test_a_version_compared_with_itself_is_the_same(both: tuple[Path, Path]) -> None:
    found = compare(both[0], both[0])
    assert (found.common, found.added, found.removed, found.moved) == (6, 0, 0, 0)
    assert all(moves.changed == moves.appeared == moves.vanished == 0 for moves in found.scores)
    assert found.parameters == ()


@pytest.mark.slow
def test_the_report_shows_what_changed(both: tuple[Path, Path], tmp_path: Path, defaults: params.Params) -> None:
    data, metrics = sample_version.write(tmp_path, links=60, shards=1)
    shutil.rmtree(data / "release", ignore_errors=True)
    shutil.copytree(both[1], data / "release")
    against = defaults.model_copy(update={"report": defaults.report.model_copy(update={"against": str(both[0])})})
    part.write(tmp_path / "out", data, metrics, against, {})
    page = (tmp_path / "out" / "report.html").read_text()
    assert "4 pairs are in both, 2 were added, 2 removed, 1 moved" in page
    assert "filter.max_punsafe" in page
    changes = json.loads((tmp_path / "out" / "changes.json").read_text())
    assert (changes["added"], changes["removed"]) == (2, 2)
    part.write(tmp_path / "without", data, metrics, defaults, {})
    assert 'id="changes"' not in (tmp_path / "without" / "report.html").read_text()


FATES = st.lists(st.tuples(st.sampled_from("kdn"), st.sampled_from(published.SPLITS)), min_size=12, max_size=12)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FATES, FATES)
def test_what_was_and_what_is_adds_up(
    small: params.Params, tmp_path: Path, old: list[tuple[str, str]], new: list[tuple[str, str]]
) -> None:
    folders, kept = [], []
    for name, fates in (("old", old), ("new", new)):
        rows = [
            {"uid": number, "split": split, "reason": "keep" if fate == "k" else "watermark"}
            for number, (fate, split) in enumerate(fates)
            if fate != "n"
        ]
        folders.append(build(tmp_path / name, rows or [{"uid": 99, "reason": "unsafe"}], small))
        kept.append({number for number, (fate, _) in enumerate(fates) if fate == "k"})
    found = compare(*folders)
    assert found.common == len(kept[0] & kept[1])
    assert (found.added, found.removed) == (len(kept[1] - kept[0]), len(kept[0] - kept[1]))
    assert found.moved == sum(old[number][1] != new[number][1] for number in kept[0] & kept[1])
    gone = [new[number][0] for number in kept[0] - kept[1]]
    expected = {"watermark": gone.count("d"), "not_seen": gone.count("n")}
    assert found.removed_by == {reason: pairs for reason, pairs in expected.items() if pairs}


def test_the_command_prints_tables_and_json_and_lists_each_pair(both: tuple[Path, Path], tmp_path: Path) -> None:
    names = [str(folder) for folder in both]
    done = CliRunner().invoke(app, ["diff", *names, "--out", str(tmp_path / "lists")], env={"COLUMNS": "600"})
    assert done.exit_code == 0, done.output
    assert "4 pairs in both, 2 added, 2 removed, 1 moved" in done.output
    assert "filter.max_punsafe" in done.output
    query = "select uid, reason from '{}' order by uid"
    removed = duckdb.sql(query.format(tmp_path / "lists" / "removed.parquet")).fetchall()
    assert removed == [(tables.uid(3), "unsafe"), (tables.uid(4), "removed_hash")]
    moved = duckdb.sql(f"from '{tmp_path / 'lists' / 'moved.parquet'}'").fetchall()
    assert moved == [(tables.uid(5), "nolang", "multi")]
    done = CliRunner().invoke(app, ["diff", *names, "--json"])
    answer = json.loads(done.output)
    assert answer["removed_by"] == {"unsafe": 1, "removed_hash": 1}
    assert len(answer["statistics"]) == 2


@pytest.mark.parametrize(
    ("name", "message"), [("nothing", "a Git revision or a DVC experiment"), (".", "has no manifest")]
)
def test_what_is_no_version_is_refused_with_the_remedy(
    both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["diff", str(both[0]), name])
    assert done.exit_code == 1
    assert message in done.output
    assert "Remedy" in done.output


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, small: params.Params) -> Path:
    """A project of Git and DVC: the old version is a tag and an experiment, the new one lies in the working tree."""
    folder = tmp_path_factory.mktemp("project")
    call(folder, "git", "init", "-q")
    call(folder, "dvc", "init", "-q")
    build(folder, OLD, small)
    call(folder, "dvc", "add", "-q", "data/release", "data/filter")
    call(folder, "git", "add", "data/.gitignore", "data/release.dvc", "data/filter.dvc", ".dvc")
    call(folder, "git", "commit", "-qm", "old")
    call(folder, "git", "tag", "first")
    # As DVC keeps an experiment: a ref outside of branches and tags.
    head = call(folder, "git", "rev-parse", "HEAD").strip()
    call(folder, "git", "update-ref", f"refs/exps/ab/{head}/bold-name", "HEAD")
    build(folder, NEW, small)
    return folder


def call(folder: Path, *command: str) -> str:
    people = {f"GIT_{who}_{what}": "t@t.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = programs.finished(command, cwd=folder, env={**os.environ, **people, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_version_out_of_the_cache_is_compared_and_the_working_tree_is_left_alone(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    before = (project / "data" / "release" / "manifest.json").read_bytes()
    done = CliRunner().invoke(app, ["diff", "bold-name", "data/release", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert (answer["old"], answer["new"]) == ("bold-name", "data/release")
    assert answer["removed_by"] == {"unsafe": 1, "removed_hash": 1}
    assert answer["added_by"] == {"low_similarity": 1, "not_seen": 1}
    assert (project / "data" / "release" / "manifest.json").read_bytes() == before


def test_tags_commits_and_experiments_name_a_commit(project: Path) -> None:
    head = call(project, "git", "rev-parse", "HEAD").strip()
    for name in ("first", "HEAD", head[:12], "bold-name"):
        assert checkout.find_commit(name, project) == head
    for name in ("--output=x", "nothing", ""):
        with pytest.raises(checkout.VersionError, match="Remedy"):
            checkout.find_commit(name, project)


def test_a_revision_that_the_cache_lacks_is_refused_with_the_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(project)
    cache = project / ".dvc" / "cache"
    cache.rename(tmp_path / "cache")
    try:
        done = CliRunner().invoke(app, ["diff", "first", "data/release"])
    finally:
        (tmp_path / "cache").rename(cache)
    assert done.exit_code == 1
    assert "data/release of first" in done.output
    assert "Remedy: fetch it from a remote" in done.output
