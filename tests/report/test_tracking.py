"""One run for each version, in a database of its own."""

from __future__ import annotations

import json
import logging
import shutil
import stat
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made.processes import programs
from made.versions import logged, sample_version, traces
from made.versions.logged import log, with_threshold

from laion_dask.params import Params
from laion_dask.report import run_metrics, stage_times, tracking
from laion_dask.report.runs import store
from laion_dask.versions import identity

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Path:
    """A version with report, and a lock that fits its metrics."""
    root = tmp_path_factory.mktemp("project")
    logged.write(root, defaults)
    return root


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return logged.database(tmp_path_factory.mktemp("database") / "mlflow.db")


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
    monkeypatch.chdir(root)  # addresses of artifacts are relative to it
    return root


@pytest.fixture
def client(project: Path) -> Iterator[MlflowClient]:
    with store.quiet():
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")


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
    assert len(found) <= run_metrics.MOST
    assert found["1 links"] == found["funnel/extract seen"] == counts["extract"]["links"]["seen"]
    assert found["dropped/low_similarity"] == counts["filter"]["pairs"]["dropped"]["low_similarity"]
    assert "dropped/few_words" not in found
    assert found["3 kept"] == counts["release"]["pairs"]["kept"]
    assert found["3 kept"] == found["kept en"] + found["kept multi"] + found["kept nolang"]
    # MLflow's comparison sorts by name and shows seven rows: these must be them. A longer name is cut there.
    headline = [*run_metrics.HEADLINE]
    assert sorted(found)[:7] == headline[:7]
    assert max(map(len, headline)) <= 16
    assert found["4 unsafe kept"] == found["safety/unsafe_of_kept"]
    table = project / "mlruns" / run.info.run_id / "artifacts" / "tables" / "numbers.csv"
    numbers = dict(line.split(",") for line in table.read_text().splitlines())
    assert len(numbers) > 500
    assert float(numbers["kept.all"]) == found["3 kept"]
    assert float(numbers["filter.pairs.dropped.few_words"]) == 0
    low, rate, high = (float(numbers[f"safety.unsafe_of_scored.en.{one}"]) for one in ("low", "rate", "high"))
    assert low <= rate <= high
    assert float(numbers["truth.duplicate_pair.precision"]) == 1
    inputs = {item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs}
    assert inputs == {f"demo/{stage}": f"{place:032x}.dir" for place, stage in enumerate(identity.STAGES)}
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {
        *("report.html", "statistics.json", "new_texts.json", "rates.json", "truth.json"),
        *("figures", "tables", "release"),
    }
    described = {item.path for item in client.list_artifacts(run.info.run_id, "release")}
    assert described == {"release/README.md", "release/croissant.json", "release/manifest.json"}
    assert run.info.artifact_uri == f"mlruns/{run.info.run_id}/artifacts"
    assert run.data.tags["laion_dask.name"] == "demo"
    assert run.data.tags["laion_dask.weights_sha256.demo"] == "f" * 64
    assert run.data.tags["laion_dask.weights_sha256.caption.rank.0"] == "c" * 64
    assert run.data.tags["laion_dask.licence.translate"] == "mit"
    assert 0 < found["texts/caption written"] < found["texts/caption pairs"] == found["funnel/caption seen"]
    assert 0 <= found["texts/translate more_similar"] <= 1
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
    assert len(client.get_metric_history(first, "3 kept")) == 1
    assert len(run.inputs.dataset_inputs) == len(identity.STAGES)


def took(run: Any) -> dict[str, float]:  # noqa: ANN401 - a run of MLflow
    return {name: value for name, value in run.data.metrics.items() if name.startswith("system/")}


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
    assert {name.removeprefix("system/").split()[0] for name in filed} == {"download", "score", "peak"}
    assert filed["system/score processor hours"] == 4.0
    assert filed["system/peak memory GB"] == 2.0
    assert filed["system/score seconds"] >= 0
    # Again, and then without a trace, as where a lost database is rebuilt.
    assert log(project, defaults) == first
    assert len(client.get_metric_history(first, "system/score processor hours")) == 1
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
    report, metrics = built / "data" / "report", built / "metrics"
    for found in (run_metrics.of_version(report, metrics), run_metrics.every_number(report, metrics)):
        assert all(set(name) & set("*?\"'") == set() for name in found)
        assert all(isinstance(value, float) for value in found.values())
        assert json.dumps(found, allow_nan=False)


@pytest.mark.slow
def test_a_run_is_named_and_described_by_what_differs_from_the_version_before_it(
    project: Path, client: MlflowClient, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.get_run(log(project, defaults))
    version = first.data.tags[tracking.VERSION_TAG]
    assert first.info.run_name == f"demo {version[:8]}"
    assert "**Compared with**" not in first.data.tags["mlflow.note.content"]
    assert "| links | 60 |" in first.data.tags["mlflow.note.content"]
    monkeypatch.setattr(identity.Origin, "parent", lambda *_: version)
    second = client.get_run(log(project, with_threshold(defaults, 0.35)))
    assert second.info.run_name == "similarity.en 0.35"
    note = second.data.tags["mlflow.note.content"]
    here = f"#/experiments/{first.info.experiment_id}/runs"
    assert f"**Compared with** [demo {version[:8]}]({here}/{first.info.run_id})" in note
    assert f"[Report]({here}/{second.info.run_id}/artifacts/report.html)" in note
    assert "| `filter.similarity.en` | 0.25 | 0.35 |" in note
    kept = f"{first.data.metrics['3 kept']:,.0f}"
    assert f"| kept | {kept} | {kept} |" in note
    assert second.data.tags["mlflow.user"]


@pytest.mark.slow
def test_a_run_lasts_as_long_as_its_version_took_to_build(
    project: Path, client: MlflowClient, defaults: Params
) -> None:
    for stage in ("download", "score"):
        traces.write(project / "data", project / "metrics", stage, seconds=7_200)
    run = client.get_run(log(project, defaults))
    found = stage_times.read(project / "data", project / "metrics").ours
    assert run.info.start_time == round(min(one.began for one in found) * 1000)
    assert run.info.end_time == round(max(one.ended for one in found) * 1000)


@pytest.mark.slow
def test_stages_whose_outs_are_those_of_the_version_before_do_not_count_as_its_build(
    project: Path, client: MlflowClient, defaults: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("download", "filter"):
        traces.write(project / "data", project / "metrics", stage)
        time.sleep(0.01)  # so that they began in different milliseconds
    first = client.get_run(log(project, defaults))
    version = first.data.tags[tracking.VERSION_TAG]
    monkeypatch.setattr(identity.Origin, "parent", lambda *_: version)
    lock = project / "dvc.lock"
    lock.write_text(lock.read_text().replace(f"{identity.STAGES.index('filter'):032x}.dir", f"{99:032x}.dir"))
    run = client.get_run(log(project, with_threshold(defaults, 0.35)))
    (filtered,) = [one for one in stage_times.read(project / "data", project / "metrics").ours if one.stage == "filter"]
    assert run.info.start_time > first.info.start_time
    assert (run.info.start_time, run.info.end_time) == (round(filtered.began * 1000), round(filtered.ended * 1000))


@pytest.mark.slow
def test_similarities_are_curves_over_thresholds_once(project: Path, client: MlflowClient, defaults: Params) -> None:
    run = log(project, defaults)
    assert log(project, defaults) == run
    points = client.get_metric_history(run, "curves/en")
    steps, values = [point.step for point in points], [point.value for point in points]
    assert steps == sorted({*steps})
    assert len(steps) > 20
    assert values == sorted(values, reverse=True)
    statistics = json.loads((project / "data" / "report" / "statistics.json").read_text())
    assert values[0] == sum(sum(one[part]) for one in statistics["similarity"][:1] for part in ("kept", "dropped"))
