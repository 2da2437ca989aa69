"""Every number on the pages of docs/studies is that of the tables beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from made.places import ROOT
from made.versions import study_pages

from experiments import study

PAGES = ROOT / "docs" / "studies"


def parts(name: str) -> tuple[str, Path, str]:
    """The page of a study, the folder of its tables, and the source of its module."""
    module = ROOT / "experiments" / "studies" / f"{name}.py"
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    return page, PAGES / name, module.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", study.names())
def test_every_cell_of_a_table_is_that_of_a_file_beside_the_page(name: str) -> None:
    page, folder, _ = parts(name)
    assert list(study_pages.tables(page))
    assert study_pages.wrong_cells(page, folder) == []


@pytest.mark.parametrize("name", study.names())
def test_every_number_in_the_prose_is_in_a_file_beside_the_page_or_in_the_text_of_the_study(name: str) -> None:
    page, folder, source = parts(name)
    assert len(study_pages.numbers(page)) > 5
    assert study_pages.wrong_numbers(page, folder, source) == []


SCORED = [name for name in study.names() if (PAGES / name / "scores.csv").is_file()]


@pytest.mark.parametrize("name", SCORED)
def test_every_line_that_compares_models_is_what_their_scores_say_of_that_pair(name: str) -> None:
    page, folder, _ = parts(name)
    assert study_pages.wrong_differences(page, folder) == []


@pytest.mark.parametrize("name", study.names())
def test_a_page_has_the_title_question_and_commands_of_its_study(name: str) -> None:
    page, _, _ = parts(name)
    known = study.load(name)
    commands = "\n".join(known.commands)
    assert page.startswith(f"# {known.title}\n\n**Question.** {known.question}\n\n```\n{commands}\n```\n")


@pytest.mark.parametrize("name", study.names())
def test_a_page_names_the_parameters_that_it_started_from(name: str) -> None:
    page, _, _ = parts(name)
    assert re.search(r"^\*\*Baseline\.\*\* `params\.yaml` with values of sha256 `[0-9a-f]{16}`", page, re.MULTILINE)
    assert "not those of HEAD" not in page


def other(token: str) -> str:
    """Change the first digit of a number."""
    return re.sub(r"\d", lambda digit: str((int(digit[0]) + 4) % 10), token, count=1)


@pytest.mark.parametrize("name", study.names())
def test_another_number_anywhere_in_a_table_is_found(name: str) -> None:
    page, folder, _ = parts(name)
    cells = {cell for table in study_pages.tables(page) for row in table for cell in row.values()}
    for cell in (cell for cell in cells if study_pages.NUMBER.fullmatch(cell)):
        changed = page.replace(f"| {cell} |", f"| {other(cell)} |", 1)
        assert study_pages.wrong_cells(changed, folder), cell


@pytest.mark.parametrize("name", study.names())
def test_another_number_in_the_prose_is_found_unless_a_table_has_that_one_too(name: str) -> None:
    page, folder, source = parts(name)
    answer = page[page.index("## Answer") :]
    missed = [
        changed[0]
        for changed in changes(answer)
        if not study_pages.wrong_numbers(changed[1], folder, source)
        and not (name in SCORED and study_pages.wrong_differences(changed[1], folder))
    ]
    assert len(missed) <= 1, missed


def changes(answer: str) -> Iterator[tuple[str, str]]:
    """Yield each number of a text, and the text with that number changed."""
    for token in dict.fromkeys(study_pages.numbers(answer)):
        changed, count = re.subn(rf"(?<![\w.,-]){re.escape(token)}(?!\w|\.\d)", other(token), answer, count=1)
        assert count, token
        yield token, changed


@pytest.mark.parametrize(
    ("shown", "value", "is_it"),
    [
        ("2,418", "2418", True),
        ("2,418", "2417", False),
        ("68.9 %", "0.689478", True),
        ("69.0 %", "0.689478", False),
        ("23%", "0.2306", True),
        ("23%", "0.2361", False),
        ("0.37", "0.37", True),
        ("3.7", "3.6729", True),
        ("4", "3.6729", False),
        ("3.1 ± 1.5 %", "3.125 ± 1.49 %", True),
        ("3.1 ± 1.6 %", "3.125 ± 1.49 %", False),
        ("\N{EN DASH}", "", True),
        ("low similarity", "low similarity", True),
    ],
)
def test_a_number_is_its_value_rounded_to_the_digits_that_it_shows(shown: str, value: str, is_it: bool) -> None:  # noqa: FBT001 - a case of the table
    assert study_pages._is_shown(shown, value) is is_it  # noqa: SLF001 - what all of these tests stand on


def test_names_with_digits_are_no_numbers() -> None:
    assert study_pages.numbers(
        "LAION-5B of ViT-B/32, recall@1, `x 12`, [a](b/34.png): 4.6% and 2.9 to 3.3 %, +3.5."
    ) == [
        "4.6%",
        "2.9",
        "3.3 %",
        "+3.5",
    ]
