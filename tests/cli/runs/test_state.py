"""`laion-dask status`: counts, and a line for each reason why they are not those of this folder and its parameters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made.places import ROOT
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.cli.runs import state
from laion_dask.report.origin import headline

STAGES = tuple(path.stem for path in (ROOT / "metrics").glob("*.json") if path.stem != headline.NAME)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose stages have run: its counts, its recorded parameters, and a folder for each out."""
    folder = tmp_path / "a project"
    folder.mkdir()
    for name in ("params.yaml", "dvc.lock", "removals.csv"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "metrics", folder / "metrics")
    for stage in STAGES:
        (folder / "data" / stage).mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def status(*args: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["status", *args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def write(folder: Path, old: str, new: str) -> None:
    text = (folder / "params.yaml").read_text()
    assert text.count(old) == 1
    (folder / "params.yaml").write_text(text.replace(old, new))


def test_a_version_that_is_built_and_unchanged_has_its_funnel_and_no_remark(built: Path) -> None:
    code, said, told = status()
    assert (code, told) == (0, "")
    assert said.startswith("The funnel of this version")
    assert list(state.notes(built, STAGES, STAGES)) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    en: 0.25\n", "    en: 0.35\n", "filter.similarity.en 0.25 -> 0.35."),
        ("  min_side_px: 64 ", "  min_side_px: 65 ", "filter.min_side_px 64 -> 65."),
        ("  demo_pages: 3000 ", "  demo_pages: 240 ", "crawl.demo_pages 3000 -> 240."),
        ("recipe: []", "recipe: [demo]", 'recipe [] -> ["demo"]'),
        ("  top_hosts: 20 ", "  top_hosts: 21 ", "report.top_hosts 20 -> 21."),
    ],
)
def test_a_parameter_that_has_changed_since_is_named_with_both_values(
    built: Path, old: str, new: str, expected: str
) -> None:
    write(built, old, new)
    code, said, _ = status()
    first = said.splitlines()[0]
    assert code == 0
    assert first.startswith(f"params.yaml has changed since: {expected}"), first
    assert "`make repro` builds that version" in first
    # A parameter that several stages read is told once.
    assert first.count(expected.split(maxsplit=1)[0]) == 1


def test_many_changes_are_counted_and_long_values_cut(built: Path) -> None:
    section = (built / "params.yaml").read_text().partition("\ntranslate:")[2].partition("\ncaption:")[0]
    write(built, f"\ntranslate:{section}", "\ntranslate: null\n")
    write(built, "  link_kinds: [", "  link_kinds: [IMG@/data-src, IMG@/a, IMG@/b, IMG@/c, IMG@/d, IMG@/e, IMG@/f, ")
    (line,) = state.notes(built, STAGES, STAGES)
    assert "extract.link_kinds" in line
    assert "…" in line
    assert "; and " in line
    assert "more. `make repro`" in line


def test_a_clone_is_not_built_and_keeps_its_counts_apart(built: Path) -> None:
    shutil.rmtree(built / "data")
    code, said, _ = status()
    assert code == 0
    assert said.startswith("not built here: there is no data/. The counts are those of the version in metrics/: `make")
    assert "`dvc pull` fetches it" in said.splitlines()[0]


def test_outs_that_are_missing_and_stages_without_counts_are_named(built: Path) -> None:
    shutil.rmtree(built / "data" / "release")
    (built / "metrics" / "filter.json").unlink()
    code, said, _ = status()
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "not finished: filter has no counts. `make repro` continues"
    assert lines[1].startswith("not built here: data/release. `make repro` builds it")


def test_json_on_the_output_is_not_mixed_with_remarks(built: Path) -> None:
    write(built, "  min_side_px: 64 ", "  min_side_px: 65 ")
    code, said, told = status("--json")
    assert code == 0
    assert json.loads(said).keys() == set(STAGES)
    assert "filter.min_side_px 64 -> 65" in told


@pytest.mark.parametrize("file", ["params.yaml", "dvc.lock"])
@pytest.mark.parametrize("text", ["<<<<<<< HEAD\na: 1\n=======\n", "a: [", ""])
def test_files_that_cannot_be_read_are_told_and_the_funnel_stands(built: Path, file: str, text: str) -> None:
    (built / file).write_text(text)
    code, said, _ = status()
    assert code == 0
    assert "The funnel of this version" in said
    first = said.splitlines()[0]
    if file == "params.yaml" or text:
        assert first.startswith("params.yaml "), first


def test_a_folder_without_a_version_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, told = status()
    assert code == 1
    assert (
        told
        == "status: not built: there is no version, metrics/ is empty. Remedy: `make repro` in the project's folder\n"
    )
