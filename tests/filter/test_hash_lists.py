"""Digests that removals name: which rows match."""

from __future__ import annotations

from pathlib import Path

import tables

from laion_dask.filter import hash_lists

MD5, SHA256 = "a" * 32, "b" * 64


def test_a_row_matches_by_either_digest_and_a_changed_list_is_read_again(tmp_path: Path) -> None:
    images = tables.images({"md5": MD5}, {}, {"sha256": SHA256}, {"reason": "timeout"}, {"md5": "a" * 31 + "b"})
    first = hash_lists.write({"md5": frozenset({MD5, "0" * 32}), "sha256": frozenset()}, tmp_path)
    assert first == {"md5": tmp_path / "md5.npy"}
    assert hash_lists.matches(images, first, "1").tolist() == [True, False, False, False, False]
    second = hash_lists.write({"sha256": frozenset({SHA256, "b" * 63 + "c"}), "md5": frozenset()}, tmp_path)
    assert hash_lists.matches(images, second, "2").tolist() == [False, False, True, False, False]
    assert not hash_lists.matches(images, {}, "3").any()
