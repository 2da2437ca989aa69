"""Digests of files and folders: equal to those that DVC itself writes into dvc.lock."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.places import ROOT
from made.projects.dvc_projects import call, dvc
from ruamel.yaml import YAML

from laion_dask.versions import outs

TREES = {
    "one file": {"a": b"1"},
    "folders, in another order than their names": {"b/a.txt": b"1", "b.txt": b"2", "a/z/y": b"3", "Z": b"4"},
    "names beyond ASCII, and an empty file": {"\u00e4/\u6f22.txt": b"", "x y": b"5"},
    "ignored below": {"a.py": b"1", "__pycache__/a.pyc": b"2", "deep/__pycache__/b.pyc": b"3"},
}


@pytest.mark.slow
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_a_folder_has_the_digest_that_dvc_gives_it(tmp_path: Path, tree: dict[str, bytes]) -> None:
    for name, content in tree.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(content)
    call(tmp_path, "git", "init", "-q")
    dvc(tmp_path, "init", "-q")
    (tmp_path / ".dvcignore").write_text("__pycache__\n")
    dvc(tmp_path, "add", "-q", "out")
    (recorded,) = YAML(typ="safe", pure=True).load(tmp_path / "out.dvc")["outs"]
    found = outs.listing(tmp_path / "out")
    assert outs.digest(found) == recorded["md5"]
    assert outs.cached_listing(tmp_path / ".dvc" / "cache", recorded["md5"]) == found
    assert outs.size(tmp_path / "out") == recorded["size"]


def test_a_file_has_its_md5_and_what_is_missing_has_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    read: list[int] = []
    assert outs.digest(outs.listing(tmp_path / "a", read.append)) == "5d41402abc4b2a76b9719d911017c592"
    assert read == [5]
    assert outs.digest(outs.listing(tmp_path / "b")) == ""


def test_what_dvcignore_leaves_out_of_code_is_what_is_left_out_here() -> None:
    names = {line.strip("/") for line in (ROOT / ".dvcignore").read_text().splitlines() if line and line[0] != "#"}
    # The others are no part of any folder that a stage names.
    assert names == {"__pycache__", ".venv", ".laion_dask", "mlruns", "mlflow.db", "data/trace", "site"}
