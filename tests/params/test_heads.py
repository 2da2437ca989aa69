"""`score.heads` and `score.tags`: what does not fit its kind is refused with the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from made.places import ROOT
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.params import ParamsError
from laion_dask.score import score_columns

FILE = ROOT / "params.yaml"
V1 = {"kind": "aesthetic_v1", "file": "v1.npz"}


@pytest.fixture
def values() -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(FILE))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "entries", "told"),
    [
        ("heads", [{}], "score.heads.0.kind is missing"),
        ("heads", [{"kind": "beauty"}], "score.heads.0.kind = 'beauty'"),
        ("heads", [{"kind": "demo", "file": "x"}], "file with kind demo"),
        ("heads", [{"kind": "aesthetic_v1"}], "kind aesthetic_v1 without file"),
        ("heads", [{"kind": "layers", "file": "x"}], "kind layers without column"),
        ("heads", [V1 | {"mode": "plain"}], "mode plain with kind aesthetic_v1"),
        ("heads", [V1 | {"output": "value"}], "output value with kind aesthetic_v1"),
        ("heads", [{"kind": "watermark", "file": "x", "model": "demo"}], "model demo with kind watermark"),
        ("heads", [V1 | {"column": "Beauty"}], "column Beauty"),
        ("heads", [V1 | {"column": "similarity_demo"}], "column similarity_demo"),
        ("heads", [V1 | {"model": "other"}], "there is no model other"),
        ("heads", [{"kind": "demo"}, V1], "heads write aesthetic twice"),
        ("heads", [V1 | {"mode": True}], "True is refused"),
        ("tags", [{"kind": "zero_shot"}], "score.tags.0.file is missing"),
        ("tags", [{"kind": "zero_shot", "file": "demo", "rule": "code"}], "rule code with kind zero_shot"),
        ("tags", [{"kind": "laion400m", "file": "x"}], "kind laion400m without rule"),
        ("tags", [{"kind": "laion400m", "file": "demo", "rule": "code"}], "kind laion400m with file demo"),
        ("tags", [{"kind": "zero_shot", "file": "demo", "model": "other"}], "there is no model other"),
        ("tags", [{"kind": "laion400m", "file": "x", "rule": rule} for rule in ("code", "published")], "twice"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(values: dict[str, Any], key: str, entries: list[Any], told: str) -> None:
    values["score"][key] = entries
    with pytest.raises(ParamsError) as refused:
        params.parse(values)
    assert told in str(refused.value)
    assert "Remedy: " in str(refused.value)


def test_every_kind_has_a_column_of_its_own_or_the_one_that_it_is_given(values: dict[str, Any]) -> None:
    kinds = ["aesthetic_v1", "nsfw_laion", "violence", "simulacra", "watermark"]
    values["score"]["heads"] = [
        *({"kind": kind, "file": "x"} for kind in kinds),
        {"kind": "aesthetic_v2", "file": "x", "column": "aesthetic_v2"},
    ]
    found = [column for head in params.parse(values).score.heads or () for column in head.columns]
    assert found == ["aesthetic", "punsafe", "violence", "simulacra", "pwatermark", "aesthetic_v2"]


def test_null_means_none_of_them(values: dict[str, Any]) -> None:
    values["score"] |= {"heads": None, "tags": None}
    assert score_columns.columns(params.parse(values).score) == []
    assert score_columns.files(params.parse(values).score) == []
