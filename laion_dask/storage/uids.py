"""Convert hex digits of uids and hashes in Arrow columns to bytes and back, and find the rows of a table by uid."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

UID_BYTES: Final = 16
_HEX: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_NIBBLE: Final = np.full(256, 255, np.uint8)
_NIBBLE[_HEX] = np.arange(16)


def to_bytes(texts: pa.Array | pa.ChunkedArray, width: int = UID_BYTES) -> npt.NDArray[np.uint8]:
    """Return texts of lower-case hex digits as bytes (rows, width).

    Raises `ValueError` if a text is null, or has another length or other characters.
    """
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(whole):
        return np.zeros((0, width), np.uint8)
    chars = 2 * width
    fixed = whole.cast(pa.binary()).cast(pa.binary(chars))
    digits = np.frombuffer(fixed.buffers()[1], np.uint8)[fixed.offset * chars :][: len(fixed) * chars]
    nibbles = _NIBBLE[digits].reshape(len(fixed), chars)
    if fixed.null_count or nibbles.max() > 15:
        message = "a uid or hash is not in hex digits. Remedy: digits 0 to f, in lower case"
        raise ValueError(message)
    return np.asarray(nibbles[:, ::2] << 4 | nibbles[:, 1::2], np.uint8)


def hex_texts(raw: npt.NDArray[np.uint8]) -> pa.StringArray:
    """Return bytes (rows, width) as texts of lower-case hex digits."""
    digits = np.stack([_HEX[raw >> 4], _HEX[raw & 15]], axis=2)
    offsets = np.arange(len(raw) + 1, dtype=np.int32) * np.int32(2 * raw.shape[1])
    return pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(digits))


def rows_of(uids: pa.Array | pa.ChunkedArray, table: pa.Table) -> pa.Array | pa.ChunkedArray:
    """Return the row of `table` with each uid in its column `uid`; null if there is none."""
    return pc.index_in(uids, value_set=table["uid"].combine_chunks())
