"""The tables of the stage group: a row for each scored image, and the pairs of images that are near each other.

Beside laion_dask/schema/tables.py, whose vocabulary it goes on with.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from laion_dask.schema.columns import Column, Table

GROUPS: Final = Table(
    "groups",
    "group",
    "one pair whose image was scored",
    (
        Column("uid", pa.string(), "identity of the pair"),
        Column("image", pa.string(), "the lowest uid with the same image bytes: stands for the image in edges"),
        Column("cluster", pa.int32(), "cluster of the image embedding"),
        Column("centroid_cosine", pa.float32(), "cosine of the image embedding and the centre of its cluster", "-1..1"),
        Column(
            "evaluation_distance", pa.float32(), "PDQ distance to group.evaluation; NaN above group.pdq_distance", "bit"
        ),
        Column("evaluation_cosine", pa.float32(), "largest cosine to an embedding of group.evaluation", "-1..1"),
    ),
)

EDGES: Final = Table(
    "edges",
    "group",
    "two images of different bytes that are near each other: in near.parquet by PDQ, in semantic.parquet by embedding",
    (
        Column("uid_a", pa.string(), "the image with the lower uid, by column image of groups"),
        Column("uid_b", pa.string(), "the other one"),
        Column("distance", pa.int32(), "PDQ distance; null in semantic.parquet", "bit"),
        Column("cosine", pa.float32(), "cosine of the two image embeddings", "-1..1"),
    ),
)

TABLES: Final = (GROUPS, EDGES)
