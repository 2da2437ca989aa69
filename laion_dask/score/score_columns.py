"""Add the columns of heads, tags and detectors to the scores.

One table (schema SCORES) has these columns behind the similarities; all are NaN, null or -1 where there is no image.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from laion_dask import params
from laion_dask.clip.clip import Clip, ModelError
from laion_dask.clip.preprocess import Preparation
from laion_dask.params import heads as head_params
from laion_dask.schema import SCORES, Column
from laion_dask.schema import faces as face_schema
from laion_dask.schema.masked import MASKED
from laion_dask.score import faces, heads, tags, text_mask, watermark
from laion_dask.storage.files import sha256

DIGESTS: Final = ("heads_sha256", "tags_sha256", "faces_sha256", "masked_text_sha256")
_MEANINGS: Final = {
    "violence": ("similarity to a violent prompt less that to a peaceful one; above 0 it counts as violent", ""),
    "simulacra": ("aesthetics score of simulacra-aesthetic-models", "about 1..10"),
}


@dataclass(frozen=True, slots=True)
class Embedded:
    """One model's embeddings of a shard: float32 (rows, dimension), unit length, NaN where there are none."""

    model: Clip
    image: np.ndarray
    text: np.ndarray


class Detector(Protocol):
    """A network that reads images instead of embeddings."""

    @property
    def preparation(self) -> Preparation:
        """Its preprocessing."""

    def score(self, images: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Score uint8 pixels (rows, height, width, 3) on the device; the result may still be computing."""

    def blank(self, rows: int) -> np.ndarray:
        """Return the values of rows without an image, (rows,)."""

    def rows(self, found: Any) -> np.ndarray:  # noqa: ANN401 - what `score` returns
        """Fetch the results of `score` from the device, (rows,)."""

    def columns(
        self, values: np.ndarray, sizes: Sequence[tuple[int, int]], texts: Mapping[str, np.ndarray]
    ) -> Mapping[str, Any]:
        """Return its columns, by name, for all rows.

        `sizes` are those of their images, `texts` the text embeddings of each model, NaN where it read none.
        """


def detectors(settings: params.Score, models: Mapping[str, Clip]) -> list[Detector]:
    """Load the networks of `score.heads`, `faces` and `masked_text` that read images instead of embeddings."""
    loaded: list[Detector] = [watermark.load(spec) for spec in settings.heads or () if spec.kind == "watermark"]
    loaded += [faces.load(settings.faces)] if settings.faces is not None else []
    return [*loaded, text_mask.load(settings.masked_text, models)] if settings.masked_text is not None else loaded


def measure(
    embedded: Mapping[str, Embedded], rows: np.ndarray, captions: Sequence[str], settings: params.Score
) -> dict[str, np.ndarray]:
    """Return the columns of heads and tags that read embeddings, (all rows of the shard,), by their names.

    `embedded` holds every model of `score.models` by its name, in that order; `rows` are those with an image,
    `captions` the texts of all rows. Raises `ModelError` where a head does not fit its model.
    """
    total = len(next(iter(embedded.values())).image)
    blanks: dict[str, Any] = {"float": np.nan, "int16": -1, "string": None}
    dtypes: dict[str, Any] = {"float": np.float32, "int16": np.int16, "string": object}
    filled = {
        one.name: np.full(total, blanks[str(one.type)], dtypes[str(one.type)])
        for one in [*SCORES.columns, *columns(settings)]
        if one.name in head_params.DEMO_COLUMNS or one not in (*SCORES.columns, *face_schema.COLUMNS, MASKED)
    }
    for spec in settings.heads or ():
        if spec.kind != "watermark":
            model = _model(embedded, spec.model)
            for head in heads.load(spec):
                _check(head, spec, model)
                filled[head.column][rows] = head.score(model.image[rows])
    texts = [captions[row] for row in rows]
    for tag in settings.tags or ():
        model = _model(embedded, tag.model)
        for name, values in tags.score(tag, model.image[rows], texts, _embedder(model.model)).items():
            filled[name][rows] = values
    return filled


def columns(settings: params.Score) -> list[Column]:
    """Return the columns that heads, tags and faces add to SCORES, in order; `ModelError` for a name used twice."""
    own = set(SCORES.names)
    names = [column for head in settings.heads or () for column in head.columns if column not in own]
    described = [
        Column(name, pa.float32(), *_MEANINGS.get(name, ("score of a head of the user", ""))) for name in names
    ]
    found = [*described, *(column for tag in settings.tags or () for column in tags.columns(tag))]
    all_names = [column.name for column in found]
    if twice := sorted({name for name in all_names if all_names.count(name) > 1}):
        message = f"score.tags fills {', '.join(twice)} twice. Remedy: other names for a group or label in their files"
        raise ModelError(message)
    found += face_schema.COLUMNS if settings.faces is not None else ()
    return [*found, *([MASKED] if settings.masked_text is not None else [])]


def files(settings: params.Score) -> list[Path]:
    """Return the files that decide the columns; they enter the keys of parts."""
    paths = [*(heads.file(spec) for spec in settings.heads or ()), *(tags.path(spec) for spec in settings.tags or ())]
    paths += [faces.file(settings.faces)] if settings.faces is not None else []
    return [*paths, text_mask.file(settings.masked_text)] if settings.masked_text is not None else paths


@functools.cache
def about(settings: params.Score, model: str) -> dict[str, str]:
    """Return the sha256 of the files of a model's heads and tags, as JSON objects for the attributes of its arrays.

    `heads_sha256` by column, `tags_sha256` by `tag_<group>` or `laion400m`, `faces_sha256` by `face_bboxes`,
    `masked_text_sha256` by `masked_similarity`; empty ones are left out. Networks that read images instead of
    embeddings are listed with the first model.
    """
    first = settings.models[0].name
    heads_ = {
        column: sha256(heads.file(spec))
        for spec in settings.heads or ()
        if (spec.model or first) == model
        for column in spec.columns
    }
    tags_ = {
        name: sha256(tags.path(spec))
        for spec in settings.tags or ()
        if (spec.model or first) == model
        for name in tags.names(spec)
    }
    faces_ = {face_schema.BOXES.name: sha256(faces.file(settings.faces))} if settings.faces and model == first else {}
    mask = settings.masked_text
    masked = {MASKED.name: sha256(text_mask.file(mask))} if mask and (mask.model or first) == model else {}
    by_kind = dict(zip(DIGESTS, (heads_, tags_, faces_, masked), strict=True))
    return {name: json.dumps(digests, sort_keys=True) for name, digests in by_kind.items() if digests}


def merged(about: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Merge the digests that `about` returned for each model."""
    digests: dict[str, dict[str, str]] = {}
    for attributes in about.values():
        for name in DIGESTS:
            if name in attributes:
                digests.setdefault(name, {}).update(json.loads(attributes[name]))
    return digests


def _model(embedded: Mapping[str, Embedded], name: str | None) -> Embedded:
    return next(iter(embedded.values())) if name is None else embedded[name]


def _check(head: heads.LoadedHead, spec: head_params.Head, one: Embedded) -> None:
    if head.features != one.model.dimension:
        message = (
            f"score.heads, kind {spec.kind}: {heads.file(spec)} reads {head.features} features, {one.model.name} gives "
            f"{one.model.dimension}. Remedy: model with the name of the one in score.models that the head was made for"
        )
        raise ModelError(message)


def _embedder(model: Clip) -> tags.Embed:
    return lambda prompts: model.rows(model.read(model.tokens(prompts)))
