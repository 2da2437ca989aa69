"""Recipes: named, checked, with the source of every number; laid over params.yaml without touching the rest."""

from __future__ import annotations

import copy
import hashlib
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.crawls.wat_bytes import image, members, page_json, record
from made.places import ROOT
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.extract.part import extract
from laion_dask.params import ParamsError, recipes
from laion_dask.params.recipes import RecipeError
from laion_dask.schema.values import SIGNALS

FOLDER = ROOT / "laion_dask" / "recipes"
FILE = FOLDER.parents[1] / "params.yaml"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "demo"))
"""All recipes but `demo`, which is laid over another."""
PUBLISHED = {
    "cc2dataset", "datacomp", "datacomp-basic", "datacomp-clip-score", "datacomp-clip-score-threshold",
    "datacomp-image-and-clip", "datacomp-image-based", "datacomp-laion2b", "datacomp-no-filter", "datacomp-text-based",
    "dfn", "flyt", "laion-400m", "laion-5b", "laion-5b-as-run", "laion-aesthetics-v1", "laion-aesthetics-v2-4.5",
    "laion-aesthetics-v2-4.75", "laion-aesthetics-v2-5", "laion-aesthetics-v2-6", "laion-aesthetics-v2-6.25",
    "laion-aesthetics-v2-6.5", "laion-art", "laion-coco", "laion-coco-as-run", "laion-high-resolution",
    "laion-translated", "laion-translated-as-run", "metaclip-2", "metaclip-400m", "negcliploss", "normsim",
    "relaion-research", "relaion-research-safe", "tmars",
}  # fmt: skip


def flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return values by their dotted keys."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


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


def test_there_are_these_recipes_and_the_page_names_each() -> None:
    assert recipes.names() == sorted([*NAMES, "demo"])
    assert {*NAMES} == PUBLISHED
    readme = (FOLDER.parents[1] / "docs" / "recipes.md").read_text()
    assert all(f"`{name}`" in readme for name in recipes.names())


@pytest.mark.parametrize("name", NAMES)
class TestEveryRecipe:
    def test_is_accepted_over_the_committed_parameters_and_holds_its_values(self, name: str) -> None:
        found = flat(recipes.load(name, FILE).model_dump(mode="json", exclude_unset=True))
        assert found.pop("recipe") == [name]
        base = flat(params.load(FILE).model_dump(mode="json", exclude={"recipe"}))
        wanted = flat(dict(recipes.describe(name).values))
        assert {key: found[key] for key in wanted} == wanted
        rest = {key: value for key, value in found.items() if key not in wanted}
        # A rule that is off is null there, and a section here.
        changed = {key for key in base for one in wanted if f"{one}.".startswith(f"{key}.")}
        changed |= {key for key in base for one in wanted if wanted[one] is None and key.startswith(f"{one}.")}
        assert rest == {key: base[key] for key in base if key not in changed}

    def test_says_of_every_rule_that_drops_here_what_it_is_there(self, name: str, base: dict[str, Any]) -> None:
        """Else a rule of params.yaml would act in a set that never had it."""
        off = {"similarity": -1.0, "max_aspect_ratio": 1_000_000.0, "max_punsafe": 1.0, "max_pwatermark": 1.0}
        rules = {key for key, value in base["filter"].items() if value not in (None, 0, "keep", [], off.get(key))}
        # These say how another rule works.
        rules -= {"near_max_distance", "near_min_cosine", "keywords"}
        assert {"similarity", "min_side_px", "duplicate_images", "near_duplicates"} <= rules
        # cc2dataset is a tool for extraction: what is filtered is the user's.
        assert name == "cc2dataset" or rules <= recipes.describe(name).values["filter"].keys()

    def test_gives_the_source_of_every_value_in_a_comment(self, name: str) -> None:
        lines = [line for line in (FOLDER / f"{name}.yaml").read_text().splitlines() if line[:1] not in {"#", ""}]
        for line in lines:
            if re.match(r"\w+:$", line) or line.strip() in {
                "pretrained: openai",
                "similarity:",
                "models:",
                "heads:",
                "tags:",
                "rank:",
            }:
                continue
            assert re.search(r" # .{8,}", line), f"{line!r} has no source"
        assert all(len(line) <= 120 for line in (FOLDER / f"{name}.yaml").read_text().splitlines())

    def test_says_whose_rules_these_are_and_what_cannot_be_met(self, name: str) -> None:
        recipe = recipes.describe(name)
        assert recipe.name == name
        assert len(recipe.title) > 30
        assert not recipe.title.startswith("#")
        assert recipe.notes.startswith("Lineage: ")
        assert re.search(r"(?i)\bsources?\b", recipe.notes)
        assert recipe.title not in recipe.notes
        # Originals that asked CLD3 must say what answers for it.
        assert name == "cc2dataset" or ("gcld3" in recipe.notes and "fastText" in recipe.notes)

    def test_loads_as_it_lies_in_any_version_of_params_yaml(self, name: str, tmp_path: Path) -> None:
        """A user's own values of other keys stay."""
        values = params.load(FILE).model_dump(mode="json")
        values["extract"]["reader"] = "warcio"
        values["release"]["name"] = "mine"
        (tmp_path / "mine.yaml").write_text("")
        YAML(typ="safe", pure=True).dump(values, tmp_path / "mine.yaml")
        loaded = recipes.load(name, tmp_path / "mine.yaml")
        assert loaded.extract.reader == "warcio"
        assert loaded.release.name == "mine"


class TestValues:
    """The numbers that a reader of the papers looks for first."""

    @pytest.mark.parametrize(
        ("name", "key", "value"),
        [
            ("cc2dataset", "extract.min_chars", 1),
            ("cc2dataset", "extract.uid", "text_url"),
            ("cc2dataset", "extract.url_form", "as_written"),
            ("laion-400m", "extract.min_chars", 5),
            ("laion-400m", "filter.similarity.en", 0.30),
            ("laion-5b", "extract.link_kinds", ["IMG@/src"]),
            ("laion-5b", "extract.relative_urls", "resolve"),
            ("laion-5b", "filter.similarity.en", 0.28),
            ("laion-5b", "filter.similarity.multi", 0.26),
            ("laion-5b", "filter.similarity.nolang", 0.26),
            ("laion-5b-as-run", "extract.link_kinds", ["*"]),
            ("laion-5b-as-run", "extract.relative_urls", "drop"),
            ("laion-5b-as-run", "extract.uid", "url_text"),
            ("laion-5b-as-run", "extract.max_host_chars", 60),
            ("laion-5b-as-run", "download.max_pixels", 89_478_484),
            ("laion-5b-as-run", "filter.similarity.en", 0.28),
            ("datacomp", "extract.min_chars", 1),
            ("datacomp", "download.side_px", 512),
            ("datacomp", "download.resize", "keep_ratio_largest"),
            ("datacomp", "catalog.shard_rows", 10_000),
            ("datacomp", "filter.max_punsafe", 0.1),
            ("laion-400m", "filter.min_bytes", 5000),
            ("datacomp-basic", "filter.min_words", 3),
            ("datacomp-basic", "filter.min_chars", 6),
            ("datacomp-basic", "filter.min_side_px", 200),
            ("datacomp-basic", "filter.max_aspect_ratio", 3.0),
            ("relaion-research", "filter.keywords.above_punsafe", 0.95),
            ("metaclip-400m", "filter.balance.t", 20_000),
            ("laion-5b", "translate", None),
            ("laion-translated", "translate.source", "column"),
            ("laion-translated-as-run", "translate.source", "none"),
            ("laion-translated-as-run", "translate.max_tokens", 30),
            ("laion-coco", "caption.samples", 40),
            ("laion-coco", "caption.top_p", 0.2427084604681384),
            ("laion-coco", "caption.end_above", 0.17937666742679637),
            ("laion-coco", "caption.max_tokens", [20, 30, 30, 45, 45]),
        ],
    )
    def test_are_the_published_ones(self, name: str, key: str, value: object) -> None:
        assert flat(dict(recipes.describe(name).values))[key] == value

    def test_datacomp_extracts_as_cc2dataset(self) -> None:
        assert recipes.load("datacomp", FILE).extract == recipes.load("cc2dataset", FILE).extract

    @pytest.mark.slow
    def test_no_recipe_switches_off_what_speaks_for_today(self) -> None:
        """Hash lists and removals hold whatever was run then, and rights signals but for the audit of what was run."""
        base = params.load(FILE)
        for name in NAMES:
            loaded = recipes.load(name, FILE)
            for section, key in (
                ("download", "robots_tokens"),
                ("download", "opt_out_directives"),
                ("catalog", "lists"),
                ("catalog", "removals"),
            ):
                assert getattr(getattr(loaded, section), key) == getattr(getattr(base, section), key), (name, key)
            binding = () if name == "laion-5b-as-run" else SIGNALS
            assert set(loaded.download.rights) == set(binding), name


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("laion5b", "'laion-5b', perhaps"),
            ("LAION-400M", "'laion-400m', perhaps"),
            ("data-comp", "'datacomp', perhaps"),
            ("coyo", "one of cc2dataset, datacomp, datacomp-basic"),
            ("", "one of cc2dataset"),
            ("../recipes/laion-5b", "'laion-5b', perhaps"),
            ("laion-5b.yaml", "'laion-5b', perhaps"),
        ],
    )
    def test_an_unknown_recipe_is_refused_with_the_nearest_name(self, name: str, remedy: str) -> None:
        with pytest.raises(RecipeError, match=re.escape(f"there is no recipe {name!r}")) as caught:
            recipes.load(name, FILE)
        assert f"Remedy: {remedy}" in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "error", "message"),
        [
            (
                "extract: {min_char: 5}",
                ParamsError,
                "sets extract.min_char = 5: no such parameter. Remedy: extract.min_chars, perhaps",
            ),
            ("extrakt: {min_chars: 5}", ParamsError, "Remedy: extract, perhaps"),
            ("filter: {similarity: {english: 0.3}}", ParamsError, "sets filter.similarity.english = 0.3"),
            ("filter: {zzz: 1}", ParamsError, "Remedy: one of similarity, min_chars"),
            ("filter: {similarity: 0.3}", ParamsError, "sets filter.similarity = 0.3. Remedy: write its keys below it"),
            ("extract: [1]", ParamsError, "sets extract = [1]. Remedy: write its keys below it"),
            (
                "1: {min_chars: 5}",
                ParamsError,
                "sets 1 = {'min_chars': 5}: no such parameter. Remedy: one of recipe",
            ),
            ("extract: {min_chars: many}", ParamsError, "extract.min_chars = 'many'"),
            ("extract: {min_chars: 3000}", ParamsError, "min_chars 3000 is above max_chars 2000"),
            ("extract: {language_detector: gcld3}", ParamsError, "gcld3 can no longer be built"),
            ("# only a header", RecipeError, "holds no sections"),
            ("", RecipeError, "holds no sections"),
            ("extract: {min_chars: 5", RecipeError, "is not YAML"),
        ],
    )
    def test_a_recipe_that_cannot_hold_is_refused_with_key_value_and_remedy(
        self, written: Path, text: str, error: type[Exception], message: str
    ) -> None:
        (written / "mine.yaml").write_text(text)
        with pytest.raises(error, match=re.escape(message)) as caught:
            recipes.load("mine", FILE)
        assert "mine" in str(caught.value)

    def test_a_missing_base_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ParamsError, match=r"nowhere\.yaml is missing"):
            recipes.load("laion-5b", tmp_path / "nowhere.yaml")


class TestLaying:
    def test_what_a_recipe_does_not_set_stays_and_lists_are_replaced(self, written: Path) -> None:
        (written / "mine.yaml").write_text(
            "# A title\n#\n# Lineage: ours.\n\nextract: {schemes: [https]}\nfilter: {similarity: {en: 0.5}}\n"
        )
        (written / "notes.md").write_text("no recipe")
        assert recipes.names() == ["mine"]
        values = {
            "extract": {"schemes": ["http", "https"], "min_chars": 5},
            "filter": {"similarity": {"en": 0.1, "multi": 0.2}, "min_words": 3},
        }
        before = copy.deepcopy(values)
        assert recipes.apply("mine", values) == {
            "extract": {"schemes": ["https"], "min_chars": 5},
            "filter": {"similarity": {"en": 0.5, "multi": 0.2}, "min_words": 3},
            "recipe": ["mine"],
        }
        assert values == before
        recipe = recipes.describe("mine")
        assert (recipe.title, recipe.notes) == ("A title", "Lineage: ours.")

    def test_a_section_that_is_absent_below_is_made(self, written: Path) -> None:
        (written / "mine.yaml").write_text("filter: {similarity: {en: 0.5}}\n")
        assert recipes.apply("mine", {}) == {"filter": {"similarity": {"en": 0.5}}, "recipe": ["mine"]}
        assert recipes.describe("mine").title == ""

    @pytest.mark.parametrize(("name", "other"), list(zip(NAMES, (*NAMES[3:], *NAMES[:3]), strict=True)))
    def test_applying_twice_changes_nothing_and_the_later_recipe_wins(
        self, name: str, other: str, base: dict[str, Any]
    ) -> None:
        once = recipes.apply(name, base)
        assert recipes.apply(name, once) == once
        both = flat(recipes.apply(other, once))
        wanted = flat(dict(recipes.describe(other).values))
        assert {key: both[key] for key in wanted} == wanted


LONG = "https://a.example/" + "x" * 2100 + ".jpg"
AS_RUN: dict[str, tuple[dict[str, Any], tuple[str, str] | str]] = {
    "a relative address is lost": (image("a red fox", "fox.jpg"), "relative_url"),
    "one from the root too": (image("a red fox", "/fox.jpg"), "relative_url"),
    "and one without a scheme": (image("a red fox", "//a.example/fox.jpg"), "relative_url"),
    "any link with an alt text is a pair": (
        {"path": "A@/href", "url": "https://a.example/page.html", "alt": "to the page"},
        ("https://a.example/page.html", "to the page"),
    ),
    ".gif is refused in a folder": (image("a red fox", "https://a.example/my.gifts/a.jpg"), "url_pattern"),
    ".svg is refused in a query": (image("a red fox", "https://a.example/a.jpg?from=b.svg"), "url_pattern"),
    ".GIF is not": (image("a red fox", "https://a.example/a.GIF"), ("https://a.example/a.GIF", "a red fox")),
    "backslashes are doubled, in the address": (
        image("a red fox", "https://a.example/b\\s.jpg"),
        ("https://a.example/b\\\\s.jpg", "a red fox"),
    ),
    "and in the text, where pipes become spaces": (
        image("a\\b|c red fox", "https://a.example/x.jpg"),
        ("https://a.example/x.jpg", "a\\\\b c red fox"),
    ),
    "line breaks and tabs become spaces": (
        image(" a\nred\tfox\u200b ", "https://a.example/x.jpg"),
        ("https://a.example/x.jpg", "a redfox"),
    ),
    "entities are decoded in texts, not in addresses": (
        image("Tom &amp; Jerry", "https://a.example/x.jpg?a=1&amp;b=2"),
        ("https://a.example/x.jpg?a=1&amp;b=2", "Tom & Jerry"),
    ),
    "a long address is cut": (image("a red fox", LONG), (LONG[:2000], "a red fox")),
    "a long text is cut": (image("w" * 3000, "https://a.example/x.jpg"), ("https://a.example/x.jpg", "w" * 2000)),
    "four characters are too few": (image(" abcd ", "https://a.example/x.jpg"), "text_too_short"),
    "ftp is accepted": (image("a red fox", "ftp://a.example/x.jpg"), ("ftp://a.example/x.jpg", "a red fox")),
    "localhost is accepted": (image("a red fox", "http://localhost/x.jpg"), ("http://localhost/x.jpg", "a red fox")),
    "an IP address is accepted": (
        image("a red fox", "http://127.0.0.1/x.jpg"),
        ("http://127.0.0.1/x.jpg", "a red fox"),
    ),
    "a host of 61 characters is not": (image("a red fox", f"https://{'h' * 53}.example/x.jpg"), "url_too_long"),
    "a host of 60 characters is": (
        image("a red fox", f"https://{'h' * 52}.example/x.jpg"),
        (f"https://{'h' * 52}.example/x.jpg", "a red fox"),
    ),
    "an address with spaces is refused": (image("a red fox", "https://a.example/a fox.jpg"), "bad_url"),
    "data: is refused": (image("a red fox", "data:image/png;base64,"), "url_scheme"),
}


class TestLaion5bAsRun:
    """The known faults of rvencu/crawlingathome-gpu-hcloud, commit 91e230f, ccpp.py."""

    def run(
        self, folder: Path, *links: object, name: str = "laion-5b-as-run", head: object = None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        (folder / "x.warc.wat.gz").write_bytes(members(record(page_json(links, head=head))))
        (folder / "out").mkdir(exist_ok=True)
        counts = extract(
            folder / "out",
            name="part",
            location=str(folder / "x.warc.wat.gz"),
            crawl="X",
            wat="x",
            order=0,
            settings=recipes.load(name, FILE).extract,
        )
        rows = pq.read_table(folder / "out" / "pairs.parquet").to_pylist()
        return counts["links"], sorted(rows, key=lambda row: row["link_index"])

    @pytest.mark.parametrize("case", AS_RUN)
    def test_a_link_comes_out_as_it_did(self, tmp_path: Path, case: str) -> None:
        link, expected = AS_RUN[case]
        links, rows = self.run(tmp_path, link)
        if isinstance(expected, str):
            assert links["dropped"] == {expected: 1}
            assert rows == []
        else:
            assert links["dropped"] == {}
            assert [(row["url"], row["text"]) for row in rows] == [expected]
            url, text = expected
            assert rows[0]["uid"] == hashlib.md5((url + text).encode()).hexdigest()

    def test_the_hash_is_md5_of_url_and_text(self, tmp_path: Path) -> None:
        _, (row,) = self.run(tmp_path, image("A red fox jumping", "https://a.example/x.jpg"))
        assert row["uid"] == "4573adcb7580ac7e2ab180156b9cc939"

    def test_a_licence_counts_only_for_what_follows_it(self, tmp_path: Path) -> None:
        by = {"path": "A@/href", "url": "https://creativecommons.org/licenses/by/4.0/"}
        links = [image("before it", "https://a.example/1.jpg"), by, image("after it", "https://a.example/2.jpg")]
        _, rows = self.run(tmp_path, *links)
        assert [row["license"] for row in rows] == ["?", "CC-BY-4.0"]
        _, rows = self.run(tmp_path, *links, name="laion-5b")
        assert [row["license"] for row in rows] == ["CC-BY-4.0", "CC-BY-4.0"]

    def test_the_first_text_of_an_address_wins(self, tmp_path: Path) -> None:
        links = [image(text, "https://a.example/x.jpg") for text in ("shy", "the first", "the second")]
        counts, rows = self.run(tmp_path, *links)
        assert [row["text"] for row in rows] == ["the first"]
        assert counts["dropped"] == {"text_too_short": 1, "url_seen": 1}

    def test_base_is_ignored_and_opt_outs_are_noted_not_obeyed(self, tmp_path: Path) -> None:
        head = {"Base": "https://base.example/", "Metas": [{"name": "robots", "content": "noai"}]}
        links = [image("a red fox", "fox.jpg"), image("a red fox", "https://a.example/x.jpg")]
        counts, rows = self.run(tmp_path, *links, head=head)
        assert counts["dropped"] == {"relative_url": 1}
        assert [row["page_signals"] for row in rows] == ["meta-robots:noai"]
        counts, rows = self.run(tmp_path, *links, head=head, name="laion-5b")
        assert counts["dropped"] == {"page_opt_out": 2}
