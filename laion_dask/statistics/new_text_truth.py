"""Judge the texts that models wrote by the demo's labels: right ones name the thing and the color of the picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.schema.reasons import KEEP
from laion_dask.statistics import new_texts, truth
from laion_dask.statistics.truth import DecisionScore

_NAMES: Final = {"translate": "english_right", "caption": "caption_right"}
_WORD: Final = re.compile(r"[a-z]+")


def decisions(data: Path, settings: params.Params) -> list[DecisionScore]:
    """Judge the English texts and the captions of kept pairs; [] without labels, and without new texts.

    A text counts as right where its similarity is at least filter.similarity.en. It is right where it names the thing
    and the color that were drawn.
    """
    path = data / "crawl" / "truth.parquet"
    if not path.is_file():
        return []
    labels = {row["uid"]: (row["thing"], row["color"]) for row in pq.read_table(path).to_pylist() if row["thing"]}
    lowest = np.float32(settings.filter.similarity.en)
    judged = []
    for stage, kind in new_texts.KINDS.items():
        rows = [
            (names(row[kind.text], *labels[row["uid"]]), bool(np.float32(row[kind.similarity]) >= lowest))
            for table in new_texts.tables(data, stage)
            for row in table.to_pylist()
            if row["reason"] == KEEP and row["uid"] in labels and row[kind.similarity] is not None
        ]
        if rows:
            judged.append(truth.decision(_NAMES[stage], stage, rows))
    return judged


def names(text: str, thing: str, color: str) -> bool:
    """Say whether an English text names a thing and a color, as whole words in any case."""
    return {thing, color} <= set(_WORD.findall(text.lower()))
