"""Write released rows in the columns of other data sets: LAION's, DataComp's, img2dataset's, Recap-DataComp's.

Each layout is one table of `release.tables`, in a folder of its name beside the main tables. Sources of the columns:
rom1504/laion-prepro for LAION-400M and LAION-5B's joined files, table 8 of DataComp's paper for its metadata,
img2dataset's examples for its input. Of Re-LAION's columns only url and caption are public. Those of LAION-translated
are in its announcement, those of LAION-COCO and Recap-DataComp-1B on their pages on the hub.
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

LAION_TRANSLATED: Final = Table(
    "laion-translated",
    "release",
    "one kept pair with an English text, in the columns of LAION-translated, in their order",
    (
        *(_TEXT, _LANGUAGE),
        Column("ENG TEXT", pa.string(), "the text in English, by the model of translate"),
        *(_URL, _WIDTH, _HEIGHT, _as("Hash", _HASH), *reversed(_SAFETY), _SIMILARITY),
        Column("prediction", pa.float64(), "cosine of image and English text; its announcement does not explain it"),
    ),
)

LAION_COCO: Final = Table(
    "laion-coco",
    "release",
    "one kept pair with a caption, in the columns of LAION-COCO, in their order",
    (
        *(_URL, _TEXT),
        Column("top_caption", pa.string(), "the caption that ranks first"),
        Column("all_captions", pa.list_(pa.string()), "all different samples, the best first"),
        Column("all_similarities", pa.list_(pa.float32()), "their cosines with the image", "-1..1"),
        *(_WIDTH, _HEIGHT, _SIMILARITY, _HASH, *reversed(_SAFETY)),
    ),
)

RECAP_DATACOMP: Final = Table(
    "recap-datacomp",
    "release",
    "one kept pair with a caption, in the columns of Recap-DataComp-1B; nobody rated it by GPT-4V",
    (
        _as("url", _URL),
        Column("re_caption", pa.string(), "the caption that ranks first"),
        Column("org_caption", pa.string(), "alt text"),
        *(_SHA256, Column("key", pa.string(), "place in the image shards")),
        Column("re_clip_score", pa.float32(), "cosine of image and caption", "-1..1"),
        Column("org_clip_score", pa.float32(), "cosine of image and alt text", "-1..1"),
        Column("re_length", pa.int32(), "words of the caption, by spaces", "count"),
        Column("org_length", pa.int32(), "words of the alt text, by spaces", "count"),
        Column("re_gpt4v_score", pa.float32(), "null: rated there by GPT-4V"),
        Column("org_gpt4v_score", pa.float32(), "null: rated there by GPT-4V"),
    ),
)

TABLES: Final = (
    *(LAION_400M, LAION_5B, RE_LAION, DATACOMP, IMG2DATASET),
    *(LAION_TRANSLATED, LAION_COCO, RECAP_DATACOMP),
)
NAMES: Final = tuple(table.name for table in TABLES)

HAVING: Final = {LAION_TRANSLATED.name: "english", LAION_COCO.name: "top_caption", RECAP_DATACOMP.name: "top_caption"}
"""The column that a row must have to stand in a layout; other layouts have all rows."""

NEW: Final = {
    "translate": ("english", "english_similarity"),
    "caption": ("top_caption", "caption_similarity", "all_captions", "all_similarities"),
}
"""Columns of the stages that write texts, which layouts take."""

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
    "Hash": "hash",
    "ENG TEXT": "english",
    "prediction": "english_similarity",
    "re_caption": "top_caption",
    "org_caption": "TEXT",
    "re_clip_score": "caption_similarity",
    "org_clip_score": "similarity",
}

_WORDS_OF: Final = {"re_length": "top_caption", "org_length": "TEXT"}


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of one version: its table, and our column for each of its columns."""

    table: Table
    filled_by: Mapping[str, str]

    def rows(self, released: pa.Table) -> pa.Table:
        """Convert rows to this layout, without those that lack its text.

        `released` has schema.RELEASE, the further columns of the scores, and those of NEW.
        """
        if (needed := HAVING.get(self.table.name)) is not None:
            if needed not in released.column_names:
                return self.table.schema.empty_table()  # the stage is switched off
            released = released.filter(pc.is_valid(released[needed]))
        columns = [self._column(column, released) for column in self.table.columns]
        return self.table.check(pa.table(columns, schema=self.table.schema))

    def _column(self, column: Column, released: pa.Table) -> pa.ChunkedArray:
        if column.name == "SAMPLE_ID":
            return sample_ids(released["uid"])
        if column.name in _WORDS_OF:
            words = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(released[_WORDS_OF[column.name]]))
            return pc.list_value_length(words)
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
