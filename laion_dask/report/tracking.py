"""Log a version as one MLflow run; logging the same version again updates this run.

The only module that imports mlflow, inside the functions that need it (4 s).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laion_dask.report import stage_times
from laion_dask.schema.reasons import FUNNEL, NEW_TEXTS, REASONS
from laion_dask.statistics import new_texts, rates
from laion_dask.versions import identity, linkrot

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

VERSION_TAG: Final = "laion_dask.version"
COMPARISON_TAG: Final = "laion_dask.comparison"
SCORES_TAG: Final = "laion_dask.scores"
# MLflow's limits of one batch, and of a dataset's digest (the length of a DVC directory hash).
_METRICS_A_BATCH: Final = 1_000
_PARAMS_A_BATCH: Final = 100
_PARAM_CHARS: Final = 6_000
_DIGEST_CHARS: Final = 36
# MLflow's comparison shows seven metrics without scrolling, sorted by name: these come first, in pipeline order.
_GLANCE: Final = {
    "1 links seen": "extract.links.seen",
    "2 downloaded": "filter.pairs.seen",
    "3 pairs kept": "kept.all",
    "4 unsafe kept": "safety.unsafe_of_kept.all.rate",
    "5 watermark kept": "safety.watermark_of_kept.all.rate",
    "6 precision": "truth.keep.precision",
    "7 recall": "truth.keep.recall",
}
# Only the files that describe a release: its tables are data, which DVC stores.
_OF_RELEASE: Final = ("README.md", "manifest.json", "croissant.json")
_METRIC_NAME: Final = re.compile(r"[^\w\-. :/]")


def log_version(
    *,
    report: Path,
    metrics: Path,
    values: Mapping[str, Any],
    lock: Path,
    experiment: str,
    uri: str | None,
    release: Path | None = None,
    data: Path | None = None,
    origin: identity.Origin | None = None,
) -> str:
    """Log the version in MLflow and return the run's id; the same version updates the same run.

    `report` is the folder with statistics.json, truth.json, report.html, figures/ and tables/, `metrics` that of the
    stages' counts, `values` are parameters by section; those in `lock` take precedence. With `release`, card and
    manifest are logged too; with `data`, the folder of the outs, the times of stages with a trace of this version.
    `origin` is the files' place in Git's history, by default read from Git and DVC. Without `uri` the run goes to
    MLFLOW_TRACKING_URI, else to mlflow.db and mlruns/ of the project.
    """
    with quiet():
        from mlflow import MlflowClient  # noqa: PLC0415 - 4 s

        origin = origin or identity.Origin.here(lock)
        place = uri or _place(origin.root)
        client = MlflowClient(tracking_uri=place)
        name = identity.version(lock, metrics, values)
        digests = identity.dataset_digests(lock)
        parameters = {**values, **(identity.tracked_params(lock) if digests else {})}
        title = str(parameters["release"]["name"])
        label = origin.experiment or f"{title}-{name[:8]}"
        run = _find_or_create(client, _experiment(client, experiment, place), name, label)
        took = stage_times.metrics(data, metrics) if data is not None else {}
        _log_values(client, run, flat_metrics(report, metrics) | took, flat_params(parameters))
        for key, value in (_tags(name, parameters, origin) | _weights(metrics)).items():
            client.set_tag(run.info.run_id, key, value)
        _log_datasets(client, run, title, digests)
        _log_files(client, run, report, release)
        client.set_terminated(run.info.run_id, end_time=run.info.end_time)
    return str(run.info.run_id)


def filed(root: Path, uri: str | None = None) -> dict[str, dict[str, str]]:
    """Return the tags of every version's run, by version, from all experiments in the project's MLflow."""
    with quiet():
        from mlflow import MlflowClient  # noqa: PLC0415 - 4 s

        client = MlflowClient(tracking_uri=uri or _place(root))
        by_version: dict[str, dict[str, str]] = {}
        for experiment in client.search_experiments():
            token: str | None = None
            while True:
                page = client.search_runs([experiment.experiment_id], page_token=token)
                tags = [run.data.tags for run in page if VERSION_TAG in run.data.tags]
                by_version |= {of_run[VERSION_TAG]: of_run for of_run in tags}
                token = page.token
                if not token:
                    break
        return by_version


def log_comparison(root: Path, name: str, folder: Path, versions: Mapping[str, str], experiment: str) -> str:
    """Log figures and tables of a comparison as a run, and return its id; the same name updates the same run.

    `versions` has the commit of each compared version by its label.
    """
    with quiet():
        from mlflow import MlflowClient  # noqa: PLC0415 - 4 s

        place = _place(root)
        client = MlflowClient(tracking_uri=place)
        where = _experiment(client, experiment, place)
        runs = client.search_runs([where], f"tags.`{COMPARISON_TAG}` = '{name}'", max_results=1)
        run = runs[0] if runs else client.create_run(where, tags={COMPARISON_TAG: name}, run_name=f"compared: {name}")
        client.set_tag(run.info.run_id, "laion_dask.versions", json.dumps(versions))
        client.set_tag(run.info.run_id, "mlflow.note.content", (folder / "README.md").read_text(encoding="utf-8"))
        client.log_artifacts(run.info.run_id, str(folder))
        client.set_terminated(run.info.run_id, end_time=run.info.end_time)
    return str(run.info.run_id)


def log_scores(
    root: Path, name: str, metrics: Mapping[str, float], values: Mapping[str, Any], folder: Path, experiment: str
) -> str:
    """Log the scores of a model trained on a version as a run, and return its id; equal values update the same run.

    `metrics` are scores and the filter's counts by their names, `values` parameters by section; the files `scores.*` of
    `folder` are its artifacts.
    """
    with quiet():
        from mlflow import MlflowClient  # noqa: PLC0415 - 4 s

        place = _place(root)
        client = MlflowClient(tracking_uri=place)
        where = _experiment(client, experiment, place)
        parameters = flat_params(values)
        content = json.dumps([name, parameters], sort_keys=True).encode()
        run = _find_or_create(client, where, hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS], name, SCORES_TAG)
        cleaned = {_METRIC_NAME.sub("_", key): float(value) for key, value in metrics.items()}
        _log_values(client, run, cleaned, parameters)
        for file in sorted(folder.glob("scores.*")):
            client.log_artifact(run.info.run_id, str(file))
        client.set_terminated(run.info.run_id, end_time=run.info.end_time)
    return str(run.info.run_id)


def _place(root: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


def flat_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return every parameter by its dotted name, e.g. `filter.similarity.en`; lists and numbers as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in identity.flat(values)
    }


def flat_metrics(report: Path, metrics: Path) -> dict[str, float]:
    """Return every number by a name that is the same in every version.

    `<stage>.<ledger>.seen|kept|dropped.<reason>` with zeros for reasons that did not occur, other counts of the stages,
    `safety.<name>.<split>.rate|low|high`, `truth.<decision>.precision|recall`, `kept.<split>`, the names of
    `rates.metrics` and `new_texts.metrics`, and after a comparison with an earlier download
    `linkrot.<class>.rate|low|high` and `linkrot.<year>.<class>.rate`. Seven of them are repeated under `at a glance/`.
    """
    values: dict[str, Any] = {
        f"{stage}.{ledger}.dropped.{reason}": 0
        for stage, ledger in (*FUNNEL, *NEW_TEXTS)
        for reason in REASONS.get(stage, {})
    }
    values |= dict(identity.flat(identity.stage_metrics(metrics)))
    statistics = json.loads((report / "statistics.json").read_text(encoding="utf-8"))
    for rate in statistics["safety"]:
        if rate["rate"] is not None:
            values |= {f"safety.{rate['name']}.{rate['split']}.{part}": rate[part] for part in ("rate", "low", "high")}
    values |= {f"kept.{split['split']}": split["kept"] for split in statistics["splits"]}
    values |= rates.metrics(report)
    if (report / new_texts.NAME).is_file():  # versions of earlier code have none
        values |= new_texts.metrics(report)
    if (report / "linkrot.json").is_file():
        values |= linkrot.metrics(linkrot.read(report / "linkrot.json"))
    for decision in json.loads((report / "truth.json").read_text(encoding="utf-8")):
        values |= {f"truth.{decision['name']}.{part}": decision[part] for part in ("precision", "recall")}
    values |= {f"at a glance/{name}": values[key] for name, key in _GLANCE.items() if key in values}
    return {
        _METRIC_NAME.sub("_", name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _weights(metrics: Path) -> dict[str, str]:
    """Return as tags the sha256 of models by name or stage, of heads by column, of tags by group, of the face detector.

    For models that write texts also the licence of their weights.
    """
    counts = identity.stage_metrics(metrics)
    found = {
        f"{kind}.{name}": digest
        for kind in ("weights_sha256", "heads_sha256", "tags_sha256", "faces_sha256")
        for name, digest in counts.get("score", {}).get(kind, {}).items()
    }
    for stage, _ in NEW_TEXTS:
        if model := counts.get(stage, {}).get("model"):
            found |= {f"weights_sha256.{stage}": model["weights_sha256"], f"licence.{stage}": model["licence"]}
            steps = model.get("rank", ())
            found |= {f"weights_sha256.{stage}.rank.{at}": step["weights_sha256"] for at, step in enumerate(steps)}
    return {f"laion_dask.{name}": str(value) for name, value in found.items()}


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


def _experiment(client: MlflowClient, name: str, uri: str) -> str:
    existing = client.get_experiment_by_name(name)
    if existing is not None:
        if existing.lifecycle_stage == "deleted":
            client.restore_experiment(existing.experiment_id)
        return str(existing.experiment_id)
    # Artifacts lie beside the database, whatever the working directory; a server chooses its own place.
    database = uri.removeprefix("sqlite:///")
    location = (Path(database).resolve().parent / "mlruns").as_uri() if database != uri else None
    return str(client.create_experiment(name, artifact_location=location))


def _find_or_create(client: MlflowClient, experiment_id: str, name: str, label: str, tag: str = VERSION_TAG) -> Run:
    runs = client.search_runs([experiment_id], f"tags.`{tag}` = '{name}'", max_results=1)
    return runs[0] if runs else client.create_run(experiment_id, tags={tag: name}, run_name=label)


def _log_values(client: MlflowClient, run: Run, metrics: Mapping[str, float], parameters: Mapping[str, str]) -> None:
    from mlflow.entities import Metric, Param  # noqa: PLC0415 - 4 s

    # Only new or changed values are sent: so a version that is logged again has one point in each metric.
    now = int(time.time() * 1000)
    new = [Metric(key, value, now, 0) for key, value in metrics.items() if run.data.metrics.get(key) != value]
    for start in range(0, len(new), _METRICS_A_BATCH):
        client.log_batch(run.info.run_id, metrics=new[start : start + _METRICS_A_BATCH])
    missing = [
        Param(key, value[:_PARAM_CHARS]) for key, value in parameters.items() if value and key not in run.data.params
    ]
    for start in range(0, len(missing), _PARAMS_A_BATCH):
        client.log_batch(run.info.run_id, params=missing[start : start + _PARAMS_A_BATCH])


def _tags(name: str, values: Mapping[str, Any], origin: identity.Origin) -> dict[str, str]:
    tags = {VERSION_TAG: name, "laion_dask.name": values["release"]["name"]}
    tags |= {"laion_dask.source": values["crawl"]["source"]}
    tags |= {"mlflow.source.name": "laion_dask", "mlflow.source.type": "PROJECT"}
    optional = {
        # The parent of the commit that will contain the new dvc.lock: the version tag identifies the data.
        "mlflow.source.git.commit": origin.commit,
        "dvc.experiment": origin.experiment,
        "dvc.rev": origin.rev,
        "laion_dask.recipe": origin.recipe(values),
        "laion_dask.parent": origin.parent(name),
    }
    return tags | {key: value for key, value in optional.items() if value}


def _log_files(client: MlflowClient, run: Run, report: Path, release: Path | None) -> None:
    # DVC's outs may be read-only, and MLflow copies modes: logging again could not replace the files.
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(report, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
        for name in _OF_RELEASE if release is not None else ():
            if release is not None and (release / name).is_file():
                (Path(folder) / "release").mkdir(exist_ok=True)
                shutil.copyfile(release / name, Path(folder) / "release" / name)
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
