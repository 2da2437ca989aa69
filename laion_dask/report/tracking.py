"""Log a version as one MLflow run; logging the same version again updates this run."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import tempfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from laion_dask.report import run_metrics, run_summary, stage_times
from laion_dask.report.runs import store, view
from laion_dask.schema.reasons import NEW_TEXTS
from laion_dask.versions import identity

VERSION_TAG: Final = store.VERSION_TAG
COMPARISON_TAG: Final = "laion_dask.comparison"
SCORES_TAG: Final = "laion_dask.scores"
EXPERIMENT_TAG: Final = "dvc.experiment"
_PARENT_RUN: Final = "mlflow.parentRunId"
_NOTE: Final = "mlflow.note.content"
# Only the files that describe a release: its tables are data, which DVC stores.
_OF_RELEASE: Final = ("README.md", "manifest.json", "croissant.json")


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
    origin = origin or identity.Origin.here(lock)
    with store.opened(origin.root, uri) as opened:
        name = identity.version(lock, metrics, values)
        digests = identity.dataset_digests(lock)
        parameters = {**values, **(identity.tracked_params(lock) if digests else {})}
        title = str(parameters["release"]["name"])
        where = opened.experiment(experiment)
        tags = _tags(name, parameters, origin) | _weights(metrics)
        numbers, flat = run_metrics.of_version(report, metrics), flat_params(parameters)
        parent = opened.run_of(where, tags.get("laion_dask.parent", ""))
        changed = run_summary.changes(parent.data.params, flat) if parent else []
        label = run_summary.name(title, name, changed, origin.experiment)
        began, ended = _period(data, metrics, store.taken_over(parent, digests))
        run = opened.find_or_create(where, name, label, began=began)
        took = stage_times.metrics(data, metrics) if data is not None else {}
        opened.log_values(run, numbers | took, flat)
        opened.log_curves(run, run_metrics.curves(report))
        tags[_NOTE] = run_summary.description(
            (parent.info.run_name, view.run_address(where, parent.info.run_id)) if parent else None,
            changed,
            parent.data.metrics if parent else {},
            numbers,
            name,
            view.run_address(where, run.info.run_id, "report.html"),
        )
        for key, value in tags.items():
            opened.client.set_tag(run.info.run_id, key, value)
        opened.log_datasets(run, title, digests)
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / run_metrics.NUMBERS
            run_metrics.write_numbers(run_metrics.every_number(report, metrics), table)
            opened.log_files(run, [*_files(report, release), (table, f"tables/{run_metrics.NUMBERS}")])
        opened.client.set_terminated(run.info.run_id, end_time=ended or run.info.end_time)
    return str(run.info.run_id)


def filed(root: Path, uri: str | None = None) -> dict[str, dict[str, str]]:
    """Return the tags of every version's run, by version, from all experiments in the project's MLflow."""
    with store.opened(root, uri) as opened:
        experiments = [str(one.experiment_id) for one in opened.client.search_experiments()]
        tags = [run.data.tags for run in opened.runs(experiments)]
    return {of_run[VERSION_TAG]: of_run for of_run in tags if VERSION_TAG in of_run}


def log_comparison(
    root: Path, name: str, folder: Path, compared: Mapping[str, tuple[str, str]], experiment: str
) -> str:
    """Log figures and tables of a comparison as a run, and return its id; the same name updates the same run.

    `compared` has the commit and the version of each compared version by its label. The runs of DVC experiments among
    them become its child runs; a version of Git's history stays where it is. A run has one parent: the comparison that
    was logged last.
    """
    with store.opened(root) as opened:
        where = opened.experiment(experiment)
        run = opened.find_or_create(where, name, f"compared: {name}", COMPARISON_TAG)
        members = {label: opened.run_of(where, version) for label, (_, version) in compared.items()}
        for member in members.values():
            if member is not None and EXPERIMENT_TAG in member.data.tags:
                opened.client.set_tag(member.info.run_id, _PARENT_RUN, run.info.run_id)
        links = {label: view.run_address(where, one.info.run_id) for label, one in members.items() if one}
        page = (folder / "README.md").read_text(encoding="utf-8")
        commits = {label: commit for label, (commit, _) in compared.items()}
        opened.client.set_tag(run.info.run_id, "laion_dask.versions", json.dumps(commits))
        opened.client.set_tag(run.info.run_id, _NOTE, run_summary.of_comparison(page, links))
        opened.log_files(run, _below(folder))
        opened.client.set_terminated(run.info.run_id, end_time=run.info.end_time)
    return str(run.info.run_id)


def log_scores(
    root: Path, name: str, metrics: Mapping[str, float], values: Mapping[str, Any], folder: Path, experiment: str
) -> str:
    """Log the scores of a model trained on a version as a run, and return its id; equal values update the same run.

    `metrics` are scores and the filter's counts by their names, `values` parameters by section; the files `scores.*` of
    `folder` are its artifacts.
    """
    with store.opened(root) as opened:
        where = opened.experiment(experiment, of_versions=False)
        parameters = flat_params(values)
        content = json.dumps([name, parameters], sort_keys=True).encode()
        run = opened.find_or_create(where, hashlib.sha256(content).hexdigest()[: store.DIGEST_CHARS], name, SCORES_TAG)
        cleaned = {run_metrics.name_of(key): float(value) for key, value in metrics.items()}
        opened.log_values(run, cleaned, parameters)
        opened.log_files(run, [(file, file.name) for file in sorted(folder.glob("scores.*"))])
        opened.client.set_terminated(run.info.run_id, end_time=run.info.end_time)
    return str(run.info.run_id)


def flat_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return every parameter by its dotted name, e.g. `filter.similarity.en`; lists and numbers as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in identity.flat(values)
    }


def _weights(metrics: Path) -> dict[str, str]:
    """Return as tags the sha256 of models by name or stage, of heads by column, of tags by group, of the face detector.

    For models that write texts also the licence of their weights.
    """
    counts = identity.stage_metrics(metrics)
    found = {
        f"{kind}.{name}": digest
        for kind in ("weights_sha256", "heads_sha256", "tags_sha256", "faces_sha256", "masked_text_sha256")
        for name, digest in counts.get("score", {}).get(kind, {}).items()
    }
    for stage, _ in NEW_TEXTS:
        if model := counts.get(stage, {}).get("model"):
            found |= {f"weights_sha256.{stage}": model["weights_sha256"], f"licence.{stage}": model["licence"]}
            steps = model.get("rank", ())
            found |= {f"weights_sha256.{stage}.rank.{at}": step["weights_sha256"] for at, step in enumerate(steps)}
    return {f"laion_dask.{name}": str(value) for name, value in found.items()}


def _period(data: Path | None, metrics: Path, without: Container[str]) -> tuple[int | None, int | None]:
    """Return when the version was built, from its traces, in milliseconds since 1970; None where there are none.

    The stages `without` do not count.
    """
    read = stage_times.read(data, metrics).ours if data is not None else []
    traces = [one for one in read if one.stage not in without]
    if not traces:
        return None, None
    return round(min(one.began for one in traces) * 1000), round(max(one.ended for one in traces) * 1000)


def _tags(name: str, values: Mapping[str, Any], origin: identity.Origin) -> dict[str, str]:
    tags = {VERSION_TAG: name, "laion_dask.name": values["release"]["name"]}
    tags |= {"laion_dask.source": values["crawl"]["source"]}
    tags |= {"mlflow.source.name": "laion_dask", "mlflow.source.type": "PROJECT", "mlflow.user": _user()}
    optional = {
        # The parent of the commit that will contain the new dvc.lock: the version tag identifies the data.
        "mlflow.source.git.commit": origin.commit,
        EXPERIMENT_TAG: origin.experiment,
        "dvc.rev": origin.rev,
        "laion_dask.recipe": origin.recipe(values),
        "laion_dask.parent": origin.parent(name),
    }
    return tags | {key: value for key, value in optional.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return str(os.getuid())


def _files(report: Path, release: Path | None) -> Iterator[tuple[Path, str]]:
    """Yield the files of a report, and those that describe its release, with their paths among the artifacts."""
    yield from _below(report)
    for name in _OF_RELEASE if release is not None else ():
        if release is not None and (release / name).is_file():
            yield release / name, f"release/{name}"


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.relative_to(folder).as_posix()
