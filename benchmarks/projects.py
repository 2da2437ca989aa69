"""Project folders for benchmarks of whole stages: params.yaml with other values, and the outs that the stage reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.environments import ROOT


def make(
    folder: Path,
    *,
    data: Mapping[str, Path],
    metrics: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any]],
) -> None:
    """Make a project folder: links to outs of earlier stages, their metrics, params.yaml, an empty ledger of removals.

    `values` changes parameters by section. The demo's list of known content is left out unless they name one: it is
    made by `make repro`, which a benchmark does not ask for.
    """
    (folder / "data").mkdir(parents=True)
    (folder / "metrics").mkdir()
    for name, out in data.items():
        (folder / "data" / name).symlink_to(out.resolve())
    for name, counts in metrics.items():
        (folder / "metrics" / f"{name}.json").write_text(json.dumps(counts))
    (folder / "removals.csv").write_text("kind,value,reason,date,source\n")
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["catalog"]["lists"] = []
    for section, changes in values.items():
        params[section] |= dict(changes)
    yaml.dump(params, folder / "params.yaml")
