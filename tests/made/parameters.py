"""Parameters for tests: params.yaml as committed, one value of it replaced, and the message that refuses it."""

from __future__ import annotations

from typing import Any

import pytest
from made.places import ROOT

from laion_dask import params
from laion_dask.params import ParamsError

FILE = ROOT / "params.yaml"


def parent(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """Return the mapping that holds a dotted key, and the last part of the key."""
    *path, name = key.split(".")
    for step in path:
        values = values[step]
    return values, name


def refusal(values: object) -> str:
    """Return the message with which these values are refused."""
    with pytest.raises(ParamsError) as refused:
        params.parse(values)
    return str(refused.value)


def with_values(defaults: params.Params, sections: dict[str, dict[str, Any]]) -> params.Params:
    """Return the parameters with other values in some sections."""
    values = defaults.model_dump(mode="json")
    for section, given in sections.items():
        values[section].update(given)
    return params.parse(values)
