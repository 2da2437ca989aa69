"""Whole stages for benchmarks: a project folder with the outs that a stage reads, and the stage as a program in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import psutil
from ruamel.yaml import YAML

from benchmarks.bars import BenchError
from benchmarks.environments import ROOT

_EVERY_S: Final = 0.05


def make(
    folder: Path,
    *,
    data: Mapping[str, Path],
    metrics: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any] | None],
) -> None:
    """Make a project folder: links to outs of earlier stages, their metrics, params.yaml, an empty ledger of removals.

    `values` changes parameters by section; a section that is None is switched off. The demo's list of known content is
    left out unless they name one: it is made by `make repro`, which a benchmark does not ask for.
    """
    (folder / "data").mkdir(parents=True)
    (folder / "metrics").mkdir()
    for name, out in data.items():
        (folder / "data" / name).symlink_to(out.resolve())
    for name, counts in metrics.items():
        (folder / "metrics" / f"{name}.json").write_text(json.dumps(counts))
    (folder / "removals.csv").write_text("kind,value,reason,date,source\n")
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["catalog"]["lists"] = []
    for section, changes in values.items():
        if changes is None:
            params[section] = None
        else:
            params[section] |= dict(changes)
    yaml.dump(params, folder / "params.yaml")


def start(stage: str, folder: Path, workers: int, log: IO[str]) -> psutil.Popen:
    """Start a stage as its users run it, with so many local workers, in a process group of its own."""
    settings = {
        "DASK_LAION_DASK__CLUSTER__KIND": "local",
        "DASK_LAION_DASK__CLUSTER__WORKERS": str(workers),
        "LAION_DASK_HOME": ".laion_dask",
        # Whatever server the environment names: a run of a benchmark is no version of anybody's data set.
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder.resolve() / 'mlflow.db'}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    # The embedded PostgreSQL, whatever else the environment names.
    environment = {name: value for name, value in os.environ.items() if name != "LAION_DASK_DSN"}
    return psutil.Popen(
        [sys.executable, "-m", f"workflow.{stage}"],
        cwd=folder,
        env={**environment, **settings},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def counts(folder: Path, stage: str) -> dict[str, Any]:
    """Read the metrics of a stage that has run in a project folder."""
    return dict(json.loads((folder / "metrics" / f"{stage}.json").read_text()))


def run(stage: str, folder: Path, workers: int, look: Callable[[psutil.Popen], object]) -> float:
    """Run a stage to its end, call `look` twenty times a second meanwhile, and return its seconds.

    Raises `BenchError` with what the stage has said where it fails.
    """
    began = time.monotonic()
    with (folder / "log").open("w+") as log:
        driver = start(stage, folder, workers, log)
        try:
            while driver.poll() is None:
                look(driver)
                time.sleep(_EVERY_S)
        finally:
            # It has a session of its own, so that Ctrl-C does not reach it.
            if driver.poll() is None:
                driver.terminate()
                driver.wait()
        seconds = time.monotonic() - began
        if driver.returncode:
            log.seek(0)
            message = f"the stage {stage} failed:\n{log.read()}"
            raise BenchError(message)
    return seconds
