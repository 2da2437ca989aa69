"""Versions out of Git and DVC's cache: numbers, overlaps, rules of each pair, and MLflow runs restored from them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from made.places import ROOT
from made.processes import programs
from made.versions import history, sample_version

from experiments import pairs, rebuild_mlflow, results, versions
from laion_dask.params import Params
from laion_dask.report import part, tracking
from laion_dask.report.runs import store
from laion_dask.versions import identity

if TYPE_CHECKING:
    from mlflow import MlflowClient


class Repository:
    """Version A, a commit without a version, B with another threshold, C out of the cache, D with word lists on C."""

    def __init__(self, root: Path, settings: Params) -> None:
        self.root = root
        self.data, self.metrics = sample_version.write(root.parent / "sample", links=150, shards=2)
        headline = part.write(self.data / "report", self.data, self.metrics, settings, {})
        (self.metrics / "report.json").write_text(part.json.dumps(headline))
        history.create(root)
        self.a = self.commit(settings, 0.25)
        (root / "notes.md").write_text("no version")
        history.git(root, "add", "-A")
        history.git(root, "commit", "-qm", "notes")
        self.b = self.commit(settings, 0.5)
        self.c = self.commit(settings, 0.6, cached=False)
        values = self.values(settings, 0.7)
        # Files that users write are in no version; those that these name are gone when the run is restored.
        values["filter"] |= {"text_entities": "words.txt", "keywords": {"file": "keywords.txt", "above_punsafe": 0.95}}
        (self.data / "report" / "threshold.txt").write_text("0.7")
        self.d = history.experiment(root, "laion-5b-0a1b2c3d", values, self.data, self.metrics)

    def values(self, settings: Params, threshold: float) -> dict[str, Any]:
        values = settings.model_dump(mode="json")
        values["filter"]["similarity"]["en"] = threshold
        return values

    def commit(self, settings: Params, threshold: float, *, cached: bool = True) -> str:
        # The report says the threshold: its bytes differ from version to version, as those of a real one.
        (self.data / "report" / "threshold.txt").write_text(str(threshold))
        return history.commit(self.root, self.values(settings, threshold), self.data, self.metrics, cached=cached)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Repository:
    return Repository(tmp_path_factory.mktemp("history") / "project", defaults)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: the migrations take seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    with store.quiet():
        from mlflow import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(repository: Repository, database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(database, repository.root / "mlflow.db")
    shutil.rmtree(repository.root / "mlruns", ignore_errors=True)
    with store.quiet():
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=f"sqlite:///{repository.root / 'mlflow.db'}")


@pytest.mark.slow
def test_a_version_is_read_from_any_revision_and_by_the_name_of_an_experiment(repository: Repository) -> None:
    found = versions.read(repository.root, repository.a)
    assert found.params["filter"]["similarity"]["en"] == 0.25
    assert (
        found.number("filter.pairs.seen") == sample_version.load_metrics(repository.metrics)["filter"]["pairs"]["seen"]
    )
    assert found.number("report.truth.keep.precision") is not None
    assert found.number("report.nothing.there") is None
    by_name = versions.read(repository.root, "laion-5b-0a1b2c3d")
    assert (by_name.rev, by_name.params["filter"]["similarity"]["en"]) == (repository.d, 0.7)
    assert versions.experiments(repository.root) == {"laion-5b-0a1b2c3d": repository.d}


def test_a_revision_without_a_version_and_a_cache_without_its_files_are_told(
    repository: Repository, tmp_path: Path
) -> None:
    history.create(tmp_path / "empty")
    history.git(tmp_path / "empty", "add", "-A")
    history.git(tmp_path / "empty", "commit", "-qm", "nothing")
    with pytest.raises(versions.ComparedVersionError, match=r"no dvc\.lock, metrics, params\.yaml"):
        versions.read(tmp_path / "empty", "HEAD")
    with pytest.raises(versions.ComparedVersionError, match="rev-parse"):
        versions.read(repository.root, "no-such-thing")
    cache = versions.cache_folder(repository.root)
    gone = versions.read(repository.root, repository.c)
    with pytest.raises(versions.ComparedVersionError, match="dvc fetch"):
        versions.cached(cache, gone, "data/report")


@pytest.mark.slow
def test_files_of_the_cache_are_those_of_the_version(repository: Repository) -> None:
    cache = versions.cache_folder(repository.root)
    for commit, threshold in ((repository.a, "0.25"), (repository.b, "0.5")):
        files = versions.cached(cache, versions.read(repository.root, commit), "data/report")
        assert files["threshold.txt"].read_text() == threshold
        assert files["report.html"].read_bytes() == (repository.data / "report" / "report.html").read_bytes()


def test_the_overlap_of_a_version_with_itself_is_all_of_it(repository: Repository) -> None:
    found = [
        versions.read(repository.root, commit, name) for name, commit in (("a", repository.a), ("b", repository.b))
    ]
    shared = results.overlap(repository.root, found)
    kept = sample_version.load_metrics(repository.metrics)["release"]["pairs"]["kept"]
    assert shared.identity == "uid"
    assert shared.shared == ((kept, kept), (kept, kept))
    assert shared.exactly == {(0, 1): kept}
    assert shared.jaccard(0, 1) == 1


def test_overlaps_of_other_sets_are_counted_pair_by_pair() -> None:
    shared = results._overlap(("a", "b", "c"), "uid", {0b001: 5, 0b011: 3, 0b110: 2, 0b111: 7})  # noqa: SLF001 - counts are its input
    assert shared.shared == ((15, 10, 7), (10, 12, 9), (7, 9, 9))
    assert shared.exactly == {(0, 1, 2): 7, (0,): 5, (0, 1): 3, (1, 2): 2}
    assert shared.jaccard(0, 2) == pytest.approx(7 / 17)


def test_a_row_has_shares_by_split_truth_and_safety(repository: Repository) -> None:
    row = results.row(versions.read(repository.root, repository.a, "a"), {"filter.similarity.en": 0.25})
    counts = sample_version.load_metrics(repository.metrics)
    assert row.kept == counts["release"]["pairs"]["kept"]
    # Pictures of a list are fetched, looked up and left out before anything is stored.
    fetched = counts["filter"]["pairs"]["seen"] + counts["download"]["images"]["dropped"]["listed_hash"]
    assert row.share == pytest.approx(row.kept / fetched)
    rate = row.safety["unsafe_of_kept"]
    assert rate is not None
    assert rate[1] <= rate[0] <= rate[2]
    (line,) = results.table([row])
    assert line["version"] == "a"
    assert "| a |" in results.markdown([line])


@pytest.mark.slow
def test_every_rule_of_a_pair_is_found_and_the_first_is_its_verdict(repository: Repository) -> None:
    version = versions.read(repository.root, repository.b)
    with pairs.of(repository.root, version) as database:
        rows = database.sql("select verdict, rules, similarity, split, punsafe, expected from pairs").fetchall()
        named = database.sql("select distinct thing, color from pairs where matching is not null").fetchall()
    downloaded = sum(
        pq.read_table(path, columns=["reason"])["reason"].to_pylist().count("keep")
        for path in (repository.data / "download").glob("*.parquet")
    )
    assert len(rows) == downloaded > 0
    assert named == [("star", "red")]  # all pictures of the sample
    for verdict, rules, similarity, split, punsafe, expected in rows:
        assert ("unsafe" in rules) == (punsafe > 0.5)
        # The sample's own verdicts were made with 0.5 for every split; this version has it for en alone.
        if split == "en":
            assert (verdict == "keep") == (rules == [])
            assert verdict == (rules or ["keep"])[0]
            assert ("low_similarity" in rules) == (similarity < 0.5)
        assert expected is not None


@pytest.mark.slow
def test_every_version_of_the_history_gets_its_run_again_and_none_twice(
    repository: Repository, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    root = repository.root
    monkeypatch.chdir(root)  # addresses of artifacts are relative to it
    done = rebuild_mlflow.restore(root, rebuild_mlflow.history(root), told.append)
    made = done.made
    assert [*made] == [*done.versions] == [repository.a, repository.b, repository.d]
    assert len(told) == 3
    assert str(done).startswith("3 runs restored; 1 left out, since their reports are not in the cache. Remedy: `dvc f")
    runs = {commit: client.get_run(run).data for commit, run in made.items()}
    a, b, d = (runs[commit] for commit in (repository.a, repository.b, repository.d))
    assert [run.params["filter.similarity.en"] for run in (a, b, d)] == ["0.25", "0.5", "0.7"]
    assert [run.tags["dvc.rev"] for run in (a, b, d)] == [*made]
    assert "laion_dask.parent" not in a.tags
    assert b.tags["laion_dask.parent"] == a.tags["laion_dask.version"]
    # An experiment with lists of words is restored without their files.
    assert (d.params["filter.text_entities"], d.params["filter.keywords.file"]) == ("words.txt", "keywords.txt")
    assert d.params["filter.keywords.above_punsafe"] == "0.95"
    assert (a.params["filter.text_entities"], a.params["filter.keywords"]) == ("null", "null")
    assert d.tags["dvc.experiment"] == "laion-5b-0a1b2c3d"
    assert d.tags["laion_dask.recipe"] == "laion-5b"
    assert d.tags["mlflow.source.git.commit"] == repository.c
    text = client.download_artifacts(made[repository.b], "threshold.txt")
    assert Path(text).read_text() == "0.5"
    again = rebuild_mlflow.restore(root, rebuild_mlflow.history(root), told.append)
    assert (again.made, again.present, again.versions) == ({}, 3, done.versions)
    assert len(told) == 3
    assert len(client.search_runs([client.get_run(made[repository.a]).info.experiment_id])) == 3


@pytest.mark.slow
def test_a_run_filed_by_its_report_is_completed_not_doubled(
    repository: Repository, client: MlflowClient, tmp_path: Path
) -> None:
    root = repository.root
    shutil.copytree(root / "metrics", tmp_path / "metrics")
    version = versions.read(root, repository.b)
    for name in ("dvc.lock", "metrics/filter.json"):
        (tmp_path / name).write_bytes(version.files[name])
    origin = identity.Origin(root, repository.a)
    arguments = {"report": repository.data / "report", "metrics": tmp_path / "metrics", "values": version.params}
    first = tracking.log_version(
        **arguments, lock=tmp_path / "dvc.lock", experiment="laion-dask", uri=None, origin=origin
    )
    assert "dvc.rev" not in client.get_run(first).data.tags
    done = rebuild_mlflow.restore(root, [(repository.b, "")], lambda _: None)
    assert done.made == {repository.b: first}
    assert client.get_run(first).data.tags["dvc.rev"] == repository.b


@pytest.mark.slow
def test_the_experiments_of_a_comparison_are_its_child_runs_and_a_version_of_the_history_is_not(
    repository: Repository, client: MlflowClient, tmp_path: Path
) -> None:
    root = repository.root
    done = rebuild_mlflow.restore(root, [(repository.a, ""), (repository.d, "laion-5b-0a1b2c3d")], lambda _: None)
    (tmp_path / "README.md").write_text("| version |\n|---|\n| d |\n\n![Sets](sets.png)\n")
    (tmp_path / "sets.png").write_bytes(b"a figure")
    compared = {name: (commit, done.versions[commit]) for name, commit in (("a", repository.a), ("d", repository.d))}
    parents = [
        tracking.log_comparison(root, name, tmp_path, compared, "laion-dask") for name in ("first", "second", "first")
    ]
    assert parents[0] == parents[2] != parents[1]
    a, d = (client.get_run(done.made[commit]) for commit in (repository.a, repository.d))
    assert "mlflow.parentRunId" not in a.data.tags
    assert d.data.tags["mlflow.parentRunId"] == parents[0]  # the one that was logged last
    parent = client.get_run(parents[0])
    assert parent.info.run_name == "compared: first"
    note = parent.data.tags["mlflow.note.content"]
    assert all(f"runs/{run.info.run_id})" in note for run in (a, d))
    assert (root / "mlruns" / parents[0] / "artifacts" / "sets.png").read_bytes() == b"a figure"


def test_a_clone_without_any_report_in_its_cache_ends_at_once_with_one_line(
    repository: Repository, tmp_path: Path
) -> None:
    history.git(tmp_path, "clone", "-q", str(repository.root), "clone")
    program = "import sys; from experiments import rebuild_mlflow; sys.argv = ['rebuild_mlflow']; rebuild_mlflow.app()"
    finish = "finally: print('mlflow' in sys.modules)"
    code = f"import sys\ntry: exec({program!r})\n{finish}"
    done = programs.finished(
        [sys.executable, "-c", code], cwd=tmp_path / "clone", check=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    line, imported = done.stdout.splitlines()
    assert line.startswith("0 runs restored; 3 left out, since their reports are not in the cache.")
    assert imported == "False"
    assert not (tmp_path / "clone" / "mlflow.db").exists()
