"""Repeat and share a version: pushed to a remote, restored at an older commit of a clone, and proved equal there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.projects.built import ENVIRONMENT, call, clone
from made.projects.project import Project

from laion_dask.release import manifest

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Published:
    """A project whose versions are in a remote, and its commits."""

    project: Path
    store: Path
    first: str
    """The first version, before the remote was named."""
    older: str
    """The first version, with the remote."""
    newer: str


REMOTE = "s3://bucket/laion-dask"
"""What the page calls the remote; here it is a folder."""
OLDER = "restore a version older than the remote"


def follow(title: str, folder: Path, replaced: Mapping[str, object]) -> str:
    """Run a block of docs/reproduce.md in a folder, with these words replaced; return what it prints."""
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    (commands,) = re.findall(rf'^```bash title="{title}"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    for word, replacement in replaced.items():
        assert word in commands
        commands = commands.replace(word, str(replacement))
    return call(folder, "bash", "-euc", commands)


def commit(folder: Path, message: str) -> str:
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", message)
    return head(folder)


def head(folder: Path) -> str:
    return call(folder, "git", "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def published(small: Project, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The small demo as its author publishes it: pushed, then built again with another parameter of the release."""
    base = tmp_path_factory.mktemp("published")
    project, store = base / "project", base / "store"
    clone(project, base / "params")
    for name in ("data", "metrics"):
        shutil.rmtree(project / name, ignore_errors=True)
        shutil.copytree(small.folder / name, project / name)
    call(project, "dvc", "commit", "--force", "--quiet")
    first = commit(project, "first version")
    follow("publish", project, {REMOTE: store})
    older = head(project)
    params = project / "params.yaml"
    changed = re.sub(r"(?m)^(\s+high_resolution_px:) \S+", r"\1 200", params.read_text())
    assert changed != params.read_text()
    params.write_text(changed)
    call(project, "dvc", "repro", "release")
    newer = commit(project, "second version")
    call(project, "dvc", "push")
    return Published(project, store, first, older, newer)


@pytest.fixture(scope="module")
def printed(published: Published, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A clone at the older commit, made by the commands of the page and nothing else, and what they print."""
    folder = tmp_path_factory.mktemp("reader")
    return folder / "laion_dask", follow("restore", folder, {"ADDRESS": published.project, "VERSION": published.older})


@pytest.fixture(scope="module")
def restored(printed: tuple[Path, str]) -> Path:
    return printed[0]


def verified(folder: Path, *arguments: str) -> tuple[int, str]:
    command = ("laion-dask", "verify", "--against-lock", *arguments)
    done = programs.finished(command, cwd=folder, env=ENVIRONMENT)
    return done.returncode, done.stdout + done.stderr


def test_an_older_version_comes_back_from_the_remote_byte_for_byte(
    published: Published, printed: tuple[Path, str], small: Project
) -> None:
    restored, output = printed
    stages = ("crawl", "extract", "catalog", "download", "score", "group", "filter", "translate", "caption", "release")
    assert Project(restored).digests(*stages) == small.digests(*stages)
    assert head(restored) == published.older != published.newer
    assert manifest.check(restored / "data" / "release") == []
    assert f"all stages of the version are equal to dvc.lock of {published.older[:10]}" in output
    assert "files match data/release/manifest.json" in output


def test_nothing_was_built_and_nothing_is_to_be_built(restored: Path) -> None:
    assert not (restored / ".laion_dask").exists()
    assert call(restored, "dvc", "status").split() == ["inputs:", "always", "changed"]
    assert call(restored, "git", "status", "--porcelain") == ""


def test_verify_says_that_each_stage_is_equal_and_of_another_version_which_stage_differs_and_why(
    published: Published, restored: Path
) -> None:
    status, output = verified(restored)
    assert status == 0, output
    assert {line.split()[1] for line in output.splitlines()[:-1]} == {"equal"}
    status, output = verified(restored, "--rev", published.newer)
    assert status == 1
    assert "The first stage that differs is release." in output
    assert "parameter: release.high_resolution_px is 200 in dvc.lock, " in output


def test_the_newer_version_needs_only_what_differs(published: Published, restored: Path) -> None:
    call(restored, "git", "checkout", "--quiet", published.newer)
    call(restored, "dvc", "pull", "data/release")
    status, output = verified(restored)
    assert status == 0, output


def test_a_clone_without_files_is_told_what_to_do_and_a_commit_before_the_remote_is_restored(
    published: Published, tmp_path: Path
) -> None:
    call(tmp_path, "git", "clone", "--quiet", str(published.project), "bare")
    bare = tmp_path / "bare"
    status, output = verified(bare)
    assert status == 2
    assert "the first that is missing is inputs. Remedy: `make repro`, or `dvc pull`" in output
    follow(OLDER, bare, {"VERSION": published.first, REMOTE: published.store})
    status, output = verified(bare)
    assert status == 0, output
    assert published.first[:10] in output
