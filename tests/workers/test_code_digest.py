"""The digest of code: of a stage and its command alike, whatever shapes rows, and of a process for its driver."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from inspect import isfunction, signature
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from ruamel.yaml import YAML

from laion_dask.workers import code_digest

STAGES = tuple(YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"])


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one stage, whose code is one module of each package and one folder."""
    for name in ("folder", "__pycache__", "schema", "runner", "params"):
        (tmp_path / "laion_dask" / name).mkdir(parents=True)
    (tmp_path / "workflow").mkdir()
    for name in (
        "module.py",
        "folder/weights",
        "schema/tables.py",
        "runner/parts.py",
        "params/one.py",
        "params/two.py",
    ):
        (tmp_path / "laion_dask" / name).write_text("1")
    (tmp_path / "workflow" / "one.py").write_text("1")
    deps = "workflow/one.py, laion_dask/module.py, laion_dask/folder, data/crawl, removals.csv"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  one:\n    deps: [{deps}]\n")
    monkeypatch.setattr(code_digest, "PROJECT", tmp_path)
    code_digest.of_stage.cache_clear()
    yield tmp_path
    code_digest.of_stage.cache_clear()


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("laion_dask/module.py", True),
        ("laion_dask/folder/weights", True),
        ("laion_dask/folder/added", True),
        ("workflow/one.py", True),
        ("laion_dask/schema/tables.py", True),
        ("laion_dask/schema/traces.py", False),
        ("laion_dask/params/one.py", True),
        ("laion_dask/params/two.py", False),
        ("laion_dask/other.py", False),
        ("laion_dask/runner/parts.py", False),
        ("laion_dask/folder/__pycache__/module.pyc", False),
        ("laion_dask/folder/.weights.swp", False),
    ],
)
def test_changed_code_makes_other_parts(checkout: Path, path: str, *, counts: bool) -> None:
    before = code_digest.of_stage("one")
    (checkout / path).parent.mkdir(exist_ok=True)
    (checkout / path).write_text("changed")
    code_digest.of_stage.cache_clear()
    assert (code_digest.of_stage("one") != before) is counts


def test_a_command_on_files_has_the_code_of_its_stage_and_its_own(checkout: Path) -> None:
    own = checkout / "laion_dask" / "standalone" / "one.py"
    own.parent.mkdir()
    own.write_text("1")
    digests = [code_digest.of_command("one")]
    own.write_text("2")
    digests.append(code_digest.of_command("one"))
    (checkout / "laion_dask" / "module.py").write_text("2")
    code_digest.of_stage.cache_clear()
    digests.append(code_digest.of_command("one"))
    assert len({*digests, code_digest.of_stage("one")}) == 4


@pytest.mark.parametrize("stage", STAGES[1:])
def test_what_workers_run_is_code_of_the_package(stage: str) -> None:
    """So workers need no workflow/, and are not compared by it."""
    module = import_module(f"workflow.{stage}")
    assert module.STAGE.function.__module__.startswith("laion_dask.")
    functions = [value for value in vars(module).values() if isfunction(value) and value.__module__ == module.__name__]
    assert not [one.__name__ for one in functions if next(iter(signature(one).parameters), None) == "out"]


def test_every_stage_has_code_of_its_own() -> None:
    assert len({code_digest.of_stage(name) for name in STAGES}) == len(STAGES)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package alone, as a wheel leaves it: without workflow/ and dvc.yaml."""
    name = code_digest.PACKAGE
    shutil.copytree(ROOT / name, tmp_path / "site" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


def asked(folder: Path, what: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from laion_dask.workers import code_digest; print({what})"
    done = programs.finished([sys.executable, "-I", "-c", code], check=True, cwd=folder)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "path", ["laion_dask/standalone/extract.py", "laion_dask/demo/tags.yaml", "laion_dask/release/templates/card.md.j2"]
)
def test_without_dvc_yaml_any_file_of_the_packages_makes_other_parts(installed: Path, path: str) -> None:
    before = asked(installed, 'code_digest.of_stage("extract")')
    assert before == asked(installed, "code_digest.of_process().files")
    with (installed / path).open("a") as stream:
        stream.write("\n")
    assert asked(installed, 'code_digest.of_stage("extract")') != before


def test_a_checkout_and_its_copy_elsewhere_are_the_same_code(installed: Path) -> None:
    assert asked(installed, "code_digest.of_process().files") == code_digest.of_process().files


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"files": "0" * 32}, "laion_dask's files"),
        ({"python": "3.1"}, "not 3.1"),
        ({"libraries": (("numpy", "1.0"),)}, "not 1.0"),
        ({"libraries": ()}, "not absent"),
    ],
)
def test_processes_with_another_file_python_or_library_differ(other: dict[str, object], said: str) -> None:
    own = code_digest.of_process()
    assert own.differences(own) == []
    assert any(said in one for one in own.differences(replace(own, **other)))  # type: ignore[arg-type]
