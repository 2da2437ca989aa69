"""CITATION.cff, .zenodo.json and codemeta.json say what pyproject.toml says."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from made.places import ROOT
from ruamel.yaml import YAML

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CFF = YAML(typ="safe", pure=True).load(ROOT / "CITATION.cff")
ZENODO = json.loads((ROOT / ".zenodo.json").read_text())
CODEMETA = json.loads((ROOT / "codemeta.json").read_text())
# Of the Citation File Format 1.2.0 and of Zenodo's description of deposits.
CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
ZENODO_REQUIRED = {"title", "upload_type", "description", "creators"}


def names(people: list[dict[str, str]]) -> list[str]:
    return [one["name"] for one in people]


@pytest.mark.parametrize(
    ("cff", "zenodo", "codemeta", "expected"),
    [
        ("title", "title", "name", PROJECT["name"]),
        ("version", "version", "version", PROJECT["version"]),
        ("abstract", "description", "description", PROJECT["description"]),
        ("keywords", "keywords", "keywords", PROJECT["keywords"]),
    ],
)
def test_a_field_is_that_of_pyproject_in_all_three(cff: str, zenodo: str, codemeta: str, expected: object) -> None:
    assert [CFF[cff], ZENODO[zenodo], CODEMETA[codemeta]] == [expected] * 3


def test_authors_and_licence_are_those_of_pyproject() -> None:
    assert names(CFF["authors"]) == names(ZENODO["creators"]) == names(CODEMETA["author"]) == names(PROJECT["authors"])
    assert CFF["license"] == ZENODO["license"] == PROJECT["license"]
    assert CODEMETA["license"] == f"https://spdx.org/licenses/{PROJECT['license']}"
    assert (ROOT / "LICENSE").read_text().startswith(f"{PROJECT['license']} License")


def test_python_and_systems_are_those_of_pyproject() -> None:
    assert CODEMETA["runtimePlatform"] == f"Python {PROJECT['requires-python']}"
    systems = [one.removeprefix("Operating System :: ") for one in PROJECT["classifiers"] if "Operating System" in one]
    assert CODEMETA["operatingSystem"] == systems


@pytest.mark.parametrize(
    ("found", "required"), [(CFF, CFF_REQUIRED), (ZENODO, ZENODO_REQUIRED)], ids=["CITATION.cff", ".zenodo.json"]
)
def test_what_their_formats_require_is_there(found: dict[str, Any], required: set[str]) -> None:
    assert required <= {key for key, value in found.items() if value}


def test_formats_are_named_with_their_versions() -> None:
    assert CFF["cff-version"] == "1.2.0"
    assert re.fullmatch(r"https://w3id\.org/codemeta/\d\.\d", CODEMETA["@context"])


@pytest.mark.parametrize("invented", [lambda text: re.findall(r"10\.\d{4,}/\S+", text), lambda text: "orcid" in text])
def test_no_identifier_is_invented(invented: Callable[[str], object]) -> None:
    for name in ("CITATION.cff", ".zenodo.json", "codemeta.json"):
        assert not invented((ROOT / name).read_text().lower()), name
