"""The column that the stage score adds where score.masked_text names a detector of text."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from laion_dask.schema.columns import Column

MASKED: Final = Column(
    "masked_similarity",
    pa.float32(),
    "cosine of the text and of the image with the text in it masked out (T-MARS); NaN without an image or a text",
    "-1..1",
)
