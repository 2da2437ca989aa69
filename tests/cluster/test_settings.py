"""Settings of the cluster: what applies to which stage, and that nothing unknown is taken in silence."""

from __future__ import annotations

import re
from typing import Any

import dask
import pytest

from laion_dask.cluster.settings import STAGES, ClusterError, at_most, settings

JOBS = "dask_jobqueue.SLURMCluster"


def of(stage: str | None = None, **values: Any) -> Any:  # noqa: ANN401 - of the settings
    with dask.config.set({"laion-dask.cluster": {name.replace("_", "-"): value for name, value in values.items()}}):
        return settings(stage)


@pytest.mark.parametrize(
    ("kind", "form", "patience_s"),
    [
        ("auto", "own", 120),
        ("local", "own", 120),
        ("cuda", "own", 120),
        ("tls://scheduler:8786", "address", 600),
        ("/shared/a folder/scheduler.json", "file", 600),
        (JOBS, "class", 86_400),
        ("dask_kubernetes.operator.KubeCluster", "class", 86_400),
    ],
)
def test_a_kind_is_known_by_its_form_and_has_a_patience_of_its_own(kind: str, form: str, patience_s: float) -> None:
    found = of(kind=kind, workers=2)
    assert (found.kind, found.form, found.patience_s) == (kind, form, patience_s)


def test_what_is_set_for_a_stage_holds_for_it_alone_and_all_else_is_inherited() -> None:
    values = {
        "kind": JOBS,
        "workers": 20,
        "options": {"cores": 4},
        "patience": "12 hours",
        "download": {"workers": 4, "resources": {"NET": 1}},
        "catalog": {"kind": "local"},
        "score": {"kind": "cuda", "patience": 90},
    }
    extract, catalog, download, score = (of(name, **values) for name in ("extract", "catalog", "download", "score"))
    assert (extract.workers, extract.resources, extract.patience_s) == (20, {}, 43_200)
    assert (download.workers, download.resources, download.kind) == (4, {"NET": 1}, JOBS)
    # Twenty jobs are not twenty processes of this machine.
    assert (catalog.kind, catalog.workers, catalog.patience_s, catalog.options) == ("local", None, 120, {})
    assert (score.kind, score.form, score.patience_s, score.options) == ("cuda", "own", 90, {})
    assert of(None, **values) == extract
    assert download.where["workers"] == "laion-dask.cluster.download.workers"


def test_the_environment_sets_single_stages_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_LAION_DASK__CLUSTER__SCORE__WORKERS", "3")
    monkeypatch.setenv("DASK_LAION_DASK__CLUSTER__PERFORMANCE_REPORT", "True")
    with dask.config.set(dask.config.collect_env()):
        assert settings("score").workers == 3
        assert settings("extract").workers is None
        assert settings("extract").performance_report is True


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"knid": "local"}, "laion-dask.cluster.knid = 'local' is not a setting. Remedy: did you mean kind?"),
        (
            {"scor": {"workers": 1}},
            "laion-dask.cluster.scor = {'workers': 1} is not a setting. Remedy: did you mean score",
        ),
        (
            {"score": {"worker": 1}},
            "laion-dask.cluster.score.worker = 1 is not a setting. Remedy: did you mean workers?",
        ),
        ({"score": "cuda"}, "laion-dask.cluster.score = 'cuda' is refused. Remedy: a mapping of kind"),
        ({"kind": JOBS}, f"{JOBS!r} starts no worker by itself. Remedy: set laion-dask.cluster.workers"),
        ({"options": {"cores": 1}}, "laion-dask.cluster.options = {'cores': 1} has no meaning for kind 'auto'"),
        ({"kind": "tcp://a:1", "adapt": {"maximum": 3}}, "laion-dask.cluster.adapt = {'maximum': 3} has no meaning"),
        (
            {"kind": JOBS, "workers": 1, "options": [1]},
            "laion-dask.cluster.options = [1] is refused. Remedy: a map",
        ),
        ({"patience": "soon"}, "laion-dask.cluster.patience = 'soon' is refused. Remedy: a time such as 90 s"),
        ({"patience": -1}, "laion-dask.cluster.patience = -1 is refused"),
        ({"patience": True}, "laion-dask.cluster.patience = True is refused"),
        ({"resources": {"GPU": 0}}, "laion-dask.cluster.resources.GPU = 0 is refused. Remedy: a positive number"),
        ({"resources": "GPU"}, "laion-dask.cluster.resources = 'GPU' is refused"),
        ({"host": 5}, "laion-dask.cluster.host = 5 is refused. Remedy: an address"),
        ({"overlap": "score"}, "laion-dask.cluster.overlap = 'score' is refused. Remedy: true or false"),
        ({"performance-report": "daily"}, "laion-dask.cluster.performance-report = 'daily' is refused. Remedy: auto"),
    ],
)
def test_what_is_wrong_is_refused_with_key_value_and_remedy(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(said)):
        of("score", **values)


@pytest.mark.parametrize(
    ("values", "asked", "parts", "expected"),
    [
        ({"workers": 8}, None, 3, 3),
        ({"workers": 2}, None, 30, 2),
        ({"workers": 2}, 5, 30, 5),
        ({"score": {"workers": 8}}, None, 3, 3),
        ({"kind": "tcp://a:1"}, None, 3, None),
    ],
)
def test_a_run_on_files_starts_no_more_workers_than_it_has_parts(
    values: dict[str, Any], asked: int | None, parts: int, expected: int | None
) -> None:
    with dask.config.set({"laion-dask.cluster": values}), at_most(asked, parts, "score"):
        assert settings("score").workers == expected


def test_the_stages_are_those_of_the_project_that_have_parts() -> None:
    from made.checkout import SECTIONS

    assert STAGES == SECTIONS
