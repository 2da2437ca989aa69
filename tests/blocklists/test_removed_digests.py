"""Digests that removals name: which rows match."""

from __future__ import annotations

from pathlib import Path

from made.versions import tables

from laion_dask.blocklists import known_content, known_lists

MD5, SHA256 = "a" * 32, "b" * 64


def test_a_row_matches_by_either_digest_and_a_changed_list_is_read_again(tmp_path: Path) -> None:
    images = tables.images({"md5": MD5}, {}, {"sha256": SHA256}, {"reason": "timeout"}, {"md5": "a" * 31 + "b"})

    def matches(kind: str, *digests: str) -> list[bool]:
        removed = [known_lists.of_digests(kind, {*digests}, tmp_path)]
        return list(known_content.any_of(known_content.of_rows(removed, images), images.num_rows).tolist())

    assert matches("md5", MD5, "0" * 32) == [True, False, False, False, False]
    assert matches("sha256", SHA256, "b" * 63 + "c") == [False, False, True, False, False]
    assert matches("md5", "0" * 32) == [False] * 5
    assert matches("md5", "a" * 31 + "b") == [False, False, False, False, True]
    assert not known_content.any_of(known_content.of_rows([], images), images.num_rows).any()
