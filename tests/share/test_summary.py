"""The summary of training content: its figures are those of the tables, and what people must add is marked."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from made.versions import published

from laion_dask import params
from laion_dask.share import summary, summary_answers, summary_figures
from laion_dask.share.summary_figures import Domain, SummaryError

PAIRS = 24
SECTIONS = ["1.1", "1.2", "1.3", "2.1", "2.2.1", "2.2.2", "2.3", "2.4", "2.5", "2.6", "3.1", "3.2", "3.3"]


def rows() -> list[dict[str, Any]]:
    """Twelve sites with two pairs each; the pictures of a site weigh more than those of the one before."""
    made = []
    for number, row in enumerate(published.rows(PAIRS)):
        site = number // 2
        made.append(
            row
            | {
                "url": f"https://img{number}.site{site}.co.uk/{number}.jpg",
                "caption": f"Käse {number}",
                "bytes": 1_000 * (site + 1),
                "sha256": f"{number:064x}",
                "server_date": f"2026-{1 + site:02}-03T00:00:00Z",
            }
        )
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, defaults: params.Params) -> Path:
    dropped = [{"uid": f"{900:032x}", "reason": "unsafe", "bytes": 77, "server_date": "2026-12-24T00:00:00Z"}]
    return published.build(tmp_path_factory.mktemp("built"), [*rows(), *dropped], defaults).parent


@pytest.fixture(scope="module")
def document(data: Path) -> dict[str, Any]:
    summary.write(data, data.parent / "summary", small=False, given={})
    return dict(json.loads((data.parent / "summary" / summary.JSON).read_text()))


def answer(document: dict[str, Any], wanted: str) -> dict[str, Any]:
    return next(one for section in document["sections"] for one in section["answers"] if one["id"] == wanted)


def test_every_section_of_the_template_is_there_in_order(document: dict[str, Any]) -> None:
    assert [section["number"] for section in document["sections"]][1:] == SECTIONS


def test_amounts_are_those_of_the_kept_pairs(document: dict[str, Any]) -> None:
    texts = [row["caption"] for row in rows()]
    figures = document["figures"]
    assert (figures["pairs"], figures["images"]) == (PAIRS, PAIRS)
    assert figures["characters"] == sum(len(text) for text in texts)
    assert figures["text_bytes"] == sum(len(text.encode()) for text in texts)
    assert figures["image_bytes"] == sum(row["bytes"] for row in rows())
    assert f"{PAIRS:,} texts" in answer(document, "1.3.text")["from_version"]
    assert answer(document, "1.3.image")["from_version"].startswith("Less than 1 million images")


def test_the_period_is_that_of_all_responses_and_the_latest_date_its_end(document: dict[str, Any]) -> None:
    assert answer(document, "2.3.period")["from_version"] == "01/2026 to 12/2026"
    assert answer(document, "1.3.latest")["from_version"] == "12/2026"


def test_domains_are_registered_ones_by_bytes_of_images_and_texts(document: dict[str, Any], data: Path) -> None:
    last = [row for row in rows() if ".site11." in row["url"]]
    size = sum(row["bytes"] + len(row["caption"].encode()) for row in last)
    second = [row for row in rows() if ".site10." in row["url"]]
    assert document["domains"] == [
        {"name": "site11.co.uk", "images": 2, "bytes": size},
        {"name": "site10.co.uk", "images": 2, "bytes": sum(r["bytes"] + len(r["caption"].encode()) for r in second)},
    ]
    with (data.parent / "summary" / "domains.csv").open(newline="") as file:
        assert [row["domain"] for row in csv.DictReader(file)] == ["site11.co.uk", "site10.co.uk"]
    assert answer(document, "2.3.domains")["from_version"].startswith("2 of 12 domains")


@pytest.mark.parametrize(
    ("domains", "small", "listed"),
    [(0, False, 0), (1, False, 1), (9, False, 1), (10, False, 1), (11, False, 2), (100, False, 10),
     (30_000, False, 3_000), (1, True, 1), (20, True, 1), (21, True, 2), (20_000, True, 1_000), (30_000, True, 1_000)],
)  # fmt: skip
def test_the_list_has_the_templates_share(domains: int, *, small: bool, listed: int) -> None:
    every = [Domain(f"{number}.org", 1, 1) for number in range(domains)]
    assert len(summary_answers.listed_domains(every, small=small)) == listed


@pytest.mark.parametrize(
    ("pairs", "size", "expected"),
    [(10, 10**9 - 1, "Less than 1 billion tokens"), (10, 10**9, None),
     (10**9, 10**13, "1 billion to 10 trillion tokens"),
     (10**9, 10**13 + 1, None), (10**13 + 1, 10**15, "More than 10 trillion tokens")],
)  # fmt: skip
def test_a_range_of_tokens_is_only_said_where_the_bytes_decide_it(
    data: Path, pairs: int, size: int, expected: str | None
) -> None:
    figures = dataclasses.replace(summary_figures.measure(data), pairs=pairs, text_bytes=size)
    assert summary_answers.text_range(figures) == expected
    sizes = next(one for one in summary_answers.sections(figures, small=False) if one.number == "1.3").answers
    assert next(one for one in sizes if one.id == "1.3.text").open is (expected is None)


def test_the_page_marks_each_thing_that_people_must_add_and_asks_for_nothing_else(
    document: dict[str, Any], data: Path
) -> None:
    page = (data.parent / "summary" / summary.PAGE).read_text()
    marked = [one for section in document["sections"] for one in section["answers"] if one["to_add"]]
    assert page.count("To be added:") == len(marked) == document["to_add"]
    assert f"{len(marked)} answers need something" in page
    assert "The wording of the questions is not the official one." in page
    assert not re.search(r"<script|<img|<link|https?://(?!img|www)[^ <]*\.(?:js|css)", page)


def test_every_answer_has_a_source_or_is_marked(document: dict[str, Any]) -> None:
    for section in document["sections"]:
        for one in section["answers"]:
            assert bool(one["from_version"]) == bool(one["files"]), one["id"]
            assert one["from_version"] or one["to_add"], one["id"]


def test_given_answers_take_the_marks_away(data: Path, tmp_path: Path, document: dict[str, Any]) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text("1.1.provider: ACME <b>, mail@acme.org\n1.2.names: ACME-1\n")
    still = summary.write(data, tmp_path / "out", small=True, given=summary.read_answers(file))
    assert still == document["to_add"] - 2
    page = (tmp_path / "out" / summary.PAGE).read_text()
    assert "ACME &lt;b&gt;, mail@acme.org" in page
    read = json.loads((tmp_path / "out" / summary.JSON).read_text())
    assert answer(read, "1.1.provider") | {"from_people": ""} == answer(document, "1.1.provider") | {
        "from_people": "", "to_add": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [("1.1.nobody: x\n", r"nothing is to be added at 1\.1\.nobody"), ("- a\n", "no list of texts"),
     ("1.1.provider: ''\n", "no list of texts"), ("1.1.provider: [\n", "cannot be read")],
)  # fmt: skip
def test_answers_that_fit_nowhere_are_refused(data: Path, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(text)
    with pytest.raises(SummaryError, match=message):
        summary.write(data, tmp_path / "out", small=False, given=summary.read_answers(file))
    assert not (tmp_path / "out").exists()


def test_counts_of_opt_outs_and_lists_are_those_of_the_manifest(data: Path) -> None:
    figures = summary_figures.measure(data)
    counts = {
        **figures.manifest["counts"],
        "download": {"images": {"seen": 99, "kept": 50, "dropped": {"robots": 31, "tdmrep": 11, "listed_hash": 7}}},
    }
    changed = dataclasses.replace(figures, manifest={**figures.manifest, "counts": counts})
    texts = {
        one.id: one.text or "" for section in summary_answers.sections(changed, small=False) for one in section.answers
    }
    assert "by signal: robots 31, tdmrep 11." in texts["3.1.measures"]
    assert "reserve their rights were left out: 4." in texts["3.1.measures"]
    assert "with 2 entries, matched before an image is stored: 7 images" in texts["3.2.measures"]


def test_what_is_not_obeyed_is_not_called_obeyed(data: Path) -> None:
    figures = summary_figures.measure(data)
    parameters = json.loads(json.dumps(figures.manifest["parameters"]))
    parameters["download"]["rights"] = ["tdmrep"]
    parameters["extract"]["page_opt_out"] = "record"
    changed = dataclasses.replace(figures, manifest={**figures.manifest, "parameters": parameters})
    texts = {
        one.id: one.text or "" for section in summary_answers.sections(changed, small=False) for one in section.answers
    }
    assert "read and obeyed: tdmrep." in texts["3.1.measures"]
    assert "Recorded, not obeyed: robots, ai_txt" in texts["3.1.measures"]
    assert "Reservations of pages were recorded, not obeyed." in texts["3.1.measures"]
    assert "recorded, not obeyed (RFC 9309)" in texts["2.3.behaviour"]


def test_a_version_without_its_download_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "release").symlink_to(data / "release")
    with pytest.raises(SummaryError, match=r"download has no tables.*dvc checkout"):
        summary_figures.measure(tmp_path)
