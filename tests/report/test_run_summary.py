"""What a version's run is called, and how it is described."""

from __future__ import annotations

import pytest

from laion_dask.report import run_summary


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ([], "demo 01234567"),
        ([("filter.max_punsafe", "0.5", "0.2")], "max_punsafe 0.2"),
        ([("crawl.seed", "1", "2"), ("catalog.seed", "1", "3")], "crawl.seed 2, catalog.seed 3"),
        ([(f"filter.f{n}", "1", str(n)) for n in range(5)], "f0 0, f1 1, f2 2 and 2 more"),
        ([("filter.where", "null", "x" * 40)], f"where {'x' * 23}\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_a_name_has_what_fits(changed: list[run_summary.Change], name: str) -> None:
    assert run_summary.name("demo", "0123456789abcdef", changed) == name


@pytest.mark.parametrize(
    ("changed", "experiment", "name"),
    [
        ([], "amber-digs", "amber-digs"),
        ([("filter.max_punsafe", "0.5", "0.2")], "amber-digs", "max_punsafe 0.2 (amber-digs)"),
        ([("filter.max_punsafe", "0.5", "0.2")], "max-punsafe-0-2-0a1b2c3d", "max_punsafe 0.2"),
    ],
)
def test_an_experiment_is_named_by_its_changes_too(
    changed: list[run_summary.Change], experiment: str, name: str
) -> None:
    assert run_summary.name("demo", "0123456789abcdef", changed, experiment) == name


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, [("b", "2", "3")]),
        # MLflow has stored no empty value, and the beginning of a long one.
        ({"a": "x" * 6_000}, {"a": "x" * 7_000, "b": ""}, []),
        # A name has what comes first: values that both versions have.
        ({"a": "[1]", "b": "1"}, {"a": "[2]", "b": "2"}, [("b", "1", "2"), ("a", "[1]", "[2]")]),
        ({"b": "1", "c": "1"}, {"a": "new", "b": "2"}, [("b", "1", "2"), ("c", "1", "null"), ("a", "null", "new")]),
    ],
)
def test_changes_are_what_differs_between_two_versions(
    before: dict[str, str], after: dict[str, str], changed: list[run_summary.Change]
) -> None:
    assert run_summary.changes(before, after) == changed


def test_texts_of_parameters_do_not_break_the_table_of_a_description() -> None:
    changed = run_summary.changes({"a.b": "x|y"}, {"a.b": "<img src=x>", "a.c": "new"})
    assert changed == [("a.b", "x|y", "<img src=x>"), ("a.c", "null", "new")]
    parent, counts = ("be|fore", "#/runs/1"), ({"3 kept": 10.0}, {"3 kept": 8.0, "6 precision": 0.5})
    text = run_summary.description(parent, changed, *counts, "v", "#/runs/2/artifacts/report.html")
    first = "**Compared with** [be\\|fore](#/runs/1): kept 10 \N{RIGHTWARDS ARROW} 8, precision 50.00%."
    assert text.splitlines()[0] == f"{first} [Report](#/runs/2/artifacts/report.html)"
    assert "| `a.b` | x\\|y | \\<img src=x\\> |" in text
    assert "| kept | 10 | 8 |" in text
    assert "| precision |  | 50.00% |" in text


def test_a_comparison_is_described_by_its_table_and_links_to_its_runs() -> None:
    page = "# sweep\n\n| version | kept |\n|---|---|\n| a | 1 |\n\n![Kept](curve.png)\n\n**Kept.** By threshold.\n"
    text = run_summary.of_comparison(page, {"similarity.en=0.3": "#/experiments/1/runs/2"})
    assert "| a | 1 |" in text
    assert "**Kept.** By threshold." in text
    assert "curve.png" not in text
    assert "- [similarity.en=0.3](#/experiments/1/runs/2)" in text
