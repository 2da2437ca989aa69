"""Lists of known content: what is read, what is refused, and that no entry is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import tables

from laion_dask import hash_lists
from laion_dask.hash_lists import HashListError, read

MD5, SHA256 = "a" * 32, "b" * 64


def test_hash_lists_hold_md5_and_sha256_with_comments(tmp_path: Path) -> None:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text(f"# a list\n\n{MD5.upper()}\n  {SHA256}  # from a partner\n")
    second.write_text(f"{'0' * 32}\r\n{MD5}\n")
    assert read([first, second]) == {"md5": {MD5, "0" * 32}, "sha256": {SHA256}}
    assert read([]) == {"md5": frozenset(), "sha256": frozenset()}


@pytest.mark.parametrize(
    "entry", ["f" * 31, "f" * 33, "e" * 40, "z" * 32, "é" * 16, f"{'f' * 32} {'f' * 32}", "secret"]
)
def test_a_bad_line_is_refused_by_number_and_never_shown(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "known.txt"
    path.write_text(f"{MD5}\n# fine so far\n{entry}\n", encoding="utf-8")
    with pytest.raises(HashListError) as refused:
        read([path])
    assert str(refused.value) == f"{path}:3: no md5 or sha256 in hex. Remedy: 32 or 64 hex digits a line"


def test_a_missing_list_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(HashListError, match=r"which is missing\. Remedy: correct the path or take it out"):
        read([tmp_path / "none.txt"])


def test_a_row_matches_by_either_digest_and_a_changed_list_is_read_again(tmp_path: Path) -> None:
    images = tables.images({"md5": MD5}, {}, {"sha256": SHA256}, {"reason": "timeout"}, {"md5": "a" * 31 + "b"})
    first = hash_lists.write({"md5": frozenset({MD5, "0" * 32}), "sha256": frozenset()}, tmp_path)
    assert first == {"md5": tmp_path / "md5.npy"}
    assert hash_lists.matches(images, first, "1").tolist() == [True, False, False, False, False]
    second = hash_lists.write({"sha256": frozenset({SHA256, "b" * 63 + "c"}), "md5": frozenset()}, tmp_path)
    assert hash_lists.matches(images, second, "2").tolist() == [False, False, True, False, False]
    assert not hash_lists.matches(images, {}, "3").any()
