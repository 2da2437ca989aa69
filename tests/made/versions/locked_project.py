"""A small project as DVC has recorded it: three stages, their parameters, and traces of two of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from made.places import ROOT
from made.versions import traces
from ruamel.yaml import YAML

STAGES = {"inputs": (), "crawl": ("data/inputs/crawl.json",), "release": ("data/crawl", "removals.csv")}
"""The data that each stage reads."""
PARAMETERS = {"crawl": "crawl", "release": "release"}
TIMED = ("crawl", "release")


def write(folder: Path) -> Path:
    """Write the project, and return its folder."""
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    yaml = YAML(typ="safe", pure=True)
    values = yaml.load(folder / "params.yaml")
    (folder / "removals.csv").write_text("kind,value,reason,date,source\n")
    pipeline: dict[str, Any] = {"stages": {}}
    lock: dict[str, Any] = {"schema": "2.0", "stages": {}}
    for name, read in STAGES.items():
        _results(folder, name)
        (folder / "workflow").mkdir(exist_ok=True)
        shutil.copy(ROOT / "workflow" / f"{name}.py", folder / "workflow")
        command = f"python -m workflow.{name}"
        deps = [f"workflow/{name}.py", *read]
        outs = [f"data/{name}", f"metrics/{name}.json"]
        pipeline["stages"][name] = {"cmd": command, "desc": f"What {name} does", "deps": deps, "outs": outs}
        run = {"cmd": command, "deps": _recorded(folder, deps), "outs": _recorded(folder, outs)}
        if name in PARAMETERS:
            run["params"] = {"params.yaml": {PARAMETERS[name]: values[PARAMETERS[name]]}}
        lock["stages"][name] = run
    for document, file in ((pipeline, "dvc.yaml"), (lock, "dvc.lock")):
        YAML().dump(document, folder / file)
    for name in TIMED:
        traces.write(folder / "data", folder / "metrics", name)
    return folder


def _results(folder: Path, stage: str) -> None:
    out = folder / "data" / stage
    out.mkdir(parents=True)
    (out / "crawl.json").write_text("{}\n")
    (folder / "metrics").mkdir(exist_ok=True)
    (folder / "metrics" / f"{stage}.json").write_text(json.dumps({"parts": 1}))


def _recorded(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """Describe files and folders as DVC does, but for the digest of a folder, which is its name's."""
    recorded = []
    for name in names:
        path = folder / name
        if path.is_dir():
            size = sum(file.stat().st_size for file in path.iterdir())
            digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
            recorded.append({"path": name, "hash": "md5", "md5": f"{digest}.dir", "size": size, "nfiles": 1})
        else:
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            recorded.append({"path": name, "hash": "md5", "md5": digest, "size": path.stat().st_size})
    return recorded
