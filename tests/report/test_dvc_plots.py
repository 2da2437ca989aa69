"""What DVC draws of two versions: every plot of dvc.yaml, out of the report's tables, by templates that fit them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT
from made.projects.dvc_projects import call, dvc
from made.versions import sample_version
from ruamel.yaml import YAML

from laion_dask.params import Params
from laion_dask.report import report_tables
from laion_dask.statistics import rates, summary

PLOTS = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["plots"]
OPTIONS = {path: options for plot in PLOTS for path, options in plot.items()}
# What a template computes itself, and what DVC adds to each row.
MADE = re.compile(r'"as": "(\w+)"')
OF_DVC = {"rev"}


def fields(spec: object) -> Iterator[str]:
    """Yield every column that a Vega-Lite specification reads, in encodings and in expressions."""
    if isinstance(spec, Mapping):
        for name, value in spec.items():
            if name == "values":
                continue
            if name in {"field", "groupby"}:
                yield from [value] if isinstance(value, str) else value if isinstance(value, list) else ()
            if name in {"calculate", "filter"} and isinstance(value, str):
                yield from re.findall(r"datum\.(\w+)", value)
            yield from fields(value)
    elif isinstance(spec, list):
        for one in spec:
            yield from fields(one)


def rows(spec: object) -> list[dict[str, Any]]:
    """Find the rows that DVC has put into a specification."""
    if isinstance(spec, Mapping):
        return spec["values"] if "values" in spec else next(filter(None, map(rows, spec.values())), [])
    return []


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, defaults: Params) -> Path:
    """A project with two versions, v1 and v2, of which the second asks for more similarity of English pairs."""
    root = tmp_path_factory.mktemp("plots")
    data, metrics = sample_version.write(root / "made", links=120, shards=1)
    counts = sample_version.load_metrics(metrics)
    project = root / "project"
    shutil.copytree(ROOT / ".dvc" / "plots", project / ".dvc" / "plots")
    call(project, "git", "init", "-q")
    (project / ".dvc" / "config").write_text("")
    (project / ".gitignore").write_text("/data/\n/.dvc/cache\n/.dvc/tmp\n")
    (project / "dvc.yaml").write_text("stages:\n  report:\n    cmd: 'true'\n    outs: [data/report]\n")
    with (project / "dvc.yaml").open("a") as pipeline:
        YAML().dump({"plots": PLOTS}, pipeline)
    for name, threshold in (("v1", 0.25), ("v2", 0.4)):
        similarity = defaults.filter.similarity.model_copy(update={"en": threshold})
        rules = defaults.filter.model_copy(update={"similarity": similarity})
        settings = defaults.model_copy(update={"filter": rules})
        numbers, sweeps = summary.collect(data, settings, counts), rates.collect(data, settings, ()).sweeps
        shutil.rmtree(project / "data", ignore_errors=True)
        report_tables.write(
            project / "data" / "report" / "tables", summary.funnel(counts), numbers, [], sweeps, settings
        )
        dvc(project, "commit", "--force", "--quiet")
        call(project, "git", "add", "-A")
        call(project, "git", "commit", "-qm", name)
        call(project, "git", "tag", name)
    return project


@pytest.fixture(scope="module")
def drawn(project: Path) -> dict[str, Any]:
    """The specification of each plot with both versions, by its table."""
    page = (project / "plots").as_posix()
    dvc(project, "plots", "diff", "v1", "v2", "--out", page, "--quiet")
    specs = re.findall(r"var spec = (\{.*\});\n", (project / "plots" / "index.html").read_text())
    return dict(zip(OPTIONS, map(json.loads, specs), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("table", OPTIONS)
def test_a_plot_shows_both_versions_by_columns_that_its_table_has(drawn: dict[str, Any], table: str) -> None:
    found = rows(drawn[table])
    assert {row["rev"] for row in found} == {"v1", "v2"}
    template = (ROOT / ".dvc" / "plots" / f"{OPTIONS[table]['template']}.json").read_text()
    read = set(fields(drawn[table])) - set(MADE.findall(template)) - OF_DVC
    assert read
    assert read <= set(found[0])
    assert "<DVC_" not in json.dumps(drawn[table])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "column", "split"),
    [("similarity", "threshold", "en"), ("sweeps", "chosen", "en")],
)
def test_the_threshold_that_differs_differs_in_the_plot(
    drawn: dict[str, Any], table: str, column: str, split: str
) -> None:
    found = rows(drawn[f"data/report/tables/{table}.csv"])
    chosen = {(row["rev"], row[column]) for row in found if row["split"] == split and row.get("score") != "punsafe"}
    assert {("v1", "0.25"), ("v2", "0.4")} <= chosen


def test_every_template_is_used_and_is_of_the_version_that_dvc_loads() -> None:
    used = {options["template"] for options in OPTIONS.values()}
    templates = {path.stem: json.loads(path.read_text()) for path in (ROOT / ".dvc" / "plots").glob("*.json")}
    assert set(templates) == used
    assert {spec["$schema"] for spec in templates.values()} == {"https://vega.github.io/schema/vega-lite/v5.json"}
