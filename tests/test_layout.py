"""Where things lie and how they are named: one word in five places, floors, sizes of folders and files, no leaks."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
from made.checkout import (
    DVC,
    FLOORS,
    SECTIONS,
    STAGES,
    imports,
    module_file,
    modules,
    package,
    package_imports,
    sources,
    tracked,
)
from made.places import ROOT
from pydantic import BaseModel
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.inputs import named_files
from laion_dask.schema import reasons as verdict


class TestOneWordInFivePlaces:
    def test_dvc_yaml_has_the_stages_in_the_order_of_the_data(self) -> None:
        assert tuple(DVC) == STAGES

    def test_params_yaml_has_a_section_for_each_stage_in_the_same_order_behind_the_recipes(self) -> None:
        values = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        assert tuple(values) == tuple(params.Params.model_fields) == ("recipe", *SECTIONS)

    def test_the_command_line_has_a_step_for_each_stage_in_the_same_order(self) -> None:
        names = [command.name for command in app.registered_commands if command.name in STAGES]
        assert tuple(names) == STAGES

    @pytest.mark.parametrize("stage", STAGES)
    def test_module_command_out_and_metrics_carry_the_name_of_the_stage(self, stage: str) -> None:
        spec = DVC[stage]
        assert (ROOT / "workflow" / f"{stage}.py").is_file()
        assert spec["cmd"] == f"python -m workflow.{stage}"
        assert spec["outs"] == [f"data/{stage}", {f"metrics/{stage}.json": {"cache": False}}]
        # DVC compares the few numbers of one file: its tables must fit a terminal.
        assert spec.get("metrics", []) == ([{"metrics/summary.json": {"cache": False}}] if stage == "report" else [])
        assert spec.get("always_changed", False) is (stage == "inputs")
        assert (stage in spec.get("params", ())) is (stage in SECTIONS)
        assert len(spec["desc"]) > 20

    @pytest.mark.parametrize("stage", SECTIONS)
    def test_each_stage_runs_again_when_a_file_that_its_parameters_name_has_changed(self, stage: str) -> None:
        assert [dep for dep in DVC[stage]["deps"] if dep.startswith("data/inputs")] == [f"data/inputs/{stage}.json"]
        assert named_files.STAGES == SECTIONS

    def test_workflow_has_no_other_modules(self) -> None:
        modules = {path.stem for path in (ROOT / "workflow").glob("*.py")}
        assert modules == {*STAGES, "program", "__init__"}

    def test_reasons_belong_to_stages_and_are_named_once(self) -> None:
        assert set(verdict.REASONS) <= set(STAGES)
        assert len(verdict.REASON_STAGE) == sum(len(reasons) for reasons in verdict.REASONS.values())


def section_model(name: str) -> type[BaseModel]:
    """The model of a section of params.yaml, of one that may be null too."""
    annotation = params.Params.model_fields[name].annotation
    return next(one for one in (annotation, *get_args(annotation)) if isinstance(one, type))


class TestParameters:
    LINES = (ROOT / "params.yaml").read_text().splitlines()
    KEYS = tuple(f"{section}.{name}" for section in SECTIONS for name in section_model(section).model_fields)

    @pytest.mark.parametrize("key", KEYS)
    def test_every_parameter_has_a_comment(self, key: str) -> None:
        section, name = key.split(".")
        start = self.LINES.index(f"{section}:")
        line = next(line for line in self.LINES[start:] if re.match(rf"  {name}:", line))
        assert re.search(r"# .{12,}", line), f"{key} has no comment in params.yaml"

    @pytest.mark.parametrize("key", KEYS)
    def test_every_parameter_is_used(self, key: str) -> None:
        name = key.split(".")[1]
        used = [path for path in sources() if "params" not in path.parts and f".{name}" in path.read_text()]
        assert used, f"{key} is read nowhere"


class TestHouse:
    PACKAGES = sorted(path.parent for path in (ROOT / "laion_dask").rglob("__init__.py"))

    def test_the_first_level_holds_folders_and_each_stands_on_a_floor(self) -> None:
        assert [path.name for path in (ROOT / "laion_dask").glob("*.py")] == ["__init__.py"]
        found = {path.relative_to(ROOT / "laion_dask").parts[0] for path in self.PACKAGES[1:]}
        assert found == {name for floor in FLOORS for name in floor}

    @pytest.mark.parametrize("file", sorted(modules(ROOT / "laion_dask")), ids=lambda file: "/".join(file.parts[-2:]))
    def test_a_module_imports_only_from_floors_below(self, file: Path) -> None:
        floor = {name: number for number, names in enumerate(FLOORS) for name in names}
        assert {name for name in package_imports(file) if floor[name] >= floor[package(file)]} == set()
        if package(file) in STAGES:  # also those that stand on another floor
            assert package_imports(file) & set(STAGES) == set()

    def test_no_modules_import_each_other_in_a_circle(self) -> None:
        left = {
            file: {module_file(name) for name in imports(file)} - {None, file} for file in modules(ROOT / "laion_dask")
        }
        while free := {file for file, needs in left.items() if not needs & left.keys()}:
            left = {file: needs for file, needs in left.items() if file not in free}
        assert sorted(path.stem for path in left) == []

    @pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
    def test_a_folder_is_taken_in_at_a_glance_and_its_docstring_names_what_is_in_it(self, folder: Path) -> None:
        inside = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert len(inside) <= 16
        text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        entries = " ".join(re.findall(r"^- ([a-z_0-9, ]+):", text, re.MULTILINE)).replace(",", " ").split()
        below = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert sorted(entries) == sorted(inside | below)

    def test_the_architecture_names_every_folder_and_no_file_that_is_not_there(self) -> None:
        text = (ROOT / "ARCHITECTURE.md").read_text()
        tree = set(re.findall(r"^  ([a-z_]+)/ ", text, re.MULTILINE))
        folders = {path.name for path in (ROOT / "laion_dask").iterdir() if any(path.glob("[a-z_]*.*"))}
        assert tree == folders - {"__pycache__"}
        named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text))
        assert len(named) > 20
        assert {
            name for name in named if not any((ROOT / place / name).is_file() for place in ("", "laion_dask"))
        } == set()

    @pytest.mark.parametrize("stage", SECTIONS)
    def test_what_happens_to_one_part_of_a_stage_is_behind_the_same_door(self, stage: str) -> None:
        if stage not in {"crawl", "report"}:  # which have no parts of their own
            assert (ROOT / "laion_dask" / stage / "part.py").is_file()

    @pytest.mark.slow
    def test_every_module_that_code_names_in_a_string_exists(self) -> None:
        packages = "|".join(name for floor in FLOORS for name in floor)
        named = {
            (path.name, name)
            for path in [*sources(), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for name in re.findall(rf"^laion_dask\.(?:{packages})(?:\.[a-z_0-9]+)+$", node.value)
        }
        assert len(named) >= 3, "the preloaded modules, the decoder's program and the commands of tests are named so"
        assert {(file, name) for file, name in named if find_spec(name) is None} == set()


class TestTests:
    FILES = sorted((ROOT / "tests").rglob("*.py"))
    FOLDERS = sorted({path.parent for path in FILES} - {ROOT / "tests"})
    # The stages' graphs, the whole way through them (on one machine, on several), and two folders beside the package.
    OF_NO_PACKAGE = frozenset({"artifact", "workflow", "whole", "hosts", "experiments", "benchmarks"})

    def test_the_first_level_holds_folders_beside_these_rules(self) -> None:
        assert [path.name for path in self.FILES if path.parent == ROOT / "tests"] == [
            "conftest.py",
            "test_deps.py",
            "test_layout.py",
        ]

    @pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
    def test_a_folder_of_tests_is_named_like_the_package_that_it_tests(self, folder: Path) -> None:
        name = folder.relative_to(ROOT / "tests").as_posix()
        made = name.split("/")[0] == "made"
        assert made or name in self.OF_NO_PACKAGE or (ROOT / "laion_dask" / name / "__init__.py").is_file()
        files = {path.name for path in folder.glob("*.py")}
        tests = {file for file in files if file.startswith("test_")}
        assert tests == (set() if made else files), "helpers lie in tests/made, and no tests"
        assert len(files) <= 16

    @pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-2:]))
    def test_no_file_of_tests_imports_a_test(self, file: Path) -> None:
        named = {part for name in imports(file) for part in name.split(".")}
        assert {part for part in named if part.startswith("test_") or part in {"tests", "conftest"}} == set()

    def test_every_test_that_a_page_names_exists(self) -> None:
        known = {path.relative_to(ROOT / "tests").as_posix(): path.read_text() for path in self.FILES}
        named = re.compile(r"(?:tests/)?((?:(?:\w+/)*test_\w+|made/(?:\w+/)*\w+)\.py)|::([tT]est\w+)")
        for page in tracked("*.md", "Makefile", ".pre-commit-config.yaml"):
            text = ""
            for file, name in named.findall(page.read_text()):
                assert file in known or not file, f"{page.name} names {file}"
                text = known[file] if file else text
                assert re.search(rf"(?:def|class) {name}\b", text) or not name, f"{page.name} names {name}"


class TestNothingLeaks:
    # Spelled in pieces, so that this file does not hold what it looks for.
    FORBIDDEN = re.compile("|".join(["/" + "work/main", "/" + "root/", "pypi" + r"\.org", "python" + r"hosted\.org"]))

    def test_no_tracked_file_names_a_path_of_a_machine_or_a_registry(self) -> None:
        texts = [path for path in tracked() if path.suffix not in {".gz", ".safetensors", ".png", ".npz"}]
        assert [path.name for path in texts if self.FORBIDDEN.search(path.read_text(errors="replace"))] == []

    def test_no_file_grows_into_a_second_job(self) -> None:
        assert [path.name for path in tracked("*.py") if len(path.read_text().splitlines()) > 400] == []

    def test_no_folder_is_named_after_nothing(self) -> None:
        names = {part for path in tracked() for part in path.relative_to(ROOT).parts[:-1]}
        assert not names & {"utils", "common", "helpers", "core", "misc"}
