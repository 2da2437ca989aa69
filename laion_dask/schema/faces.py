"""The columns that the stage score adds where score.faces names a detector.

Beside laion_dask/schema/tables.py, whose vocabulary it goes on with.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from laion_dask.schema.columns import Column

BOXES: Final = Column(
    "face_bboxes",
    pa.list_(pa.list_(pa.float32())),
    "faces found: x1, y1, x2, y2 as shares of width and height, the surest first (DataComp); null without an image",
    "0..1",
)
SCORES: Final = Column("face_scores", pa.list_(pa.float32()), "score of the detector for each of face_bboxes", "0..1")
COLUMNS: Final = (BOXES, SCORES)
