"""The saved view of MLflow's runs table with thresholds and counts as columns, and the address that opens it.

MLflow keeps saved views as tags of the experiment (menu *Saved views* above the table), so that the view travels with
the database.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote, urlencode

from laion_dask.report import run_metrics

KEY: Final = "laion-dask"
"""The id of the view in addresses."""
NAME: Final = "Thresholds and counts"
TAG: Final = f"mlflow.sharedViewState.{KEY}"
# From left to right, with their widths in pixels: a window of 1,280 shows those up to the first threshold, and the
# name of a run says the thresholds that differ.
_METRICS: Final = {
    "3 kept": 65,
    "kept en": 70,
    "kept multi": 85,
    "kept nolang": 92,
    "4 unsafe kept": 105,
    "6 precision": 88,
}
_PARAMETERS: Final = {
    "filter.similarity.en": 137,
    "filter.similarity.multi": 150,
    "filter.similarity.nolang": 160,
    "filter.max_punsafe": 145,
    "filter.max_pwatermark": 160,
}
_BEHIND: Final = {"5 watermark kept": 130, "7 recall": 75}
_NAME_PX: Final = 230
_CREATED_PX: Final = 85
_MADE_MS: Final = 1_767_225_600_000
"""When the view was made, 2026-01-01: the same in every project, so that a view that somebody overwrote is seen."""


def value() -> str:
    """Return the tag's value: the state of MLflow's page with its name."""
    run_name, created = "attributes.`Run Name`", "runDateAndNestInfo"
    widths = {f"metrics.`{key}`": width for key, width in _METRICS.items()}
    widths |= {f"params.`{key}`": width for key, width in _PARAMETERS.items()}
    widths |= {f"metrics.`{key}`": width for key, width in _BEHIND.items()}
    section = f"{KEY}-counts"
    charts = [
        {
            "type": "BAR",
            "uuid": f"{KEY}-{place}",
            "metricSectionId": section,
            "metricKey": key,
            "displayName": key,
            "runsCountToCompare": 10,
            "isGenerated": True,
            "deleted": False,
        }
        for place, key in enumerate(run_metrics.HEADLINE)
    ]
    state = {
        # By date: only then MLflow shows the runs of a comparison below it.
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "searchFilter": "",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": [*widths],
        "columnOrder": [run_name, created, *widths],
        "columnWidths": {run_name: _NAME_PX, created: _CREATED_PX, **widths},
        # The charts of the headline come first, then the curves; MLflow adds sections for the other metrics.
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": uuid, "name": name, "display": True, "isReordered": False}
            for uuid, name in ((section, "Model metrics"), (f"{KEY}-curves", "curves"))
        ],
        "isAccordionReordered": True,
    }
    return json.dumps({"name": NAME, "createdAt": _MADE_MS, "updatedAt": _MADE_MS, "state": json.dumps(state)})


def is_ours(tag: str | None) -> bool:
    """Say whether the view may be written: there is none yet, or nobody has overwritten it on MLflow's page."""
    try:
        return tag is None or json.loads(tag)["updatedAt"] == _MADE_MS
    except (ValueError, KeyError, TypeError):
        return True


def address(server: str, experiment_id: str) -> str:
    """Return the address of an experiment's runs with this view, in MLflow's mode for training of models.

    Without the mode, MLflow opens the page for language models, which has no runs table.
    """
    query = urlencode({"workflowType": "machine_learning", "viewStateShareKey": KEY})
    return f"{server.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{query}"


def run_address(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Return the address of a run inside MLflow's page, or of one of its artifacts, for links in descriptions."""
    below = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}{below}"
