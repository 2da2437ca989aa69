"""What labels say of a version: known errors are found, and intervals cover the truth as often as they promise."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from made.places import ROOT
from made.versions import sample_version
from typer.testing import CliRunner

from laion_dask.audit import audit_page, audit_sample, audit_score, labels, questions
from laion_dask.audit.audit_sample import AuditError, AuditSample
from laion_dask.audit.audit_score import Judged
from laion_dask.audit.labels import DataPoint
from laion_dask.cli.main import app
from laion_dask.params import Params
from laion_dask.statistics.intervals import Estimate

ASKED = questions.read()
SEEDS = 100


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version whose decisions err: one label in twenty is turned round."""
    data, _ = sample_version.write(tmp_path_factory.mktemp("version"), links=1500, shards=1)
    path = data / "crawl" / "truth.parquet"
    table, rng = pq.read_table(path), np.random.default_rng(3)
    for name in ("matching", "unsafe", "watermark"):
        values = np.asarray(table[name].to_pylist()) ^ (rng.random(table.num_rows) < 0.05)
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, path)
    return data


@pytest.fixture(scope="module")
def whole(version: Path, defaults: Params) -> tuple[AuditSample, list[DataPoint]]:
    drawn = audit_sample.sample(version, defaults, ASKED, size=10_000, seed=0)
    return drawn, audit_score.from_truth(drawn, version)


def judge(sample: AuditSample, found: list[DataPoint]) -> dict[str, Judged]:
    return {one.decision: one for one in audit_score.score(sample, found).decisions}


def numbers(judged: Judged) -> dict[str, Estimate]:
    return {name: getattr(judged, name) for name in ("rate", "precision", "recall", "missed", "wrong")}


def test_a_whole_version_that_was_labelled_has_its_true_figures_without_doubt(
    version: Path, whole: tuple[AuditSample, list[DataPoint]]
) -> None:
    sample, found = whole
    truth = {row["uid"]: row for row in pq.read_table(version / "crawl" / "truth.parquet").to_pylist()}
    counts = Counter((pair.decided["unsafe"], truth[pair.uid]["unsafe"]) for pair in sample.drawn)
    assert len(sample.drawn) == sum(sample.sizes.values())
    unsafe = judge(sample, found)["unsafe"]
    assert unsafe.missed == Estimate(*[pytest.approx(counts[False, True])] * 3)
    assert unsafe.wrong == Estimate(*[pytest.approx(counts[True, False])] * 3)
    precision = counts[True, True] / (counts[True, True] + counts[True, False])
    recall = counts[True, True] / (counts[True, True] + counts[False, True])
    assert unsafe.precision == Estimate(*[pytest.approx(precision)] * 3)
    assert unsafe.recall == Estimate(*[pytest.approx(recall)] * 3)
    assert counts[False, True] > 20


@pytest.mark.slow
def test_every_interval_covers_the_truth_in_at_least_93_of_100_seeds(
    version: Path, whole: tuple[AuditSample, list[DataPoint]], defaults: Params
) -> None:
    true = {decision: numbers(judged) for decision, judged in judge(*whole).items()}
    given = {(label.uid, label.question): label for label in whole[1]}
    covered: Counter[tuple[str, str]] = Counter()
    for seed in range(SEEDS):
        sample = audit_sample.sample(version, defaults, ASKED, size=200, seed=seed)
        found = [given[pair.uid, one.name] for pair in sample.drawn for one in ASKED]
        for decision, judged in judge(sample, found).items():
            for name, estimate in numbers(judged).items():
                value = true[decision][name].value
                assert value is not None
                covered[decision, name] += estimate.low - 1e-9 <= value <= estimate.high + 1e-9
    assert len(covered) == 4 * 5
    assert {name: times for name, times in covered.items() if times < 93} == {}, covered


def test_intervals_narrow_with_the_size_of_the_sample(
    version: Path, whole: tuple[AuditSample, list[DataPoint]], defaults: Params
) -> None:
    given = {(label.uid, label.question): label for label in whole[1]}
    widths = []
    for size in (100, 300, 900):
        sample = audit_sample.sample(version, defaults, ASKED, size=size, seed=1)
        found = judge(sample, [given[pair.uid, one.name] for pair in sample.drawn for one in ASKED])["unsafe"].missed
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2] > 0


def test_what_labelers_are_unsure_of_counts_as_not_labelled(whole: tuple[AuditSample, list[DataPoint]]) -> None:
    sample, found = whole
    some = [replace(label, answer="unsure") if label.question == "unsafe" else label for label in found[:30]]
    unsafe = judge(sample, some)["unsafe"]
    assert (unsafe.labelled, unsafe.unsure) == (0, 10)
    assert (unsafe.precision.value, unsafe.precision.low, unsafe.precision.high) == (None, 0.0, 1.0)
    assert unsafe.missed.value is None


def test_without_a_label_nothing_is_scored(whole: tuple[AuditSample, list[DataPoint]]) -> None:
    with pytest.raises(AuditError, match=r"no label.*Remedy"):
        audit_score.score(whole[0], [])


def test_truth_is_refused_where_there_is_none(whole: tuple[AuditSample, list[DataPoint]], tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"only the demo.*Remedy"):
        audit_score.from_truth(whole[0], tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def test_the_commands_draw_score_and_export_and_say_who_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample_version.write(tmp_path, links=120, shards=1)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    done = run("sample", "--size", "30", "--seed", "4")
    assert done.exit_code == 0, done.stderr
    assert "not drawn from: no picture" in done.stdout
    sample = audit_page.read(tmp_path / "audit")
    assert sample.seed == 4
    stood_in = run("score", "--truth", "--json")
    assert "stand in for people" in json.loads(stood_in.stdout)["by"]
    assert json.loads(stood_in.stdout)["labelers"] == 1
    for place in (1, 2):
        own = [replace(one, labeler=f"labeler-{place}") for one in audit_score.from_truth(sample, tmp_path / "data")]
        labels.write(tmp_path / f"{place}.csv", own, sample)
    scored = run("score", "1.csv", "2.csv", "--export", "all.csv")
    assert scored.exit_code == 0, scored.stderr
    assert "unsafe: Cohen's kappa 1.000 (2 labelers" in scored.stdout
    assert len(labels.read([tmp_path / "all.csv"], sample)) == 2 * 3 * len(sample.drawn)
    for arguments in ((), ("--truth", "1.csv")):
        refused = run("score", *arguments)
        assert (refused.exit_code, "Remedy" in refused.stderr) == (1, True)
    (tmp_path / "1.csv").write_text("<script>\n")
    refused = run("score", "1.csv")
    assert (refused.exit_code, "Traceback" in refused.output, "Remedy" in refused.stderr) == (1, False, True)
