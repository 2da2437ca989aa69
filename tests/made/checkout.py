"""The files of this checkout, what they import, and the order that the rules of the house ask for."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from made.places import ROOT
from made.processes import programs
from ruamel.yaml import YAML

STAGES = (
    "inputs",
    "crawl",
    "extract",
    "catalog",
    "download",
    "score",
    "group",
    "filter",
    "translate",
    "caption",
    "release",
    "report",
)
# The first stage reads what all sections name, each time, and has none of its own.
SECTIONS = STAGES[1:]
DVC = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
# These decide how work is run or checked, not which bytes come out; by path, from laion_dask/.
FRAME = {
    *(f"params/{name}" for name in ("model", "section", "types", "crawl", "extract", "catalog", "download", "score")),
    *(f"cluster/{name}" for name in ("fork_server", "interrupts", "kinds", "local", "settings")),
    *(f"storage/{name}" for name in ("durations", "sync", "work_folder")),
    *(f"workers/{name}" for name in ("absolute", "checks", "code_digest", "gpus", "handshake", "patience", "pool")),
    *(f"runner/{name}" for name in ("ahead", "attempts", "part", "part_files", "parts", "performance")),
    *(f"runner/{name}" for name in ("probe", "progress", "progress_line", "stage", "tasks", "trace", "trace_file")),
    *(f"schema/{name}" for name in ("columns", "tables", "reasons", "ledger", "traces", "values")),
}
# From the ground up: a package imports from floors below and from itself, not from others of its floor.
FLOORS = (
    ("schema",),
    ("params",),
    ("storage",),
    ("web", "cluster"),
    ("workers",),
    ("runner",),
    ("images", "blocklists", "statistics"),
    ("clip",),
    ("texts",),
    (
        "inputs",
        "crawl",
        "extract",
        "catalog",
        "download",
        "score",
        "group",
        "filter",
        "translate",
        "caption",
        "release",
    ),
    ("versions",),
    ("report",),
    ("audit", "removals", "share", "demo"),
    ("preflight", "standalone"),
    ("cli",),
)


def tracked(*patterns: str) -> list[Path]:
    listed = programs.finished(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns], cwd=ROOT, check=True
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
