"""Write released rows in the columns of other data sets: LAION-400M, LAION-5B, Re-LAION, DataComp, img2dataset.

Each layout is one table of `release.tables`, in a folder of its name beside the main tables. Sources of the columns:
rom1504/laion-prepro for LAION-400M and LAION-5B's joined files, table 8 of DataComp's paper for its metadata,
img2dataset's examples for its input. Of Re-LAION's columns only url and caption are public.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.schema import Column, Table

NSFW: Final = "laion400m_nsfw"
"""Column of the scores with LAION-400M's tag, if `score.tags` has it."""
OWN: Final = "similarity_"
"""Prefix of the scores' columns with the similarity of one model."""

# The keys in DataComp's programs, by open_clip's name of the architecture.
_DATACOMP_KEYS: Final = {"ViT-B-32": "b32", "ViT-L-14": "l14"}
_SAMPLE_ID_DIGITS: Final = 15  # of 4 bits each: the number fits an int64

_URL = Column("URL", pa.string(), "image address")
_TEXT = Column("TEXT", pa.string(), "alt text")
_WIDTH = Column("WIDTH", pa.int32(), "width of the original", "px")
_HEIGHT = Column("HEIGHT", pa.int32(), "height of the original", "px")
_LANGUAGE = Column("LANGUAGE", pa.string(), "ISO 639-1 code; empty in nolang")
_SIMILARITY = Column("similarity", pa.float64(), "cosine of image and text embedding", "-1..1")
_HASH = Column("hash", pa.int64(), "first half of mmh3.hash64(url + text), signed, seed 0 (LAION's joined tables)")
_SAFETY = (
    Column("punsafe", pa.float32(), "probability that the image is unsafe", "0..1"),
    Column("pwatermark", pa.float32(), "probability that the image is watermarked", "0..1"),
)
_UID = Column("uid", pa.string(), "identity of the pair: md5(text + url), 32 hex digits")
_MD5 = Column("md5", pa.string(), "md5 of the original bytes")
_SHA256 = Column("sha256", pa.string(), "sha256 of the original bytes")


def _as(name: str, column: Column) -> Column:
    return replace(column, name=name)


LAION_400M: Final = Table(
    "laion-400m",
    "release",
    "one kept pair in the columns of LAION-400M, in their order; WIDTH and HEIGHT are true here and swapped there",
    (
        Column("SAMPLE_ID", pa.int64(), "first 15 hex digits of the uid as a number; LAION's came from its tracker"),
        *(_URL, _TEXT, _HEIGHT, _WIDTH),
        Column("LICENSE", pa.string(), "id of the licence linked on the page, else ?"),
        Column("NSFW", pa.string(), "UNLIKELY, UNSURE or NSFW; null where score.tags has no laion400m"),
        _SIMILARITY,
    ),
)

LAION_5B: Final = Table(
    "laion-5b",
    "release",
    "one kept pair in the columns of LAION-5B's joined tables; there only multi has LANGUAGE",
    (_URL, _TEXT, _WIDTH, _HEIGHT, _SIMILARITY, _LANGUAGE, _HASH, *_SAFETY),
)

RE_LAION: Final = Table(
    "re-laion",
    "release",
    "one kept pair with Re-LAION's url and caption; its full list is not public, the other columns are LAION-5B's",
    (
        *(_as("url", _URL), _as("caption", _TEXT), _as("width", _WIDTH), _as("height", _HEIGHT), _SIMILARITY),
        *(_as("language", _LANGUAGE), _HASH, *_SAFETY),
        Column("aesthetic", pa.float32(), "aesthetics score", "about 1..10"),
        _MD5,
    ),
)

DATACOMP: Final = Table(
    "datacomp",
    "release",
    "one kept pair in the columns of DataComp's metadata, and clip_NAME_similarity_score of each model",
    (
        *(_UID, _as("url", _URL), _as("text", _TEXT)),
        *(_as("original_width", _WIDTH), _as("original_height", _HEIGHT), _SHA256),
    ),
)

IMG2DATASET: Final = Table(
    "img2dataset",
    "release",
    "one kept pair as img2dataset's input: its url_col, caption_col, and hashes for its verify_hash",
    (_as("url", _URL), _as("caption", _TEXT), _UID, _MD5, _SHA256),
)

TABLES: Final = (LAION_400M, LAION_5B, RE_LAION, DATACOMP, IMG2DATASET)
NAMES: Final = tuple(table.name for table in TABLES)

# The column of schema.RELEASE for each lower-case name; other columns have the same name in all layouts.
_FILLED_BY: Final = {
    "url": "URL",
    "text": "TEXT",
    "caption": "TEXT",
    "language": "LANGUAGE",
    "width": "WIDTH",
    "height": "HEIGHT",
    "original_width": "WIDTH",
    "original_height": "HEIGHT",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of one version: its table, and our column for each of its columns."""

    table: Table
    filled_by: Mapping[str, str]

    def rows(self, released: pa.Table) -> pa.Table:
        """Convert rows to this layout; `released` has schema.RELEASE and the further columns of the scores."""
        columns = [self._column(column, released) for column in self.table.columns]
        return self.table.check(pa.table(columns, schema=self.table.schema))

    def _column(self, column: Column, released: pa.Table) -> pa.ChunkedArray:
        if column.name == "SAMPLE_ID":
            return sample_ids(released["uid"])
        source = self.filled_by.get(column.name, column.name)
        if source not in released.column_names:
            return pa.nulls(released.num_rows, column.type)
        return released[source].cast(column.type)


def layout(name: str, models: Mapping[str, Mapping[str, str]]) -> Layout:
    """Return the layout of this name; `models` come from `embeddings.about`, in the order of the parameters."""
    table = next(table for table in TABLES if table.name == name)
    filled_by = dict(_FILLED_BY)
    if table is LAION_400M:
        filled_by["NSFW"] = NSFW
    if table is DATACOMP:
        keys = datacomp_keys(models)
        names = {model: f"clip_{key}_similarity_score" for model, key in keys.items()}
        filled_by |= {column: f"{OWN}{model}" for model, column in names.items()}
        own = (
            Column(column, pa.float32(), f"cosine of image and text by {models[model]['model']}", "-1..1")
            for model, column in names.items()
        )
        table = replace(table, columns=(*table.columns, *own))
    return Layout(table, filled_by)


def datacomp_key(name: str, model: str) -> str:
    """Return DataComp's key of a model (architecture and tag), or its own `name` if DataComp has none."""
    return _DATACOMP_KEYS.get(model.split("/", maxsplit=1)[0].removesuffix("-quickgelu"), name)


def datacomp_keys(models: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return DataComp's key of each model: b32 and l14 for the architectures that it has, else the model's own name.

    Two models of the same architecture keep their own names, since a key must be unique.
    """
    keys = {name: datacomp_key(name, about["model"]) for name, about in models.items()}
    used = list(keys.values())
    return {name: key if used.count(key) == 1 else name for name, key in keys.items()}


def sample_ids(uids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the first 15 hex digits of each uid as int64: a pair has the same number in every version."""
    digits = pc.binary_join_element_wise("0x", pc.utf8_slice_codeunits(uids, 0, _SAMPLE_ID_DIGITS), "")
    return digits.cast(pa.int64())


def tables(names: Sequence[str], models: Mapping[str, Mapping[str, str]]) -> dict[str, Table]:
    """Return the tables of these layouts, by their names."""
    return {name: layout(name, models).table for name in names}
