"""Remove duplicate samples, and rank the others by CLIP models in steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laion_dask import params
from laion_dask.caption.captioners import Sample
from laion_dask.clip import models
from laion_dask.clip.clip import Clip
from laion_dask.texts import new_texts

# A sample that was cut and ends in so many copies of the same tokens repeats itself.
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Candidates:
    """The different texts of one image, or the reason why there are none."""

    texts: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The texts of one image, the best first, and their cosines with it by the first ranker, float32."""

    texts: tuple[str, ...]
    similarities: tuple[float, ...]


def candidates(samples: Sequence[Sample], prompt: str | None) -> Candidates:
    """Return the different samples of an image in their order, without empty ones and those that repeat themselves.

    A sample that is nothing but the prompt counts as empty.
    """
    bare = " ".join((prompt or "").split()).casefold()
    written = [one for one in samples if one.text and one.text.casefold() != bare]
    if not written:
        return Candidates((), "empty_caption")
    texts = dict.fromkeys(one.text for one in written if not repeats(one))
    return Candidates(tuple(texts), "" if texts else "repeating_caption")


def repeats(sample: Sample) -> bool:
    """Say whether a sample repeats itself up to its limit: it was cut, and ends in three copies of 1 to 8 tokens."""
    return sample.cut and new_texts.ends_in_copies(sample.tokens, _COPIES)


class Ranking:
    """The loaded rankers of `caption.rank`."""

    def __init__(self, settings: params.Caption) -> None:
        self.steps = settings.rank
        self.models: list[Clip] = [models.load(_as_model(step)) for step in settings.rank]

    def rank(self, pixels: Mapping[str, Any], texts: Sequence[Sequence[str]]) -> tuple[list[Ranked], np.ndarray]:
        """Rank the texts of each image of a batch, and return the images' embeddings by the last ranker.

        `pixels` by preparation are uint8 (images, height, width, 3) on the device. Texts that are equally near stay in
        their order. Embeddings are float32 (images, features).
        """
        remaining = [list(range(len(one))) for one in texts]
        behind: list[list[int]] = [[] for _ in texts]
        first: list[np.ndarray] = []
        seen = np.empty((len(texts), 0), np.float32)
        for place, (step, model) in enumerate(zip(self.steps, self.models, strict=True)):
            seen = model.rows(model.see(pixels[model.preparation.key]))
            asked = [[texts[image][one] for one in of_image] for image, of_image in enumerate(remaining)]
            cosines = _cosines(model, seen, asked)
            if place == 0:
                first = cosines
            for image, values in enumerate(cosines):
                order = [remaining[image][one] for one in np.argsort(-values, kind="stable")]
                remaining[image], left = order[: step.keep], order[step.keep :]
                behind[image] = left + behind[image]
        ranked = []
        for image, of_image in enumerate(texts):
            order = remaining[image] + behind[image]
            ranked.append(
                Ranked(tuple(of_image[one] for one in order), tuple(float(first[image][one]) for one in order))
            )
        return ranked, seen

    def similarities(self, seen: np.ndarray, texts: Sequence[str | None]) -> np.ndarray:
        """Return the cosine of each text with the embedding of its image by the last ranker, float32; NaN for none."""
        found = np.full(len(texts), np.nan, np.float32)
        rows = [row for row, text in enumerate(texts) if text and np.isfinite(seen[row]).all()]
        if rows:
            embedded = _embedded(self.models[-1], [str(texts[row]) for row in rows])
            found[rows] = np.einsum("ij,ij->i", seen[rows], embedded)
        return found


def _as_model(step: params.Ranker) -> params.Model:
    """Return the model of a step alone, so that one that score or another step has loaded is not loaded again."""
    return params.Model(**step.model_dump(exclude={"keep"}))


def _cosines(model: Clip, seen: np.ndarray, texts: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return the cosines of each image with its texts; a text that several images share is read once."""
    distinct = {text: place for place, text in enumerate(dict.fromkeys(text for one in texts for text in one))}
    if not distinct:
        return [np.empty(0, np.float32) for _ in texts]
    embedded = _embedded(model, [*distinct])
    return [embedded[[distinct[text] for text in one]] @ seen[image] for image, one in enumerate(texts)]


def _embedded(model: Clip, texts: Sequence[str]) -> np.ndarray:
    # By length, so that texts are padded little; the order depends on the texts alone.
    order = sorted(range(len(texts)), key=lambda one: (len(texts[one]), texts[one]))
    rows = model.text_slices.rows
    found = np.empty((len(texts), model.dimension), np.float32)
    for at in range(0, len(order), rows):
        chunk = order[at : at + rows]
        found[chunk] = model.rows(model.read(model.tokens([texts[one] for one in chunk])))
    return found
