"""The table of recipes: all of them can be laid over the demo and over real WATs, and equal stages run once."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import recipes_table
from laion_dask.params import recipes

NAMES = [name for name in recipes.names() if name != recipes_table.OVERLAY]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_can_be_laid_over_the_demo(name: str) -> None:
    laid = recipes_table.values(name, recipes_table.demo(250))
    assert laid["recipe"] == [name, "demo"]
    assert (laid["crawl"]["demo_pages"], laid["crawl"]["demo_wats"]) == (250, 2)


def test_real_wats_come_with_the_warcs_of_the_same_pages(shared_data: Path) -> None:
    laid = recipes_table.values("laion-5b", recipes_table.real(shared_data))
    files = [*laid["crawl"]["files"], *laid["download"]["warcs"]]
    assert len(files) == 2 * len(recipes_table.REAL)
    assert all(Path(file).is_file() for file in files)
    assert laid["catalog"]["lists"] == []


@pytest.mark.slow
def test_a_stage_runs_once_for_recipes_that_agree_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes_table, "STAGES", ("crawl", "extract"))
    counts = [
        recipes_table.run(recipes_table.values(name, recipes_table.demo(24)), tmp_path)
        for name in ("laion-5b", "laion-high-resolution", "datacomp")
    ]
    assert counts[0] == counts[1]
    assert counts[0]["extract"]["links"]["kept"] < counts[2]["extract"]["links"]["kept"]
    assert sorted(path.name.partition("-")[0] for path in tmp_path.glob("*-*")) == ["crawl", "extract", "extract"]


def test_what_a_stage_says_when_it_fails_is_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes_table, "STAGES", ("crawl",))
    laid = recipes_table.values("laion-5b", recipes_table.demo(24))
    laid["crawl"] |= {"source": "files", "files": [str(tmp_path / "none.warc.wat.gz")]}
    with pytest.raises(recipes_table.RecipesTableError, match=r"crawl, laion-5b, demo: [\s\S]*none\.warc\.wat\.gz"):
        recipes_table.run(laid, tmp_path)
