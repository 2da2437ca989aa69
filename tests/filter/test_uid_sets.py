"""Sets of uids: DataComp's subset files in and out, Parquet of earlier versions, and who is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import tables

from laion_dask.filter import uid_sets
from laion_dask.filter.uid_sets import HALVES, UidSetError, contains, halves, prepare, write

UID = "8a1a06af075b20557349b444929a59de"
uids = st.lists(st.integers(0, (1 << 128) - 1).map(lambda number: f"{number:032x}"), max_size=30)


def test_a_uid_is_two_numbers_as_in_datacomp() -> None:
    expected = np.array([(int(UID[:16], 16), int(UID[16:], 16))], "u8,u8")
    assert halves(pa.array([UID])).tolist() == expected.tolist()
    assert halves(pa.array([UID])).dtype == np.dtype("u8,u8") == HALVES
    # A slice of a column begins behind the start of its buffers.
    assert halves(pa.array(["0" * 32, UID]).slice(1)).tolist() == expected.tolist()
    assert halves(pa.chunked_array([pa.array([UID]), pa.array([UID])])).tolist() == expected.tolist() * 2
    assert halves(pa.array([], pa.string())).tolist() == []


@pytest.mark.parametrize("uid", ["g" * 32, "A" * 32])
def test_what_is_no_uid_is_refused(uid: str) -> None:
    with pytest.raises(ValueError, match="not in hex digits"):
        halves(pa.array([uid]))


@settings(deadline=None, max_examples=40)
@given(uids, uids)
def test_a_pair_is_in_a_set_or_it_is_not(
    tmp_path_factory: pytest.TempPathFactory, inside: list[str], others: list[str]
) -> None:
    path = tmp_path_factory.mktemp("sets") / "subset.npy"
    write(path, pa.array(inside, pa.string()))
    asked = inside + others
    found = contains(path, halves(pa.array(asked, pa.string())), str(path))
    assert found.tolist() == [uid in inside for uid in asked]


def test_uids_that_share_their_first_half_are_told_apart(tmp_path: Path) -> None:
    inside = [f"{'a' * 16}{number:016x}" for number in range(5)]
    write(tmp_path / "a.npy", pa.array(inside))
    asked = [*inside, f"{'a' * 16}{9:016x}", f"{'b' * 16}{1:016x}"]
    assert contains(tmp_path / "a.npy", halves(pa.array(asked)), "a").tolist() == [True] * 5 + [False] * 2


def test_a_subset_file_is_taken_as_it_is_and_an_unsorted_one_is_sorted(tmp_path: Path) -> None:
    numbers = np.array([(2, 1), (1, 9), (2, 1)], HALVES)
    np.save(tmp_path / "unsorted.npy", numbers)
    np.save(tmp_path / "sorted.npy", np.sort(numbers))
    assert prepare(tmp_path / "sorted.npy", tmp_path / "out") == tmp_path / "sorted.npy"
    made = prepare(tmp_path / "unsorted.npy", tmp_path / "out")
    assert made.parent == tmp_path / "out"
    assert np.load(made).tolist() == [(1, 9), (2, 1)]


def test_of_verdicts_the_kept_pairs_count_and_of_a_release_all(tmp_path: Path) -> None:
    verdicts = tables.verdicts({}, {"reason": "unsafe"}, {})
    tables.write(tmp_path / "filter" / "00000.parquet", verdicts)
    tables.write(tmp_path / "filter" / "00001.parquet", tables.verdicts({"uid": UID}))
    made = prepare(tmp_path / "filter", tmp_path / "out")
    asked = halves(pa.array([tables.uid(0), tables.uid(1), tables.uid(2), UID]))
    assert contains(made, asked, "filter").tolist() == [True, False, True, True]
    pq.write_table(pa.table({"uid": [UID], "URL": ["x"]}), tmp_path / "release.parquet")
    assert contains(prepare(tmp_path / "release.parquet", tmp_path / "out"), asked, "r").tolist() == [False] * 3 + [
        True
    ]


@pytest.mark.parametrize(
    "name", ["text.npy", "floats.npy", "matrix.npy", "text.parquet", "other.parquet", "nothing.npy", "empty"]
)
def test_what_is_no_set_is_refused_with_the_remedy(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("uid")
    elif name == "floats.npy":
        np.save(path, np.zeros(3))
    elif name == "matrix.npy":
        np.save(path, np.zeros((2, 2), HALVES))
    elif name == "nothing.npy":
        path.touch()
    elif name == "other.parquet":
        pq.write_table(pa.table({"url": ["x"]}), path)
    else:
        path.mkdir()
    with pytest.raises(UidSetError, match=rf"{path}.*Remedy: "):
        prepare(path, tmp_path / "out")


def test_a_long_run_of_equal_halves_is_found_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uid_sets, "_CHECKED_AT_ONCE", 3)
    inside = [f"{number // 6:016x}{number:016x}" for number in range(20)]
    write(tmp_path / "long.npy", pa.array(inside))
    assert prepare(tmp_path / "long.npy", tmp_path) == tmp_path / "long.npy"
    assert contains(tmp_path / "long.npy", halves(pa.array(inside)), "long").all()
