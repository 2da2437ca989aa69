"""The columns of other data sets: their names, and which of them parameters can ask for."""

from __future__ import annotations

import pytest

from laion_dask.params import release
from laion_dask.release import layouts


@pytest.mark.parametrize(
    ("models", "keys"),
    [
        ({"a": "ViT-B-32", "b": "ViT-L-14"}, {"a": "b32", "b": "l14"}),
        ({"a": "ViT-B-32-quickgelu", "b": "ViT-B-32"}, {"a": "a", "b": "b"}),
        ({"demo": "demo"}, {"demo": "demo"}),
    ],
)
def test_models_have_the_names_of_datacomp_where_it_has_one(models: dict[str, str], keys: dict[str, str]) -> None:
    assert layouts.datacomp_keys({name: {"model": model} for name, model in models.items()}) == keys


def test_params_and_layouts_name_the_same_tables() -> None:
    assert release.Layout.__args__ == layouts.NAMES
