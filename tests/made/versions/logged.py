"""A project whose version can be logged in MLflow: its report, metrics and a lock that fits; and an empty database."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from made.versions import sample_version
from ruamel.yaml import YAML

from laion_dask.params import Params
from laion_dask.report import part, tracking
from laion_dask.report.runs import store
from laion_dask.versions import identity


def write(root: Path, settings: Params) -> None:
    """Write data/, metrics/ and dvc.lock of a small version with its report."""
    data, metrics = sample_version.write(root, links=60, shards=1)
    part.write(data / "report", data, metrics, settings, {})
    stages: dict[str, Any] = {}
    for place, stage in enumerate(identity.STAGES):
        counts = metrics / f"{stage}.json"
        outs = [
            {"path": f"data/{stage}", "hash": "md5", "md5": f"{place:032x}.dir"},
            {"path": f"metrics/{stage}.json", "hash": "md5", "md5": hashlib.md5(counts.read_bytes()).hexdigest()},
        ]
        stages[stage] = {"cmd": f"python -m workflow.{stage}", "outs": outs}
    YAML().dump({"schema": "2.0", "stages": stages}, root / "dvc.lock")


def database(path: Path) -> Path:
    """Make MLflow's database, empty: copies of it spare a test the seconds that its tables take."""
    with store.quiet():
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


def log(root: Path, settings: Params, uri: str | None = None) -> str:
    """Log the version in a folder, and return the run's id."""
    return tracking.log_version(
        report=root / "data" / "report",
        metrics=root / "metrics",
        values=settings.model_dump(mode="json"),
        lock=root / "dvc.lock",
        experiment="test",
        uri=uri,
        release=root / "data" / "release",
        data=root / "data",
    )


def with_threshold(settings: Params, value: float) -> Params:
    """Change the threshold of English: another version of the same files."""
    similarity = settings.filter.similarity.model_copy(update={"en": value})
    return settings.model_copy(update={"filter": settings.filter.model_copy(update={"similarity": similarity})})
