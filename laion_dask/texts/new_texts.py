"""Ask of texts that a model wrote what is asked of alt texts, and compare them with their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import zarr

from laion_dask import params
from laion_dask.clip import models
from laion_dask.params.filters import Keywords
from laion_dask.schema.new_texts import KINDS_OF_PERSONAL_DATA
from laion_dask.storage import embeddings
from laion_dask.texts import keywords, personal

ENGLISH: Final = "en"
# Texts in one forward pass; fixed, so that the sums do not depend on the machine.
_BATCH: Final = 64
_LONGEST_PERIOD: Final = 8


def reader(score: params.Score) -> params.Model:
    """Return the first CLIP model of the section `score` that reads English texts; every version has one."""
    return next(model for model in score.models if model.reads(ENGLISH))


def ends_in_copies(tokens: Sequence[object], copies: int) -> bool:
    """Say whether a text ends in so many copies of the same 1 to 8 tokens, one behind the other."""
    return any(
        len(tokens) >= copies * period and list(tokens[-copies * period :]) == list(tokens[-period:]) * copies
        for period in range(1, _LONGEST_PERIOD + 1)
    )


def listed(texts: Sequence[str | None], punsafe: npt.ArrayLike, rule: Keywords | None) -> npt.NDArray[np.bool_]:
    """Return which texts (rows,) have a word of filter.keywords, where their image is as unsafe as the rule asks.

    `punsafe` (rows,) may have NaN, which counts as safe, as in the filter.
    """
    if rule is None:
        return np.zeros(len(texts), bool)
    unsafe = np.asarray(punsafe, np.float32) > np.float32(rule.above_punsafe)
    among = unsafe & np.array([text is not None for text in texts], bool)
    return keywords.hits(pa.chunked_array([pa.array(texts, pa.string())]), [Path(rule.file)], among)


def personal_data(texts: Sequence[str | None]) -> dict[str, pa.Array]:
    """Return the counts of personal data in each text, int16 (rows,) by column of KINDS_OF_PERSONAL_DATA.

    Null where there is no text.
    """
    counts = personal.count([text or "" for text in texts], [""] * len(texts))
    none = np.array([text is None for text in texts], bool)
    return {name: pa.array(counts[name.removeprefix("new_")], pa.int16(), mask=none) for name in KINDS_OF_PERSONAL_DATA}


def similarities(
    texts: Sequence[str | None], slots: npt.NDArray[np.int64], store: Path, spec: params.Model
) -> npt.NDArray[np.float32]:
    """Return the cosine of each text with the image of its slot in the store, float32 (rows,), by a model of `score`.

    NaN where there is no text, or an empty one.
    """
    found = np.full(len(texts), np.nan, np.float32)
    rows = np.array([row for row, text in enumerate(texts) if text], np.int64)
    if not len(rows):
        return found
    first, last = int(slots[rows].min()), int(slots[rows].max()) + 1
    array = embeddings.array(zarr.open_group(store, mode="r"), f"{spec.name}/image")
    images = np.asarray(array[first:last], np.float32)[slots[rows] - first]
    found[rows] = np.einsum("ij,ij->i", images, embedded([str(texts[row]) for row in rows], spec))
    return found


def embedded(texts: Sequence[str], spec: params.Model) -> npt.NDArray[np.float32]:
    """Return the unit embeddings of texts by a CLIP model, float32 (rows, features)."""
    model = models.load(spec)
    batches = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]
    return np.concatenate([model.rows(model.read(model.tokens(batch))) for batch in batches])
