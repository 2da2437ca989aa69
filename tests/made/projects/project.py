"""A project folder for one test: parameters in, stages run as programs, files and counts out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made.places import ROOT
from made.processes import programs
from ruamel.yaml import YAML

SMALL = {"crawl.demo_pages": 240, "crawl.demo_wats": 4, "catalog.shard_rows": 64, "catalog.buckets": 2}

_STAGE_S = 900.0
_SEVERAL = """
import sys
from importlib import import_module
for name in sys.argv[1:]:
    module = import_module(f"workflow.{name}")
    module.main(module.STAGE)
"""


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml and removals.csv, where stages can be run, watched and killed."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, changes: Mapping[str, Any]) -> Project:
        folder.mkdir(parents=True)
        yaml = YAML()
        values = yaml.load(ROOT / "params.yaml")
        for key, value in changes.items():
            *path, name = key.split(".")
            section = values
            for step in path:
                section = section[step]
            section[name] = value
        yaml.dump(values, folder / "params.yaml")
        shutil.copy(ROOT / "removals.csv", folder)
        return cls(folder)

    def start(self, *stages: str, workers: int = 2, **environment: str) -> subprocess.Popen[str]:
        """Start a stage as its program; several run one after the other in one process."""
        settings = {
            "DASK_LAION_DASK__CLUSTER__WORKERS": str(workers),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "PYTHONWARNINGS": "ignore",
        }
        program = ("-m", f"workflow.{stages[0]}") if len(stages) == 1 else ("-c", _SEVERAL, *stages)
        return programs.start(
            [sys.executable, *program],
            cwd=self.folder,
            env={**os.environ, **settings, **environment, "PYTHONPATH": str(ROOT)},
        )

    def run(self, *stages: str, workers: int = 2, **environment: str) -> str:
        output = ""
        for stage in stages:
            process = self.start(stage, workers=workers, **environment)
            said = programs.ended(process, _STAGE_S)
            output += said
            assert process.returncode == 0, said
        return output

    def run_in_one_process(self, *stages: str, workers: int = 1, **environment: str) -> str:
        """Run stages where it is of no matter that each is a program: their imports take seconds."""
        process = self.start(*stages, workers=workers, **environment)
        said = programs.ended(process, _STAGE_S)
        assert process.returncode == 0, said
        return said

    def interrupt(self, stage: str, how: signal.Signals, *, workers: int = 2) -> tuple[int, str]:
        """Start a stage, stop it when its first part is finished, and return its status and output."""
        process = self.start(stage, workers=workers)
        work = self.folder / ".laion_dask" / "parts" / stage
        programs.until(lambda: any(work.glob("*/counts.json")), f"a part of {stage} is finished", process)
        # Ctrl-C reaches every process of the terminal's group; kill -9 only the one that is named.
        if how == signal.SIGINT:
            os.killpg(process.pid, how)
        else:
            process.send_signal(how)
        said = programs.ended(process)
        return process.returncode, said

    def metrics(self, stage: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / "metrics" / f"{stage}.json").read_text()))

    def digests(self, *stages: str) -> dict[str, str]:
        """Return the sha256 of every file in the outs of these stages."""
        folder = self.folder / "data"
        files = sorted(path for stage in stages for path in (folder / stage).rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def adopt(self, other: Project, *stages: str) -> None:
        """Take the outs and counts of stages that another project has run."""
        for stage in stages:
            shutil.copytree(other.folder / "data" / stage, self.folder / "data" / stage)
            (self.folder / "metrics").mkdir(exist_ok=True)
            shutil.copy(other.folder / "metrics" / f"{stage}.json", self.folder / "metrics")


def left_behind(folder: Path) -> list[str]:
    """List the command lines of processes that work in a folder or name it, and do not end within two minutes."""
    deadline = time.monotonic() + 120
    while (found := _processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _processes_of(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            inside = str((entry / "cwd").resolve()).startswith(str(folder))
        except OSError:
            continue  # it ended while we looked
        if (inside or str(folder) in command) and int(entry.name) != os.getpid():
            found.append(command)
    return found
