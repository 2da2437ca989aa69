"""Recipes that build on others: what they take over, what they ask of a user, and the demo laid over each."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT

from laion_dask import params
from laion_dask.params import recipes
from laion_dask.params.recipes import RecipeError
from laion_dask.preflight import preflight

FILE = ROOT / "params.yaml"
NAMES = tuple(name for name in recipes.names() if name != "demo")


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    """The committed parameters."""
    return params.load(FILE).model_dump(mode="json")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of recipes that a test writes itself."""
    (tmp_path / "recipes").mkdir()
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    return tmp_path / "recipes"


class TestExtending:
    def test_a_recipe_takes_the_values_of_another_first(self, written: Path) -> None:
        (written / "one.yaml").write_text("# One\nfilter: {min_words: 1, min_chars: 2, top: [{a: 1}]}\n")
        (written / "two.yaml").write_text("# Two\nextends: one # why\nfilter: {min_words: 3, top: []}\n")
        (written / "three.yaml").write_text("# Three\nextends: two\n")
        recipe = recipes.describe("three")
        assert recipe.values == {"filter": {"min_words": 3, "min_chars": 2, "top": []}}
        assert recipe.extends == "two"
        assert [one.title for one in recipes.caveats(["three", "one"])] == ["One", "Two", "Three"]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("extends: mine", "recipe 'mine' extends itself"),
            ("extends: other", "there is no recipe 'other'"),
            ("recipe: [a]", "sets recipe, the list of names. Remedy: extends"),
        ],
    )
    def test_what_cannot_be_extended_is_refused(self, written: Path, text: str, message: str) -> None:
        (written / "mine.yaml").write_text(f"{text}\nfilter: {{min_words: 1}}\n")
        with pytest.raises(RecipeError, match=re.escape(message)):
            recipes.describe("mine")

    def test_each_is_laid_over_what_is_there_and_over_nothing_else(self, written: Path) -> None:
        (written / "mine.yaml").write_text(
            "score: {models: {each: {model: demo, pretrained: null}}}\n"
            "filter: {balance: {each: {t: 2}}, where: {each: x}, text_entities: {each: words},"
            " computed: {each: {targets: mine, batch: 1}}}\n"
        )
        values = {
            "score": {"models": [{"name": "a", "model": "A", "pretrained": "b"}, {"name": "c", "model": "D"}]},
            "filter": {
                "balance": None,
                "where": "a > 1",
                "text_entities": None,
                "computed": [{"kind": "n", "targets": "yours", "batch": None}, {"kind": "l", "batch": 9}],
            },
        }
        assert recipes.apply("mine", values) == {
            "recipe": ["mine"],
            "score": {"models": [{"name": "a", "model": "demo", "pretrained": None}, {"name": "c", "model": "demo"}]},
            "filter": {
                "balance": None,
                "where": "x",
                "text_entities": None,
                "computed": [{"kind": "n", "targets": "mine", "batch": None}, {"kind": "l", "batch": 1}],
            },
        }

    @pytest.mark.parametrize("name", NAMES)
    def test_every_recipe_runs_on_the_demo_with_nothing_to_fetch_or_to_bring(
        self, name: str, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(FILE.parent)
        settings = params.parse(recipes.apply(f"{name} demo", base))
        assert settings.recipe == (name, "demo")
        assert {model.model for model in settings.score.models} == {"demo"}
        assert {head.kind for head in settings.score.heads or ()} == {"demo"}
        assert settings.crawl.source == "demo"
        preflight.check(settings)

    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("laion-400m", "score.tags.0.file = assets/laion400m.yaml"),
            ("relaion-research", "filter.keywords.file = assets/keywords.txt"),
            ("laion-art", "score.heads.0.file = assets/sa_0_4_vit_l_14_linear.pth"),
            ("datacomp-text-based", "filter.text_entities = assets/imagenet21k_words.txt"),
            ("datacomp-image-based", "filter.image_based.centroids = assets/centroids_l14.npy"),
            ("metaclip-400m", "filter.balance.entries = assets/metaclip_metadata.json"),
            ("flyt", "filter.computed.0.file = assets/mflyt_scores.parquet"),
            ("metaclip-2", "filter.balance.by_language = assets/metaclip2_metadata"),
            ("normsim", "filter.computed.1.targets = assets/imagenet1k_l14.npy"),
        ],
    )
    def test_a_recipe_that_needs_a_file_of_the_user_names_its_key(
        self, name: str, key: str, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(preflight.PreflightError, match=re.escape(key)) as refused:
            preflight.check(params.parse(recipes.apply(name, base)))
        assert f"(recipe {name})" in str(refused.value)
        assert "Remedy: put the files there" in str(refused.value)


class TestSubsets:
    """What the sets are by their own words: each a part of the other."""

    @pytest.mark.parametrize(
        ("smaller", "larger", "key", "tighter"),
        [
            ("relaion-research-safe", "relaion-research", "max_punsafe", 0.45),
            ("laion-high-resolution", "laion-5b", "min_side_px", 1024),
        ],
    )
    def test_one_rule_makes_the_difference(
        self, smaller: str, larger: str, key: str, tighter: float, base: dict[str, Any]
    ) -> None:
        small, large = (params.parse(recipes.apply(name, base)) for name in (smaller, larger))
        assert small.filter == large.filter.model_copy(update={key: tighter})
        assert small.model_copy(update={"filter": large.filter, "recipe": large.recipe}) == large

    def test_the_aesthetic_levels_differ_by_their_level_alone(self, base: dict[str, Any]) -> None:
        levels = [name for name in NAMES if name.startswith("laion-aesthetics-v2-")]
        found = [params.parse(recipes.apply(name, base)).filter for name in levels]
        assert [rule.thresholds[0].min for rule in found] == [float(name.rpartition("-")[2]) for name in levels]
        assert len({rule.model_copy(update={"thresholds": ()}).model_dump_json() for rule in found}) == 1
