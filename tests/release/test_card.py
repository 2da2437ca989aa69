"""The card: seven sections, numbers of the version itself, and lines that load the tables as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from made.processes import programs
from made.versions import published
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.params import recipes
from laion_dask.release import layouts, limitations
from laion_dask.release.card import _cell

SECTIONS = [
    "Motivation",
    "Composition",
    "Collection process",
    "Preprocessing, cleaning, labelling",
    "Uses",
    "Distribution",
    "Maintenance",
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, defaults: params.Params) -> Path:
    rows = published.rows(30, url="https://shop.example/a|b.jpg", license="CC-BY-4.0", original_width=2000)
    rows += [{"uid": f"{number:032x}", "reason": "low_similarity"} for number in range(30, 34)]
    return published.build(tmp_path_factory.mktemp("built"), rows, defaults)


def head(folder: Path) -> dict[str, object]:
    _, yaml, _ = (folder / "README.md").read_text().split("---\n", 2)
    return dict(YAML(typ="safe", pure=True).load(yaml))


def lines(folder: Path) -> list[str]:
    card = (folder / "README.md").read_text()
    return next(iter(re.findall(r"```python\n(.*?)```", card, re.DOTALL))).splitlines()


def test_the_sections_are_those_of_a_datasheet_in_their_order(built: Path) -> None:
    found = re.findall(r"^## (.*)$", (built / "README.md").read_text(), re.MULTILINE)
    assert [name for name in found if name in SECTIONS] == SECTIONS


def test_numbers_are_those_of_the_version(built: Path) -> None:
    card = (built / "README.md").read_text()
    assert "| en | 10 | 0.3 |" in card
    assert "| all | 30 | 0.3 | 0.33 | 0.36 | 2,000 px | 480 px |" in card
    assert "| filter | 34 | 30 | low_similarity 4 |" in card
    assert "| `datacomp` |" in card
    assert "| punsafe > 0.45 | 0 | 0.00 % of 30 |" in card
    assert "1,060" not in card
    assert "4 image links and images ended so" in card
    assert "no right is claimed in any image" in card
    assert "This is a demonstration" in card
    assert all(limit in card for limit in limitations.limits(params.load(), {"over": {}})[:5])


def test_rates_stand_there_with_their_intervals(built: Path) -> None:
    card = (built / "README.md").read_text()
    assert "| what | all | en | multi | nolang |\n|---|---|---|---|---|\n| unsafe by score, of" in card
    # None of 34, none of 12: Wilson's upper limits.
    assert "| unsafe by score, of the images that have one | 0.00 % (0.00 to 10.15) | 0.00 % (0.00 to " in card
    assert "| host `images.example` | " in card
    assert "| language `fr` | 10 | " in card


def test_the_figures_of_the_card_are_there_and_have_no_clock(built: Path) -> None:
    paths = re.findall(r"!\[[^]]{40,}\]\(([^)]+)\)", (built / "README.md").read_text())
    assert paths == ["figures/scores.svg"]
    drawn = (built / paths[0]).read_text()
    assert "<svg" in drawn
    assert "<dc:date>" not in drawn


def test_no_text_of_the_web_becomes_markup(built: Path) -> None:
    assert _cell("a|b`c\n<script>") == "`a b c  script`"
    card = (built / "README.md").read_text()
    tables_ = [line for line in card.splitlines() if line.startswith(("| `fr`", "| `en`"))]
    assert all(line.count("|") == 7 for line in tables_)
    assert tables_


def test_every_line_of_the_head_is_as_the_hub_reads_it(built: Path) -> None:
    found = head(built)
    assert found["license"] == "cc-by-4.0"
    assert found["size_categories"] == ["n<1K"]
    configs = {config["config_name"]: config for config in found["configs"]}
    assert next(iter(configs)) == "pairs"
    assert configs["pairs"]["default"]
    assert {"aesthetic_5", "aesthetic_7", *layouts.NAMES} <= configs.keys()
    assert configs["laion-5b"]["data_files"][0] == {"split": "en", "path": "laion-5b/en-*.parquet"}
    # A split without rows has no file, and none is named.
    assert [one["split"] for one in configs["aesthetic_7"]["data_files"]] == ["en", "multi", "nolang"]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["datasets", "duckdb", "pandas", "polars"])
def test_each_line_of_the_card_loads_the_split(built: Path, library: str, tmp_path: Path) -> None:
    (line,) = [line for line in lines(built) if re.search(rf"import .*\b{library}\b", line)]
    code = f"{line}\nprint(len(pairs), sorted(pairs['uid'])[0])"
    environment = {"PATH": "", "HOME": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = programs.finished(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=built,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["10", f"{0:032x}"]


@pytest.mark.slow
def test_every_configuration_loads_with_its_splits(built: Path, tmp_path: Path) -> None:
    code = (
        "import datasets, os\n"
        "for name in datasets.get_dataset_config_names(os.getcwd()):\n"
        "    loaded = datasets.load_dataset(os.getcwd(), name)\n"
        "    print(name, *(f'{split}={len(loaded[split])}' for split in loaded))\n"
    )
    environment = {"PATH": "", "HOME": str(tmp_path), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = programs.finished(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=built,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.splitlines()
    assert "pairs en=10 multi=10 nolang=10" in loaded
    assert "laion-5b en=10 multi=10 nolang=10" in loaded
    assert len(loaded) == len(head(built)["configs"])


@pytest.mark.slow
def test_a_recipe_tells_its_caveats_and_the_card_what_was_changed_beside_it(
    tmp_path: Path, defaults: params.Params
) -> None:
    laid = params.parse(recipes.apply("laion-5b", defaults.model_dump(mode="json")))
    similarity = laid.filter.similarity.model_copy(update={"en": 0.3})
    changed = laid.model_copy(update={"filter": laid.filter.model_copy(update={"similarity": similarity})})
    for name, settings, told in (
        ("as-it-is", laid, []),
        ("changed", changed, ["| `filter.similarity.en` | `0.28` | `0.3` |"]),
    ):
        folder = published.build(tmp_path / name, published.rows(3), settings)
        card = (folder / "README.md").read_text()
        assert "It follows the recipe **laion-5b**" in card
        assert "What cannot be met exactly" in card
        assert ("It departs from the recipe in:" in card) is bool(told)
        assert [line for line in card.splitlines() if line.startswith("| `filter.similarity")] == told


def test_a_release_without_any_pair_has_a_card_too(tmp_path: Path, defaults: params.Params) -> None:
    folder = published.build(tmp_path, [{"reason": "low_similarity"}], defaults)
    card = (folder / "README.md").read_text()
    assert "```python" not in card
    assert head(folder)["configs"] is None
    assert [name for name in re.findall(r"^## (.*)$", card, re.MULTILINE) if name in SECTIONS] == SECTIONS
