"""Open the MLflow database of a project, and write experiments, runs, values and files to it.

The only module that imports mlflow, inside the functions that need it (4 s).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laion_dask.report.runs import places, view

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VERSION_TAG: Final = "laion_dask.version"
# MLflow's limits of one batch, and of a dataset's digest (the length of a DVC directory hash).
_METRICS_A_BATCH: Final = 1_000
_PARAMS_A_BATCH: Final = 100
PARAM_CHARS: Final = 6_000
DIGEST_CHARS: Final = 36


def address(root: Path) -> str:
    """Return where a project's runs are: MLFLOW_TRACKING_URI, else the project's mlflow.db."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


@contextmanager
def quiet() -> Iterator[None]:
    """Import and use MLflow without its messages on the terminal, and without telemetry."""
    # MLflow and Alembic log every migration of a new database, which would hide the funnel on the terminal.
    # A build sends no data that the user did not ask for.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    level = logging.root.manager.disable
    logging.disable(max(level, logging.INFO))
    try:
        with warnings.catch_warnings():
            # MLflow 3.17 calls functions that SQLAlchemy 2.1 deprecates, which we cannot change.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(level)


@contextmanager
def opened(root: Path, uri: str | None = None) -> Iterator[Store]:
    """Open the MLflow of a project, by default that of `address`, quietly."""
    with quiet():
        from mlflow import MlflowClient  # noqa: PLC0415 - 4 s

        root = root.resolve()
        place = uri or address(root)
        client = MlflowClient(tracking_uri=place)
        file = places.database(place)
        store = Store(client, file, relative=file is not None and file.parent == root)
        yield store


@dataclass(frozen=True, slots=True)
class Store:
    """The experiments and runs of a project."""

    client: MlflowClient
    database: Path | None
    """The file, where it is SQLite."""
    relative: bool
    """Whether addresses of artifacts are relative to it: in a project's own database, since others may read one that
    lies elsewhere from any folder."""

    def experiment(self, name: str, *, of_versions: bool = True) -> str:
        """Return the id of an experiment, made or restored if need be; one of versions has the saved view."""
        existing = self.client.get_experiment_by_name(name)
        if existing is None:
            # Artifacts lie beside the database, whatever the working directory; a server chooses its own place.
            location = (self.database.parent / places.FOLDER).as_uri() if self.database else None
            found = str(self.client.create_experiment(name, artifact_location=location))
        else:
            found = str(existing.experiment_id)
            if existing.lifecycle_stage == "deleted":
                self.client.restore_experiment(found)
        if self.relative and self.database:
            places.make_relative(self.database)
        before = existing.tags.get(view.TAG) if existing is not None else None
        if of_versions and before != view.value() and view.is_ours(before):
            self.client.set_experiment_tag(found, view.TAG, view.value())
        return found

    def runs(self, experiment_ids: Sequence[str]) -> Iterator[Run]:
        """Yield every run of some experiments."""
        token: str | None = None
        while experiment_ids:
            page = self.client.search_runs([*experiment_ids], page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def run_of(self, experiment_id: str, name: str, tag: str = VERSION_TAG) -> Run | None:
        """Return the run that has a tag with this value."""
        runs = self.client.search_runs([experiment_id], f"tags.`{tag}` = '{name}'", max_results=1) if name else []
        return runs[0] if runs else None

    def find_or_create(
        self, experiment_id: str, name: str, label: str, tag: str = VERSION_TAG, began: int | None = None
    ) -> Run:
        """Return the run with a tag; `began` is the start of a new one in milliseconds since 1970, by default now."""
        found = self.run_of(experiment_id, name, tag)
        return found or self.client.create_run(experiment_id, start_time=began, tags={tag: name}, run_name=label)

    def log_values(self, run: Run, metrics: Mapping[str, float], parameters: Mapping[str, str]) -> None:
        """Log metrics that are new or have changed, and parameters that are new: nothing is doubled."""
        from mlflow.entities import Metric, Param  # noqa: PLC0415 - 4 s

        now = int(time.time() * 1000)
        new = [Metric(key, value, now, 0) for key, value in metrics.items() if run.data.metrics.get(key) != value]
        for start in range(0, len(new), _METRICS_A_BATCH):
            self.client.log_batch(run.info.run_id, metrics=new[start : start + _METRICS_A_BATCH])
        missing = [
            Param(key, value[:PARAM_CHARS]) for key, value in parameters.items() if value and key not in run.data.params
        ]
        for start in range(0, len(missing), _PARAMS_A_BATCH):
            self.client.log_batch(run.info.run_id, params=missing[start : start + _PARAMS_A_BATCH])

    def log_curves(self, run: Run, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
        """Log curves whose steps are thresholds; a version that is logged again has each point once."""
        from mlflow.entities import Metric  # noqa: PLC0415 - 4 s

        now = int(time.time() * 1000)
        new = {name: points for name, points in curves.items() if points and name not in run.data.metrics}
        points = [Metric(name, value, now, step) for name, steps in new.items() for step, value in steps]
        for start in range(0, len(points), _METRICS_A_BATCH):
            self.client.log_batch(run.info.run_id, metrics=points[start : start + _METRICS_A_BATCH])

    def log_datasets(self, run: Run, name: str, digests: Mapping[str, str]) -> None:
        """Log the outs of the stages as inputs of a run, by their DVC hash."""
        from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415 - 4 s
        from mlflow.data.meta_dataset import MetaDataset  # noqa: PLC0415 - 4 s
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 - 4 s

        inputs = []
        for path, digest in digests.items():
            stage = Path(path).name
            source = CodeDatasetSource(tags={"dvc.out": path, "dvc.md5": digest})
            facts = MetaDataset(source, f"{name}/{stage}", digest[:DIGEST_CHARS]).to_dict()  # type: ignore[abstract]
            dataset = Dataset(facts["name"], facts["digest"], facts["source_type"], facts["source"])
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", stage)]))
        if inputs:
            self.client.log_inputs(run.info.run_id, datasets=inputs)

    def log_files(self, run: Run, files: Iterable[tuple[Path, str]]) -> None:
        """Log files as artifacts, each by its path among them; one that is there already is replaced."""
        beside = self.database.parent if self.database else Path.cwd()
        folder = places.local(str(run.info.artifact_uri), beside)
        for file, name in files:
            if folder is None:
                above = Path(name).parent.as_posix()
                self.client.log_artifact(run.info.run_id, str(file), None if above == "." else above)
                continue
            # MLflow would read a relative address from the working directory, which may be the copy in which DVC runs
            # an experiment, and copy modes: what was read-only could not be replaced.
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.copyfile(file, target)


def taken_over(parent: Run | None, digests: Mapping[str, str]) -> set[str]:
    """Return the stages whose outs are those of the version before: they were not built for this one."""
    inputs = parent.inputs if parent is not None else None
    before = {one.dataset.digest for one in inputs.dataset_inputs} if inputs is not None else set()
    return {Path(path).name for path, digest in digests.items() if digest[:DIGEST_CHARS] in before}
