"""What a further crawl brings, and which links are newly dead: counted by crawl of the newer version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made.versions import published, tables
from rich.console import Console
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli import diff as cli_diff
from laion_dask.cli.main import app
from laion_dask.versions import checkout, diff
from laion_dask.versions.waves import CrawlChanges

FIRST, SECOND = "CC-MAIN-2024-22", "CC-MAIN-2024-26"
OLD_WAVES = {FIRST: {"pairs": 9, "new": 7, "repeated": 0, "shards": 1}}
NEW_WAVES = OLD_WAVES | {SECOND: {"pairs": 6, "new": 4, "repeated": 2, "shards": 2}}


def rows(reasons: dict[int, str], crawl: str = FIRST, shard: int = 0) -> list[dict[str, Any]]:
    return [
        {"uid": tables.uid(number), "crawl": crawl, "shard": shard, "reason": reason}
        for number, reason in reasons.items()
    ]


OLD = rows({1: "keep", 2: "keep", 3: "low_similarity", 4: "keep", 5: "not_found", 6: "keep", 7: "keep"})
NEW = [
    # 1 stays; 2 is gone, 3 was alive though not kept, 4 refuses, 5 was dead before, 6 is listed; 7 is removed.
    *rows({1: "keep", 2: "not_found", 3: "timeout", 4: "robots", 5: "timeout", 6: "listed_hash"}),
    *rows({7: "removed_url"}, shard=-1),
    *rows({11: "keep", 12: "unsafe"}, SECOND, 1),
    *rows({13: "keep", 14: "not_found"}, SECOND, 2),
]


@pytest.fixture(scope="module")
def small(defaults: params.Params) -> params.Params:
    """Parameters of a release without layouts."""
    return defaults.model_copy(update={"release": defaults.release.model_copy(update={"tables": ()})})


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, small: params.Params) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("both")
    return (
        published.build(folder / "old", OLD, small, OLD_WAVES),
        published.build(folder / "new", NEW, small, NEW_WAVES),
    )


def compare(old: Path, new: Path) -> diff.Diff:
    with checkout.opened(str(old)) as before, checkout.opened(str(new)) as after:
        return diff.compare(before, after)


@pytest.mark.slow
def test_each_crawl_says_what_it_brought_and_which_of_its_links_are_newly_dead(both: tuple[Path, Path]) -> None:
    first, second = compare(*both).waves
    dead = {"refused": 1, "gone": 1, "unreachable": 1}
    assert first == CrawlChanges(FIRST, only_new=False, pairs=9, new=7, repeated=0, kept=1, added=0,
                                 asked_in_both=5, newly_dead=dead)  # fmt: skip
    nothing = dict.fromkeys(dead, 0)
    assert second == CrawlChanges(SECOND, only_new=True, pairs=6, new=4, repeated=2, kept=2, added=2,
                                  asked_in_both=0, newly_dead=nothing)  # fmt: skip


@pytest.mark.slow
def test_the_sums_over_crawls_are_those_of_the_whole_comparison(both: tuple[Path, Path]) -> None:
    for old, new in (both, both[::-1]):
        found = compare(old, new)
        assert sum(one.added for one in found.waves) == found.added
        assert sum(one.kept for one in found.waves) == found.common + found.added


def test_without_verdicts_of_both_nothing_is_said_of_dead_links(both: tuple[Path, Path]) -> None:
    old, new = both
    found = diff.compare(diff.ReleaseFolder("old", old), diff.ReleaseFolder("new", new, new.parent / "filter"))
    assert [(one.newly_dead, one.asked_in_both) for one in found.waves] == [(None, None)] * 2
    assert [one.added for one in found.waves] == [0, 2]


@pytest.mark.slow
def test_versions_of_earlier_code_have_no_counts_by_crawl(
    both: tuple[Path, Path], small: params.Params, tmp_path: Path
) -> None:
    earlier = published.build(tmp_path / "earlier", OLD, small)
    assert compare(both[0], earlier).waves == ()
    assert [one.only_new for one in compare(earlier, both[1]).waves] == [True, True]  # its crawl has another name


def test_the_command_prints_a_table_of_crawls_in_80_columns_and_all_numbers_as_json(
    both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(both[0].parents[2])
    names = ["old/data/release", "new/data/release"]
    done = CliRunner().invoke(app, ["diff", *names], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in lines if "CC-MAIN" in line]
    brought = [[FIRST, "7", "0", "1", "0"], [f"{SECOND} +", "4", "2", "2", "2"]]
    assert cells == [*brought, [FIRST, "5", "1", "1", "1"]]
    assert "By crawl of new/data/release" in done.output
    answer = json.loads(CliRunner().invoke(app, ["diff", *names, "--json"]).output)
    assert answer["waves"][0]["newly_dead"] == {"refused": 1, "gone": 1, "unreachable": 1}
    assert [one["crawl"] for one in answer["waves"]] == [FIRST, SECOND]
    done = CliRunner().invoke(app, ["diff", names[0], names[0]], env={"COLUMNS": "80"})
    assert "By crawl" not in done.output


def test_tables_of_crawls_with_hundreds_of_millions_of_pairs_fit_80_columns(both: tuple[Path, Path]) -> None:
    many = 987_654_321
    dead = {"refused": many, "gone": many, "unreachable": many}
    found = compare(*both)
    large = [CrawlChanges(one.crawl, True, many, many, many, many, many, many, dead) for one in found.waves]
    console = Console(width=80, force_terminal=False)
    for table in cli_diff.by_crawl(replace(found, waves=tuple(large))):
        with console.capture() as capture:
            console.print(table)
        assert "987,654,321" in capture.get()
        assert "\N{HORIZONTAL ELLIPSIS}" not in capture.get()
        assert max(map(len, capture.get().splitlines())) <= 80
