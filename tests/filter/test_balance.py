"""Entries in texts, as MetaCLIP finds them; words in any case; and what is no list of entries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from laion_dask.filter import uid_sets
from laion_dask.filter.sampling import balance
from laion_dask.filter.sampling.balance import EntriesError, Matcher, read_entries


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a red fox, fox", ["red fox", "fox", "a"]),
        ("Fox", []),
        ("foxes", []),
        ("fox", ["fox"]),
        ("(fox)", []),
        ("go to St. Louis!", ["St. Louis"]),
        ("fox\tfox\nfox", ["fox"]),
        ("fox`s", ["fox"]),
        ("", []),
        ("a a a", ["a"]),
    ],
)
def test_an_entry_counts_between_spaces_and_marks_in_its_own_case(text: str, found: list[str]) -> None:
    entries = ["red fox", "fox", "St. Louis", "a"]
    ((*places,),) = Matcher(entries).find([text]).to_pylist()
    assert [entries[place] for place in places] == found


def test_entries_are_one_a_line_or_a_json_list(tmp_path: Path) -> None:
    (tmp_path / "entries.txt").write_text("fox\n\n red fox \nfox\n", encoding="utf-8")
    (tmp_path / "entries.json").write_text(json.dumps(["fox", "red fox"]))
    assert read_entries(tmp_path / "entries.txt") == read_entries(tmp_path / "entries.json") == ["fox", "red fox"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none.txt", None, "cannot be read"),
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"fox": 1}', "is not a list of texts"),
        ("a.json", "[1]", "is not a list of texts"),
        ("a.txt", "\n \n", "has no entries"),
    ],
)
def test_what_is_no_list_of_entries_is_refused(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(EntriesError, match=rf"{message}.*Remedy: entries one a line"):
        read_entries(tmp_path / name)


def test_an_entry_that_is_not_common_is_never_thinned_out() -> None:
    assert balance.chances(np.array([0, 1, 20, 40]), 20).tolist() == [1.0, 1.0, 1.0, 0.5]


def test_coins_of_one_pair_are_independent_and_none_falls_without_an_entry() -> None:
    uids = uid_sets.halves(pa.array([f"{number:032x}" for number in range(20_000)]))
    one, other, both = (
        balance.falls(uids, pa.array([entries] * len(uids), pa.list_(pa.int32())), np.array([0.5, 0.5]), 3)
        for entries in ([0], [1], [0, 1])
    )
    assert (both == (one | other)).all()
    assert abs((one & other).mean() - 0.25) < 0.01
    assert not balance.falls(uids[:3], pa.array([[], [], []], pa.list_(pa.int32())), np.array([1.0]), 3).any()
