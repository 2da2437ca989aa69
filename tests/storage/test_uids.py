"""Uids as bytes and as texts: one follows from the other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.storage import uids


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_texts_of_bytes_become_the_same_bytes_again(digests: list[bytes]) -> None:
    raw = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
    texts = uids.hex_texts(raw)
    assert texts.to_pylist() == [digest.hex() for digest in digests]
    assert np.array_equal(uids.to_bytes(texts), raw)


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32])
def test_a_text_that_is_no_uid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"hex digits|fixed_size_binary|[Ww]idth"):
        uids.to_bytes(pa.array([text]))
