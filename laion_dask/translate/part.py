"""One shard's kept pairs in, their English texts out: a row for each, with the text or a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.clip.decoded import Stopwatch
from laion_dask.params.filters import Keywords
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import attempts
from laion_dask.texts import new_texts
from laion_dask.translate import engine
from laion_dask.translate.engine import Engine

ACTIVITIES: Final = ("tokenize", "translate", "write")
"""What texts without images take time for; a shard takes some for similarities too."""
LEVEL: Final = 3
"""Of zstd, in the tables."""


@dataclass(slots=True)
class Rows:
    """English texts, or why there is none: a value for each text in each list."""

    reasons: list[str]
    """`keep`, or a reason of the stage translate."""
    texts: list[str | None]
    languages: list[str]
    """What the model was told, in its own code; empty where it was told none."""
    cut: list[bool | None]

    @classmethod
    def blank(cls, rows: int, reason: str = KEEP) -> Rows:
        """Return rows without texts."""
        return cls([reason] * rows, [None] * rows, [""] * rows, [None] * rows)

    def refuse(self, row: int, reason: str) -> None:
        """Give a row a reason, and take its text away."""
        self.reasons[row], self.texts[row], self.cut[row] = reason, None, None


def translate(
    out: Path,
    *,
    name: str,
    images: Path,
    scores: Path,
    verdicts: Path,
    store: Path,
    settings: params.Translate,
    words: Keywords | None,
    reader: params.Model,
) -> dict[str, Any]:
    """Translate the kept pairs of one shard into `<name>.parquet` (schema TRANSLATIONS), in the order of its images.

    `store` has the embeddings of the images, `reader` is the model that reads English texts, `words` the rule
    filter.keywords. Counts: the ledger `texts` of all kept pairs, `cut` of kept texts that end at their limit, and
    under `seconds` the times of this run, which are not part of the version.
    """
    watch = Stopwatch("tokenize", "translate", "similarity", "write")
    pairs = attempts.kept(images, scores, verdicts, ["caption", "language", "split"], ["slot", "similarity", "punsafe"])
    rows = Rows.blank(pairs.num_rows, "split_not_asked")
    asked = [row for row, split in enumerate(pairs["split"].to_pylist()) if split in settings.splits]
    captions, languages = pairs["caption"].to_pylist(), pairs["language"].to_pylist()
    found = english([captions[row] for row in asked], [languages[row] for row in asked], settings, watch)
    for at, row in enumerate(asked):
        rows.reasons[row], rows.texts[row] = found.reasons[at], found.texts[at]
        rows.languages[row], rows.cut[row] = found.languages[at], found.cut[at]
    punsafe = pairs["punsafe"].to_numpy().astype(np.float32)
    for row in np.flatnonzero(new_texts.listed(rows.texts, punsafe, words)).tolist():
        rows.refuse(row, "keyword_in_translation")
    with watch.measure("similarity"):
        similarities = new_texts.similarities(rows.texts, pairs["slot"].to_numpy(), store, reader)
    with watch.measure("write"):
        table = _table(pairs, rows, similarities)
        pq.write_table(table, out / f"{name}.parquet", compression="zstd", compression_level=LEVEL)
    return counts(rows) | {"seconds": watch.seconds}


def english(
    texts: Sequence[str | None],
    languages: Sequence[str | None],
    settings: params.Translate,
    watch: Stopwatch | None = None,
) -> Rows:
    """Translate texts in languages of our table (fastText's codes; empty or None: not known) into English.

    Every text gets its English one or a reason, in its row. The parameter `splits` is the caller's to apply. With
    `source: none` the model is told no language, as LAION's code never set it: m2m100 then reads the text as English,
    which is what transformers' tokenizer does by default. A text without a language is translated only where
    `no_language` is try, and then as if `source` were none. Raises `TranslatorError`.
    """
    watch = watch or Stopwatch(*ACTIVITIES)
    rows = Rows.blank(len(texts))
    if not texts:
        return rows
    with watch.measure("tokenize"):
        model = engine.load(settings)
        todo = _told(rows, languages, settings, model)
        sources = _sources(rows, todo, texts, settings, model)
    with watch.measure("translate"):
        limits = [model.limit(source, settings.max_tokens) for source in sources.values()]
        written = model.translate([*sources.values()], limits, beams=settings.beams, batch=settings.batch)
    with watch.measure("tokenize"):
        for row, one in zip(sources, written, strict=True):
            text = model.tokens.text(one.tokens)
            if not text:
                rows.refuse(row, "empty_translation")
            elif engine.repeats(one):
                rows.refuse(row, "repeating_translation")
            else:
                rows.texts[row], rows.cut[row] = text, one.cut
    return rows


def _told(rows: Rows, languages: Sequence[str | None], settings: params.Translate, model: Engine) -> list[int]:
    """Set what the model is told of each text, and return the rows that it is asked for."""
    todo = []
    for row, language in enumerate(languages):
        if not language and settings.no_language == "skip":
            rows.refuse(row, "no_language")
            continue
        if language and settings.source == "column":
            code = model.tokens.told(language)
            if code is None:
                rows.refuse(row, "language_unknown_to_model")
                continue
            rows.languages[row] = code
        todo.append(row)
    return todo


def _sources(
    rows: Rows, todo: Sequence[int], texts: Sequence[str | None], settings: params.Translate, model: Engine
) -> dict[int, list[str]]:
    """Return what the model reads, by row; rows without it get their reason."""
    sources = {}
    for row, pieces in zip(todo, model.tokens.pieces([texts[row] or "" for row in todo]), strict=True):
        source = model.tokens.source(pieces, rows.languages[row])
        if not pieces:
            rows.refuse(row, "untranslatable_text")
        elif len(pieces) > settings.max_source_tokens or len(source) > model.positions:
            rows.refuse(row, "long_text")
        else:
            sources[row] = source
    return sources


def counts(rows: Rows) -> dict[str, Any]:
    """Return the ledger `texts` of some rows, and how many English texts were cut."""
    ledger = Ledger()
    ledger.add(rows.reasons)
    return {"texts": ledger.as_dict(), "cut": rows.cut.count(True)}


def columns(rows: Rows) -> dict[str, pa.Array]:
    """Return what is stored of some rows, by column of TRANSLATIONS, without reason and similarities."""
    return {
        "english": pa.array(rows.texts, pa.string()),
        "source_language": pa.array(rows.languages, pa.string()),
        "cut": pa.array(rows.cut, pa.bool_()),
        **new_texts.personal_data(rows.texts),
    }


def _table(pairs: pa.Table, rows: Rows, similarities: npt.NDArray[np.float32]) -> pa.Table:
    none = np.array([text is None for text in rows.texts], bool)
    made = columns(rows) | {
        "uid": pairs["uid"],
        "reason": pa.array(rows.reasons, pa.string()),
        "similarity": pairs["similarity"].cast(pa.float32()),
        "english_similarity": pa.array(similarities, pa.float32(), mask=none),
    }
    kind = schema.TRANSLATIONS
    return kind.check(pa.table({name: made[name] for name in kind.names}))
