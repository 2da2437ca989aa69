"""The page: self-contained, escaped, the same bytes each time, and honest about being a demo."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.report import part, timeline
from laion_dask.report.origin import drawing

VERSION = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
DIGESTS = {"data/crawl": "0123456789abcdef0123456789abcdef.dir", "data/release": "f" * 32 + ".dir"}


class Reader(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return sample_version.write(tmp_path_factory.mktemp("version"), links=120, shards=1)


@pytest.fixture(scope="module")
def written(
    version: tuple[Path, Path], defaults: Params, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, dict[str, Any]]]:
    out = tmp_path_factory.mktemp("out") / "report"
    return out, part.write(out, *version, defaults, DIGESTS, version=VERSION, recipe="laion-5b demo")


@pytest.fixture
def page(written: tuple[Path, dict[str, dict[str, Any]]]) -> Path:
    return written[0] / "report.html"


@pytest.mark.slow
def test_the_page_loads_nothing_but_three_files_beside_the_version_and_links_nowhere(
    page: Path, version: tuple[Path, Path]
) -> None:
    reader = read(page)
    assert not {name for name, _ in reader.tags} & {
        "script",
        "link",
        "iframe",
        "embed",
        "form",
        "base",
        "video",
        "audio",
    }
    shown = [attributes.pop("data") for name, attributes in reader.tags if name == "object"]
    beside = drawing.names(DIGESTS, version[1])
    names = [beside["origin"], beside["parent"], timeline.name(DIGESTS, version[1])]
    assert shown == [f"../trace/{name}" for name in names]
    assert f"There is no timeline beside this page (data/trace/{names[2]})" in reader.text
    assert f"The comparison is not beside this page (data/trace/{names[1]})" in reader.text
    for name, attributes in reader.tags:
        for key in ("src", "srcset", "href", "action", "poster", "background", "data"):
            value = attributes.get(key)
            assert value is None or value.startswith("#" if name == "a" else "data:image/"), (name, key)
    style = re.search(r"<style>(.*?)</style>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_anchor_of_the_page_has_its_place(page: Path) -> None:
    reader = read(page)
    places = {attributes.get("id") for _, attributes in reader.tags}
    for name, attributes in reader.tags:
        if name == "a":
            assert (attributes["href"] or "").removeprefix("#") in places


def test_the_page_has_the_numbers_their_meaning_and_what_they_were_made_of(
    page: Path, version: tuple[Path, Path]
) -> None:
    text = re.sub(r"\s+", " ", read(page).text)
    funnel = sample_version.load_metrics(version[1])
    for stage, ledger in (("extract", "links"), ("download", "images"), ("filter", "pairs")):
        assert f"{funnel[stage][ledger]['seen']:,}" in text
    head = ("Version " + VERSION, "Recipe laion-5b demo")
    for expected in (*head, "the shorter side is below filter.min_side_px", "Wilson", *DIGESTS, *DIGESTS.values()):
        assert expected in text
    assert "similarity.en" in text
    assert "LAION-5B" in text
    assert sum(name == "img" for name, _ in read(page).tags) > 20


def test_published_numbers_stand_beside_those_of_the_version(page: Path) -> None:
    text = re.sub(r"\s+", " ", read(page).text)
    for expected in (
        "5B: 2.9",
        "5B: 6.1",
        "clip l14 30",
        "0.537",
        "140 / 235 / 366 / 640 / 1080",
        "laion_dask/report/reference_tables",
    ):
        assert expected in text
    assert "Shares beside published data sets" in text


@pytest.mark.slow
def test_a_demo_says_that_it_is_one_and_another_crawl_does_not(
    page: Path, version: tuple[Path, Path], defaults: Params, tmp_path: Path
) -> None:
    assert "This is a demo." in read(page).text
    real = defaults.model_copy(
        update={"crawl": defaults.crawl.model_copy(update={"source": "files", "files": ("a.wat.gz",)})}
    )
    part.write(tmp_path, *version, real, {})
    text = read(tmp_path / "report.html").text
    assert "This is a demo." not in text
    assert "built without DVC" in text


@pytest.mark.slow
def test_the_same_version_gives_the_same_bytes(
    page: Path, version: tuple[Path, Path], defaults: Params, tmp_path: Path
) -> None:
    part.write(tmp_path, *version, defaults, dict(reversed(DIGESTS.items())), version=VERSION, recipe="laion-5b demo")
    files = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert {"report.html", "statistics.json", "truth.json"} <= {str(path) for path in files}
    for path in files:
        assert (tmp_path / path).read_bytes() == (page.parent / path).read_bytes(), path


@pytest.mark.slow
def test_texts_of_the_web_are_escaped(tmp_path: Path, defaults: Params) -> None:
    attack = '<script>alert(1)</script><img src="https://spy.example/x.gif" onerror=alert(1)>"\'&'
    data, metrics = sample_version.write(tmp_path, links=60, shards=1, text=attack)
    part.write(tmp_path / "out", data, metrics, defaults, {"<b>data</b>": "<i>"})
    page = tmp_path / "out" / "report.html"
    reader = read(page)
    assert "<script" not in page.read_text(encoding="utf-8")
    assert attack[:40] in reader.text
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert not {"b", "i"} & {name for name, attributes in reader.tags if "<b>" in str(attributes)}


def test_the_headline_has_rates_intervals_decisions_and_kept_pairs(
    version: tuple[Path, Path], written: tuple[Path, dict[str, dict[str, Any]]]
) -> None:
    _, found = written
    assert set(found) == {"safety", "truth", "kept", "texts", "rates", "selection"}
    unsafe = found["safety"]["unsafe_of_scored"]["all"]
    assert unsafe["low"] <= unsafe["rate"] <= unsafe["high"]
    assert set(found["truth"]["low_similarity"]) == {"precision", "recall"}
    assert found["kept"]["all"] == sum(found["kept"][split] for split in ("en", "multi", "nolang"))
    assert found["kept"]["all"] == sample_version.load_metrics(version[1])["release"]["pairs"]["kept"]
    # Git keeps it as metrics/report.json: DVC compares numbers, and a null is none.
    assert "null" not in json.dumps(found)


def test_the_numbers_beside_the_page_are_strict_json(page: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    for name in ("statistics.json", "truth.json"):
        assert json.loads((page.parent / name).read_text(encoding="utf-8"), parse_constant=refuse)


def test_a_text_in_no_language_is_called_as_its_split(page: Path) -> None:
    for name in ("languages", "kept"):
        table = (page.parent / "tables" / f"{name}.csv").read_text()
        assert re.search(r"^nolang,", table, re.MULTILINE), name
    groups = json.loads((page.parent / "rates.json").read_text())
    languages = {one["group"] for one in groups["groups"] if one["by"] == "language"}
    assert {"nolang"} <= languages & {one["language"] for one in groups["selection"]}
    assert "none" not in languages
