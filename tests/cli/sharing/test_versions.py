"""`laion-dask export` of whole versions and `laion-dask publish`, in a project's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from made.places import ROOT
from made.versions import locked_project, published
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli.main import app


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture
def built(tmp_path: Path, defaults: params.Params, monkeypatch: pytest.MonkeyPatch) -> Path:
    made_of = published.rows(9)
    published.build(tmp_path, made_of, defaults)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "metrics").mkdir()
    for stage, counts in published.counts(made_of).items():
        (tmp_path / "metrics" / f"{stage}.json").write_text(json.dumps(counts))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_summary_says_how_much_people_must_add(built: Path) -> None:
    status, said = run("export", "eu-summary", "--out", "summary")
    assert (status, "answers are marked that people must add" in said) == (0, True)
    assert sorted(path.name for path in (built / "summary").iterdir()) == [
        "domains.csv",
        "summary.html",
        "summary.json",
    ]


def test_a_crate_is_written_from_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked_project.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, said = run("export", "ro-crate", "--out", "crate")
    assert (status, "as ro-crate; no times of inputs" in said) == (0, True)
    assert (tmp_path / "crate" / "ro-crate-metadata.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ro-crate", "--all"), "leave out all but --out"),
        (("eu-summary", "--from", "x"), "leave out all but --out"),
        (("subset", "--small-provider"), "are for eu-summary"),
        (("ro-crate", "--answers", "a.yaml"), "are for eu-summary"),
    ],
)
def test_options_of_other_exports_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = run("export", *arguments, "--out", "out")
    assert (status, message in " ".join(said.split())) == (2, True)


def test_a_dry_run_prepares_the_folder_and_names_what_is_not_set(built: Path) -> None:
    status, said = run("publish", "hub", "owner/name", "--dry-run")
    assert (status, "nothing was uploaded" in said, "release.contact" in said) == (0, True, True)
    assert (built / "hub" / "en-00000.parquet").is_file()
    status, said = run("publish", "hub", "owner/name", "--dry-run")
    assert (status, "--overwrite" in said) == (1, True)


def test_a_version_of_nobody_is_not_uploaded(built: Path) -> None:
    status, said = run("publish", "hub", "owner/name")
    assert (status, "set them in params.yaml" in said) == (1, True)
    assert not (built / "hub").exists()


def test_the_metadata_of_a_deposit_have_the_day_of_croissant(built: Path) -> None:
    status, output = run("publish", "zenodo")
    assert "these tell nobody who is responsible: release.url: " in output
    published_on = json.loads((built / "data" / "release" / "croissant.json").read_text())["datePublished"]
    metadata = json.loads((built / "zenodo.json").read_text())["metadata"]
    assert (status, metadata["publication_date"]) == (0, published_on)


def test_without_a_version_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for command in (("publish", "hub", "a/b", "--dry-run"), ("publish", "zenodo"), ("export", "ro-crate", "--out", "o"),
                    ("export", "eu-summary", "--out", "o")):  # fmt: skip
        status, said = run(*command)
        assert (status, "Remedy" in said) == (1, True), command
