"""The parameters `score.heads`, `tags`, `faces` and `masked_text`: their files, models and columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from laion_dask.params.section import Section

Name = Annotated[str, Field(min_length=1)]

DEMO_COLUMNS: Final = ("aesthetic", "punsafe", "pwatermark")
"""Columns of this package's heads, in the order of the scores."""

_COLUMNS: Final = {
    "aesthetic_v1": "aesthetic",
    "aesthetic_v2": "aesthetic",
    "nsfw_laion": "punsafe",
    "violence": "violence",
    "simulacra": "simulacra",
    "watermark": "pwatermark",
}
_COLUMN: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN: Final = re.compile(r"uid|slot|reason|similarity(_.*)?|masked_similarity|tag_.*|laion400m_.*|face_.*")


class Head(Section):
    """One head: its file of weights, the model whose image embeddings it reads, and the column that it writes."""

    kind: Literal["demo", "aesthetic_v1", "aesthetic_v2", "nsfw_laion", "violence", "simulacra", "layers", "watermark"]
    file: Name | None = None
    model: Name | None = None
    """The name of one of `score.models`; None: the first."""
    column: Name | None = None
    mode: Literal["as-trained", "plain"] | None = None
    output: Literal["value", "probability"] | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Head:
        wrong = ""
        if self.kind == "demo":
            given = [key for key in ("file", "column", "mode", "output") if getattr(self, key) is not None]
            wrong = f"{', '.join(given)} with kind demo. Remedy: leave it out, or kind layers" if given else ""
        elif self.file is None:
            wrong = f"kind {self.kind} without file. Remedy: file with the path of the weights, see docs/heads.md"
        elif self.kind == "layers" and self.column is None:
            wrong = "kind layers without column. Remedy: column with the name that its scores get"
        elif self.mode is not None and self.kind != "nsfw_laion":
            wrong = f"mode {self.mode} with kind {self.kind}. Remedy: leave it out, only nsfw_laion has modes"
        elif self.output is not None and self.kind != "layers":
            wrong = f"output {self.output} with kind {self.kind}. Remedy: leave it out, only layers may be either"
        elif self.model is not None and self.kind == "watermark":
            wrong = f"model {self.model} with kind watermark. Remedy: leave it out, it reads images, not embeddings"
        elif self.column is not None and (not _COLUMN.fullmatch(self.column) or _TAKEN.fullmatch(self.column)):
            wrong = (
                f"column {self.column}. Remedy: another name of a-z, 0-9 and _ that is not a column of the scores yet"
            )
        if wrong:
            raise ValueError(wrong)
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it writes."""
        return DEMO_COLUMNS if self.kind == "demo" else (self.column or _COLUMNS[self.kind],)


class Tag(Section):
    """Zero-shot categories of images, by prompts in a YAML file."""

    kind: Literal["zero_shot", "laion400m"]
    file: Name
    model: Name | None = None
    """The name of one of `score.models`; None: the first."""
    rule: Literal["published", "code"] | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Tag:
        wrong = ""
        if self.kind == "laion400m" and self.file == "demo":
            wrong = "kind laion400m with file demo. Remedy: the path of a file with its prompts, see docs/heads.md"
        elif self.kind == "laion400m" and self.rule is None:
            wrong = "kind laion400m without rule. Remedy: published, or code for what LAION-400M's program did"
        elif self.kind == "zero_shot" and self.rule is not None:
            wrong = f"rule {self.rule} with kind zero_shot. Remedy: leave it out, only laion400m has two"
        if wrong:
            raise ValueError(wrong)
        return self


class Faces(Section):
    """The face detector: its file, and how its outputs become boxes."""

    file: Name
    expect_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Boxes with a lower score are dropped; DataComp, appendix G: 0.3."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Non-maximum suppression: above this intersection over union only the better box stays; insightface: 0.4."""
    side_px: Annotated[int, Field(ge=32, le=2048, multiple_of=32)] = 224
    """Side of the detector's square input; DataComp, appendix G: 224."""


class MaskedText(Section):
    """The detector of text that T-MARS masks out, and how its output becomes regions."""

    file: Name = "rapidocr"
    """rapidocr: PP-OCRv6 small of that package."""
    model: Name | None = None
    """The name of one of `score.models`; None: the first."""
    expect_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    side_px: Annotated[int, Field(ge=64, le=2048, multiple_of=32)] = 512
    """Longer side of the image that the detector sees; T-MARS: 512."""
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Probability above which a pixel belongs to text; PaddleOCR: 0.3."""
    least_score: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Least mean probability of a region; PaddleOCR's code: 0.7 (rapidocr's 0.5 takes some blank images for text)."""
    grow: Annotated[float, Field(ge=0, le=10)] = 1.6
    """How far regions grow, times area over perimeter; rapidocr: 1.6."""


def check(heads: Sequence[Head], tags: Sequence[Tag], models: Iterable[str]) -> None:
    """Raise `ValueError` if two heads write one column, a tag is repeated, or a model is not in `models`."""
    known = list(models)
    for key, entries in (("heads", heads), ("tags", tags)):
        for entry in entries:
            if entry.model is not None and entry.model not in known:
                message = f"{key}: there is no model {entry.model}. Remedy: a name of score.models: {', '.join(known)}"
                raise ValueError(message)
    columns = [column for head in heads for column in head.columns]
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        message = f"heads write {', '.join(twice)} twice. Remedy: leave one out, or give it another column"
        raise ValueError(message)
    if sum(tag.kind == "laion400m" for tag in tags) > 1:
        message = "tags has laion400m twice. Remedy: leave one out, its columns have fixed names"
        raise ValueError(message)
