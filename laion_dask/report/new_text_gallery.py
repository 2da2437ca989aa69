"""Draw a seeded sample of kept pictures with their alt text, English text and caption, for the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.report import gallery
from laion_dask.schema.reasons import KEEP
from laion_dask.statistics import new_texts
from laion_dask.storage import attempts

_COLUMNS: Final = ("key", "caption", "split", "language", "sha256", "rights", "page_signals")


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a picture: what it is, the text, and its similarity (None if there is none)."""

    what: str
    text: str
    similarity: float | None


@dataclass(frozen=True, slots=True)
class Described:
    """One picture with its texts, a JPEG as a data URI."""

    texts: tuple[Text, ...]
    language: str
    blurred: str
    image: str


def sample(data: Path, settings: params.Params) -> list[Described]:
    """Return up to `report.gallery` kept pictures that have a new text, those with most texts first.

    The sample is drawn by the hash of `report.seed` and uid. Hidden and blurred are the same pictures as in the gallery
    of verdicts. [] where no stage wrote texts.
    """
    if not settings.report.gallery or not any(any((data / stage).glob("*.parquet")) for stage in new_texts.KINDS):
        return []
    hidden = gallery.known(data)
    best: list[tuple[int, str, Path, dict[str, Any]]] = []
    for shard in attempts.attempts(data, _COLUMNS, ("similarity", "punsafe")):
        written = [_texts(data / stage / f"{shard.tar.stem}.parquet", kind) for stage, kind in new_texts.KINDS.items()]
        for row in shard.table.to_pylist():
            texts = [found[row["uid"]] for found in written if row["uid"] in found]
            if not texts or row["verdict"] != KEEP or gallery.held_back(row, hidden):
                continue
            rank = hashlib.sha256(f"{settings.report.seed}:{row['uid']}".encode()).hexdigest()
            best.append((-len(texts), rank, shard.tar, row | {"texts": texts}))
        best = sorted(best, key=lambda one: one[:2])[: settings.report.gallery]
    pictures = gallery.read([(rank, tar, row) for _, rank, tar, row in best])
    return [
        _described(row, pictures[str(tar), row["key"]], settings)
        for _, _, tar, row in best
        if (str(tar), row["key"]) in pictures
    ]


def _texts(path: Path, kind: new_texts.Kind) -> dict[str, Text]:
    """Return the new texts of one shard by uid."""
    if not path.is_file():
        return {}
    rows = pq.read_table(path, columns=["uid", kind.text, kind.similarity]).to_pylist()
    return {
        str(row["uid"]): Text(kind.what, gallery.shortened(row[kind.text]), gallery.number(row[kind.similarity]))
        for row in rows
        if row[kind.text] is not None
    }


def _described(row: Mapping[str, Any], body: bytes, settings: params.Params) -> Described:
    alt = Text("alt text", gallery.shortened(row["caption"]), gallery.number(row["similarity"]))
    texts = (alt, *row["texts"])
    blurred = gallery.why_blurred(gallery.number(row["punsafe"]), settings)
    return Described(texts, row["language"], blurred, gallery.thumbnail(body, blur=bool(blurred)))
