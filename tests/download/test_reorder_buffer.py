"""Rows in any order in, in their order out, however little memory there is."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.download.reorder_buffer import ReorderBuffer

EXTENSIONS = ("jpg", "png", "webp")


@settings(deadline=None)
@given(order=st.permutations(range(12)), memory_bytes=st.integers(0, 60))
def test_rows_come_out_in_order_with_their_own_images(order: list[int], memory_bytes: int) -> None:
    found = []
    with TemporaryDirectory() as folder, ReorderBuffer(Path(folder), memory_bytes) as spool:
        for place in order:
            spool.put(place, {"place": place}, bytes([place]) * place, EXTENSIONS[place % 3])
            # The row whose turn it is stays in memory: it is taken at once.
            assert spool.held_bytes <= memory_bytes + 12
            found += list(spool.ready())
        assert not list(Path(folder).iterdir())
    assert found == [({"place": place}, bytes([place]) * place, EXTENSIONS[place % 3]) for place in range(12)]
