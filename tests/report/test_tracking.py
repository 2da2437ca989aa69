"""One run for each version, in a database of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made.processes import programs
from made.versions import sample_version, traces
from ruamel.yaml import YAML

from laion_dask.params import Params
from laion_dask.report import part, tracking
from laion_dask.versions import identity

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Path:
    """A version with report, and a lock that fits its metrics."""
    root = tmp_path_factory.mktemp("project")
    data, metrics = sample_version.write(root, links=60, shards=1)
    part.write(data / "report", data, metrics, defaults, {})
    stages: dict[str, Any] = {}
    for place, stage in enumerate(identity.STAGES):
        counts = metrics / f"{stage}.json"
        outs = [
            {"path": f"data/{stage}", "hash": "md5", "md5": f"{place:032x}.dir"},
            {"path": f"metrics/{stage}.json", "hash": "md5", "md5": hashlib.md5(counts.read_bytes()).hexdigest()},
        ]
        stages[stage] = {"cmd": f"python -m workflow.{stage}", "outs": outs}
    YAML().dump({"schema": "2.0", "stages": stages}, root / "dvc.lock")
    return root


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: the migrations take seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    with tracking.quiet():
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def project(built: Path, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "project"
    shutil.copytree(built, root)
    # Beside the manifest: what describes a release is filed, its tables are not.
    for name in ("README.md", "croissant.json", "en-00000.parquet"):
        (root / "data" / "release" / name).write_text("{}")
    shutil.copyfile(database, root / "mlflow.db")
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return root


def log(project: Path, settings: Params, uri: str | None = None) -> str:
    return tracking.log_version(
        report=project / "data" / "report",
        metrics=project / "metrics",
        values=settings.model_dump(mode="json"),
        lock=project / "dvc.lock",
        experiment="test",
        uri=uri,
        release=project / "data" / "release",
        data=project / "data",
    )


@pytest.fixture
def client(project: Path) -> Iterator[MlflowClient]:
    with tracking.quiet():
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")


def with_threshold(settings: Params, value: float) -> Params:
    similarity = settings.filter.similarity.model_copy(update={"en": value})
    return settings.model_copy(update={"filter": settings.filter.model_copy(update={"similarity": similarity})})


@pytest.mark.slow
def test_a_run_has_parameters_counts_safety_truth_datasets_and_files(
    project: Path,
    client: MlflowClient,
    defaults: Params,
) -> None:
    run = client.get_run(log(project, defaults))
    assert run.info.status == "FINISHED"
    assert run.data.params["filter.similarity.en"] == str(defaults.filter.similarity.en)
    assert len(run.data.params) == len(tracking.flat_params(defaults.model_dump(mode="json")))
    counts = sample_version.load_metrics(project / "metrics")
    found = run.data.metrics
    assert found["extract.links.seen"] == counts["extract"]["links"]["seen"]
    assert found["filter.pairs.dropped.low_similarity"] == counts["filter"]["pairs"]["dropped"]["low_similarity"]
    assert found["filter.pairs.dropped.few_words"] == 0
    assert (
        found["safety.unsafe_of_scored.en.low"]
        <= found["safety.unsafe_of_scored.en.rate"]
        <= found["safety.unsafe_of_scored.en.high"]
    )
    assert found["truth.duplicate_pair.precision"] == 1
    glance = {name: value for name, value in found.items() if name.startswith("at a glance/")}
    # MLflow's comparison sorts by name and shows seven rows: these must be them.
    assert sorted(found)[: len(glance)] == sorted(glance)
    assert len(glance) == 7
    # A longer name is cut there.
    assert max(map(len, glance)) <= 28
    assert glance["at a glance/3 pairs kept"] == found["kept.all"]
    assert glance["at a glance/4 unsafe kept"] == found["safety.unsafe_of_kept.all.rate"]
    assert found["kept.all"] == counts["release"]["pairs"]["kept"]
    inputs = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert inputs == {f"demo/{stage}": f"{place:032x}.dir" for place, stage in enumerate(identity.STAGES)}
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {
        *("report.html", "statistics.json", "new_texts.json", "rates.json", "truth.json"),
        *("figures", "tables", "release"),
    }
    described = {item.path for item in client.list_artifacts(run.info.run_id, "release")}
    assert described == {"release/README.md", "release/croissant.json", "release/manifest.json"}
    assert run.info.artifact_uri == (project / "mlruns" / run.info.run_id / "artifacts").as_uri()
    assert run.data.tags["laion_dask.name"] == "demo"
    assert run.data.tags["laion_dask.weights_sha256.demo"] == "f" * 64
    assert run.data.tags["laion_dask.weights_sha256.caption.rank.0"] == "c" * 64
    assert run.data.tags["laion_dask.licence.translate"] == "mit"
    assert 0 < found["texts.caption.written"] < found["texts.caption.pairs"] == found["caption.captions.seen"]
    assert 0 <= found["texts.translate.more_similar"] <= 1
    assert run.data.tags["laion_dask.heads_sha256.aesthetic"] == "e" * 64


@pytest.mark.slow
def test_the_same_version_again_is_the_same_run_with_nothing_doubled(
    project: Path,
    client: MlflowClient,
    defaults: Params,
) -> None:
    first = log(project, defaults)
    # DVC may have linked its outs from the cache, which makes them read-only.
    for path in (project / "data" / "report").rglob("*.*"):
        path.chmod(stat.S_IRUSR)
    assert log(project, defaults) == first
    assert log(project, defaults) == first
    run = client.get_run(first)
    assert len(client.search_runs([run.info.experiment_id])) == 1
    assert len(client.get_metric_history(first, "kept.all")) == 1
    assert len(run.inputs.dataset_inputs) == len(identity.STAGES)


def took(run: Any) -> dict[str, float]:  # noqa: ANN401 - a run of MLflow
    return {name: value for name, value in run.data.metrics.items() if name.startswith("stage.")}


@pytest.mark.slow
def test_what_stages_took_is_filed_where_the_trace_is_of_this_version_and_lasts(
    project: Path, client: MlflowClient, defaults: Params
) -> None:
    data, metrics = project / "data", project / "metrics"
    first = log(project, defaults)
    assert took(client.get_run(first)) == {}
    for stage in ("download", "score", "filter"):
        traces.write(data, metrics, stage, seconds=7_200)
    (data / "filter" / "more.txt").write_text("of another version")
    assert log(project, defaults) == first
    filed = took(client.get_run(first))
    assert {name.split(".")[1] for name in filed} == {"download", "score"}
    assert filed["stage.score.processor_hours"] == 4.0
    assert filed["stage.score.peak_memory_gb"] == 2.0
    assert filed["stage.score.seconds"] >= 0
    # Again, and then without a trace, as where a lost database is rebuilt.
    assert log(project, defaults) == first
    assert len(client.get_metric_history(first, "stage.score.processor_hours")) == 1
    shutil.rmtree(data / "trace")
    assert log(project, defaults) == first
    assert took(client.get_run(first)) == filed


def test_scores_of_a_model_are_one_run_a_version_that_more_seeds_go_on_with(
    project: Path, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "scores.csv").write_text("version,acc1\n")
    values = {"scale": {"lr": 0.001}, "filter": {"min_side_px": 64}}

    def file(name: str, **metrics: float) -> str:
        return tracking.log_scores(project, name, metrics, values, tmp_path, "scores")

    first = file("data at demo", kept=2418, acc1=0.25)
    assert file("data at demo", kept=2418, acc1=0.26) == first
    assert file("all at demo", kept=3485, acc1=0.2) != first
    run = client.get_run(first)
    assert run.data.metrics == {"kept": 2418, "acc1": 0.26}
    assert run.data.params == {"scale.lr": "0.001", "filter.min_side_px": "64"}
    assert len(client.get_metric_history(first, "kept")) == 1
    assert [file.path for file in client.list_artifacts(first)] == ["scores.csv"]
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_another_threshold_or_other_data_is_another_run(
    project: Path,
    client: MlflowClient,
    defaults: Params,
) -> None:
    first = log(project, defaults)
    second = log(project, with_threshold(defaults, 0.35))
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace(f"{3:032x}.dir", f"{9:032x}.dir"))
    third = log(project, defaults)
    assert len({first, second, third}) == 3
    assert [client.get_run(run).data.params["filter.similarity.en"] for run in (first, second)] == ["0.25", "0.35"]


@pytest.mark.slow
def test_without_a_lock_the_counts_name_the_version_and_no_digest_is_claimed(
    project: Path,
    client: MlflowClient,
    defaults: Params,
) -> None:
    (project / "dvc.lock").unlink()
    first = log(project, defaults)
    assert log(project, defaults) == first
    assert client.get_run(first).inputs.dataset_inputs == []
    counts = project / "metrics" / "filter.json"
    counts.write_text(counts.read_text().replace('"seen": ', '"seen": 1'))
    assert log(project, defaults) != first


def test_the_name_of_a_dvc_experiment_names_the_run(
    project: Path,
    client: MlflowClient,
    defaults: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lower-threshold")
    run = client.get_run(log(project, defaults))
    assert run.info.run_name == "lower-threshold"
    assert run.data.tags["dvc.experiment"] == "lower-threshold"


@pytest.mark.slow
def test_the_environment_says_where_runs_go_and_an_argument_overrules_it(
    project: Path, database: Path, tmp_path: Path, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (project / "mlflow.db").read_bytes()
    for name in ("environment", "argument"):
        (tmp_path / name).mkdir()
        shutil.copyfile(database, tmp_path / name / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'environment' / 'mlflow.db'}")
    one = log(project, defaults)
    two = log(project, defaults, uri=f"sqlite:///{tmp_path / 'argument' / 'mlflow.db'}")
    assert (tmp_path / "environment" / "mlruns" / one).is_dir()
    assert (tmp_path / "argument" / "mlruns" / two).is_dir()
    assert (project / "mlflow.db").read_bytes() == before


def test_filing_leaves_terminal_logging_and_warnings_as_they_were(
    project: Path, defaults: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    before = logging.root.manager.disable, list(warnings.filters)
    log(project, defaults)
    assert (logging.root.manager.disable, list(warnings.filters)) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda root: (root / "dvc.lock").unlink(), id="no lock"),
        pytest.param(lambda root: (root / "dvc.lock").write_text("schema: '2.0'\n"), id="lock without stages"),
        pytest.param(lambda root: (root / "metrics" / "score.json").write_text("{}"), id="stage run without DVC"),
        pytest.param(lambda root: (root / "metrics" / "score.json").unlink(), id="metrics gone"),
    ],
)
def test_digests_that_may_be_of_other_data_are_left_out(built: Path, tmp_path: Path, damage: Any) -> None:  # noqa: ANN401
    root = tmp_path / "project"
    shutil.copytree(built, root)
    assert list(identity.dataset_digests(root / "dvc.lock")) == [f"data/{stage}" for stage in identity.STAGES]
    damage(root)
    assert identity.dataset_digests(root / "dvc.lock") == {}


def test_a_copy_that_dvc_runs_an_experiment_in_belongs_to_the_real_repository(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp1"
    copy.mkdir(parents=True)
    assert identity.project_root(copy / "dvc.lock") == tmp_path.resolve()
    git = shutil.which("git")
    if git:
        programs.finished([git, "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "deep").mkdir()
    assert identity.project_root(tmp_path / "deep" / "dvc.lock") == (tmp_path if git else tmp_path / "deep").resolve()


def test_names_of_metrics_are_those_that_mlflow_takes(built: Path) -> None:
    metrics = tracking.flat_metrics(built / "data" / "report", built / "metrics")
    assert all(set(name) & set("*?\"'") == set() for name in metrics)
    assert all(isinstance(value, float) for value in metrics.values())
    assert json.dumps(metrics, allow_nan=False)
