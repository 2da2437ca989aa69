"""The tracked files of a version in, one MLflow run out: found again by its content, and filled in rather than doubled.

The only module that imports mlflow, and it does so inside the functions that need it (4 s).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML

from laion_dask import linkrot, params, rates
from laion_dask.verdict import FUNNEL, REASONS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VERSION_TAG: Final = "laion_dask.version"
# The stages whose outs make a version; the report is a picture of it.
STAGES: Final = ("crawl", "extract", "catalog", "download", "score", "filter", "release")
# MLflow's limits: of one batch, and of a dataset's digest (just a DVC directory hash).
_METRICS_A_BATCH: Final = 1_000
_PARAMS_A_BATCH: Final = 100
_PARAM_CHARS: Final = 6_000
_DIGEST_CHARS: Final = 36
_METRIC_NAME: Final = re.compile(r"[^\w\-. :/]")


def dataset_digests(lock: Path) -> dict[str, str]:
    """Return DVC's hash of each data out by its path, in the order of the stages.

    Empty where dvc.lock is absent, lacks one of the stages, or does not fit the metrics on disk, as after a stage was
    run without DVC: a digest of other data would be worse than none.
    """
    if not lock.is_file():
        return {}
    stages = (YAML(typ="safe", pure=True).load(lock) or {}).get("stages", {})
    digests: dict[str, str] = {}
    for stage in STAGES:
        outs = {out["path"]: str(out.get("md5", "")) for out in stages.get(stage, {}).get("outs", [])}
        metrics = {path: digest for path, digest in outs.items() if path == f"metrics/{stage}.json"}
        data = {path: digest for path, digest in outs.items() if path not in metrics and digest}
        if not data or not all(_md5(lock.parent / path) == digest for path, digest in metrics.items()):
            return {}
        digests |= data
    return digests


def version(lock: Path, metrics: Path, settings: params.Params) -> str:
    """Return the digest that names a version: DVC's hashes and the parameters; without hashes, the stages' metrics."""
    content: Mapping[str, Any] = dataset_digests(lock) or _stage_metrics(metrics)
    text = json.dumps([content, settings.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def log_version(
    *, report: Path, metrics: Path, settings: params.Params, lock: Path, experiment: str, uri: str | None
) -> str:
    """File the version in MLflow and return the run's id; the same version again fills in the same run.

    `report` is the folder with statistics.json, truth.json, report.html and figures/, `metrics` that of the stages'
    counts. Without `uri` the run goes to MLFLOW_TRACKING_URI, else to mlflow.db and mlruns/ of the project.
    """
    with quiet():
        from mlflow import MlflowClient  # noqa: PLC0415 - 4 s

        root = project_root(lock)
        place = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=place)
        name = version(lock, metrics, settings)
        run = _find_or_create(client, _experiment(client, experiment, place), name, settings)
        _log_values(client, run, flat_metrics(report, metrics), flat_params(settings))
        for key, value in (_tags(name, settings, root) | _weights(metrics)).items():
            client.set_tag(run.info.run_id, key, value)
        _log_datasets(client, run, settings.release.name, dataset_digests(lock))
        _log_files(client, run, report)
        client.set_terminated(run.info.run_id, end_time=run.info.end_time)
    return str(run.info.run_id)


def project_root(lock: Path) -> Path:
    """Return the folder of the real repository: `dvc exp run --temp` works in a copy that is deleted afterwards."""
    folder = lock.resolve().parent
    before, inside, _ = folder.as_posix().partition("/.dvc/tmp/exps/")
    if inside:
        return Path(before)
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Path(top) if top else folder


def flat_params(settings: params.Params) -> dict[str, str]:
    """Return every parameter by its dotted name, e.g. `filter.similarity.en`; lists and numbers as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in _flat(settings.model_dump(mode="json"))
    }


def flat_metrics(report: Path, metrics: Path) -> dict[str, float]:
    """Return every number by a name that is the same in every version.

    `<stage>.<ledger>.seen|kept|dropped.<reason>` with zeros for reasons that did not occur, other counts of the stages,
    `safety.<name>.<split>.rate|low|high`, `truth.<decision>.precision|recall`, `kept.<split>`, and where an earlier
    version was compared with, `linkrot.<class>.rate|low|high` and `linkrot.<year>.<class>.rate`.
    And the names of `rates.metrics`.
    """
    values: dict[str, Any] = {
        f"{stage}.{ledger}.dropped.{reason}": 0 for stage, ledger in FUNNEL for reason in REASONS.get(stage, {})
    }
    values |= dict(_flat(_stage_metrics(metrics)))
    statistics = json.loads((report / "statistics.json").read_text(encoding="utf-8"))
    for rate in statistics["safety"]:
        if rate["rate"] is not None:
            values |= {f"safety.{rate['name']}.{rate['split']}.{part}": rate[part] for part in ("rate", "low", "high")}
    values |= {f"kept.{split['split']}": split["kept"] for split in statistics["splits"]}
    values |= rates.metrics(report)
    if (report / "linkrot.json").is_file():
        values |= linkrot.metrics(linkrot.read(report / "linkrot.json"))
    for decision in json.loads((report / "truth.json").read_text(encoding="utf-8")):
        values |= {f"truth.{decision['name']}.{part}": decision[part] for part in ("precision", "recall")}
    return {
        _METRIC_NAME.sub("_", name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _stage_metrics(folder: Path) -> dict[str, Any]:
    files = {stage: folder / f"{stage}.json" for stage in STAGES}
    return {stage: json.loads(path.read_text(encoding="utf-8")) for stage, path in files.items() if path.is_file()}


def _weights(metrics: Path) -> dict[str, str]:
    """Return the sha256 of each model's weights as tags, by the model's name in `score.models`."""
    digests = _stage_metrics(metrics).get("score", {}).get("weights_sha256", {})
    return {f"laion_dask.weights_sha256.{name}": str(digest) for name, digest in digests.items()}


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else ""


def _git(folder: Path, *arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@contextmanager
def quiet() -> Iterator[None]:
    """Import and use MLflow without its progress on the terminal, and without telemetry."""
    # MLflow and Alembic tell every migration of a new database; the terminal belongs to the funnel.
    # A build sends nothing anywhere that it was not asked to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        with warnings.catch_warnings():
            # MLflow 3.17 speaks to SQLAlchemy 2.1 in words that this deprecates: nothing that we could change.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # Beside the database, wherever the process was started; a server decides for itself.
    database = uri.removeprefix("sqlite:///")
    location = (Path(database).resolve().parent / "mlruns").as_uri() if database != uri else None
    return str(client.create_experiment(name, artifact_location=location))


def _find_or_create(client: MlflowClient, experiment_id: str, name: str, settings: params.Params) -> Run:
    runs = client.search_runs([experiment_id], f"tags.`{VERSION_TAG}` = '{name}'", max_results=1)
    if runs:
        return runs[0]
    label = os.environ.get("DVC_EXP_NAME") or f"{settings.release.name}-{name[:8]}"
    return client.create_run(experiment_id, tags={VERSION_TAG: name}, run_name=label)


def _log_values(client: MlflowClient, run: Run, metrics: Mapping[str, float], parameters: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, Param  # noqa: PLC0415 - 4 s

    # Only what is new or differs is sent: a version that is filed again has no second point in any of its metrics.
    now = int(time.time() * 1000)
    new = [Metric(key, value, now, 0) for key, value in metrics.items() if run.data.metrics.get(key) != value]
    for start in range(0, len(new), _METRICS_A_BATCH):
        client.log_batch(run.info.run_id, metrics=new[start : start + _METRICS_A_BATCH])
    missing = [
        Param(key, value[:_PARAM_CHARS]) for key, value in parameters.items() if value and key not in run.data.params
    ]
    for start in range(0, len(missing), _PARAMS_A_BATCH):
        client.log_batch(run.info.run_id, params=missing[start : start + _PARAMS_A_BATCH])


def _tags(name: str, settings: params.Params, root: Path) -> dict[str, str]:
    tags = {VERSION_TAG: name, "laion_dask.name": settings.release.name, "laion_dask.source": settings.crawl.source}
    tags |= {"mlflow.source.name": "laion_dask", "mlflow.source.type": "PROJECT"}
    # The commit before the one that will hold the new dvc.lock: the version above is what identifies the data.
    if commit := _git(root, "rev-parse", "HEAD"):
        tags["mlflow.source.git.commit"] = commit
    if experiment := os.environ.get("DVC_EXP_NAME"):
        tags["dvc.experiment"] = experiment
    return tags


def _log_files(client: MlflowClient, run: Run, report: Path) -> None:
    # DVC's outs may be read-only, and MLflow copies modes: the second filing could not replace the files of the first.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(report, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
        client.log_artifacts(run.info.run_id, folder)


def _log_datasets(client: MlflowClient, run: Run, name: str, digests: Mapping[str, str]) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415 - 4 s
    from mlflow.data.meta_dataset import MetaDataset  # noqa: PLC0415 - 4 s
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 - 4 s

    inputs = []
    for path, digest in digests.items():
        stage = Path(path).name
        source = CodeDatasetSource(tags={"dvc.out": path, "dvc.md5": digest})
        facts = MetaDataset(source, f"{name}/{stage}", digest[:_DIGEST_CHARS]).to_dict()  # type: ignore[abstract]
        dataset = Dataset(facts["name"], facts["digest"], facts["source_type"], facts["source"])
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", stage)]))
    if inputs:
        client.log_inputs(run.info.run_id, datasets=inputs)
