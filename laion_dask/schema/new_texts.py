"""The tables of the stages translate and caption: texts that models wrote, beside the alt text."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from laion_dask.schema.columns import Column, Table

_UID: Final = Column("uid", pa.string(), "identity of the pair")
_PERSONAL: Final = tuple(
    Column(name, pa.int16(), f"{what} in the new text; null where there is none", "count")
    for name, what in (
        ("new_emails", "e-mail addresses"),
        ("new_phones", "phone numbers that libphonenumber calls valid"),
        ("new_cards", "payment card numbers, by prefix, length and check digit"),
        ("new_accounts", "bank account numbers (IBAN), by check digits"),
        ("new_ips", "public IP addresses"),
    )
)

TRANSLATIONS: Final = Table(
    "translations",
    "translate",
    "one kept pair and its English text, in the order of the shard's images table",
    (
        _UID,
        Column("reason", pa.string(), "keep, or why there is no English text: a reason out of the closed list"),
        Column("english", pa.string(), "the text in English, by the model of translate; null where there is none"),
        Column("source_language", pa.string(), "language that the model was told, in its own code; empty where none"),
        Column("cut", pa.bool_(), "the English text ends at the limit on its tokens; null where there is none"),
        Column("similarity", pa.float32(), "cosine of image and alt text, by the model for its split", "-1..1"),
        Column(
            "english_similarity",
            pa.float32(),
            "cosine of image and English text, by the model of score that reads English; null where there is none",
            "-1..1",
        ),
        *_PERSONAL,
    ),
)

CAPTIONS: Final = Table(
    "captions",
    "caption",
    "one kept pair and the caption of its image, in the order of the shard's images table",
    (
        _UID,
        Column("reason", pa.string(), "keep, or why there is no caption: a reason out of the closed list"),
        Column("top_caption", pa.string(), "the caption that ranks first, repaired if a model is named for that"),
        Column("similarity", pa.float32(), "cosine of image and alt text, by the model for its split", "-1..1"),
        Column(
            "caption_similarity",
            pa.float32(),
            "cosine of image and caption, by the model of score that reads English; null where there is none",
            "-1..1",
        ),
        Column("ranked_caption", pa.string(), "the caption before its repair; null where it was not changed"),
        Column("distinct", pa.int16(), "different samples, of which one was chosen", "count"),
        Column(
            "all_captions",
            pa.list_(pa.string()),
            "all different samples, the best first; null where caption.keep_samples is false",
        ),
        Column(
            "all_similarities",
            pa.list_(pa.float32()),
            "their cosines with the image, by the first model of caption.rank; null as all_captions",
        ),
        *_PERSONAL,
    ),
)

KINDS_OF_PERSONAL_DATA: Final = tuple(column.name for column in _PERSONAL)
