"""The section `caption`: the model that describes images, how it samples, and how samples are ranked."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from laion_dask.params.score import Model
from laion_dask.params.section import Section, Seed
from laion_dask.params.types import Sha256

Tokens = Annotated[int, Field(ge=1, le=512)]


class Ranker(Model):
    """One step of the ranking: a CLIP model, and how many samples it leaves."""

    PLACE: ClassVar[str] = "caption.rank"

    keep: Annotated[int, Field(ge=1, le=256)]


class Repair(Section):
    """A text-to-text model of transformers that rewrites the caption that ranks first."""

    model: Annotated[str, Field(min_length=1)]
    prompt: str = ""
    expect_sha256: Sha256 | None = None
    max_tokens: Tokens = 64


class Caption(Section):
    """The captioner, its sampler, and the ranking of its samples."""

    model: Annotated[str, Field(min_length=1)]
    kind: Literal["blip", "image_to_text", "coca"]
    pretrained: Annotated[str, Field(min_length=1)] | None
    expect_sha256: Sha256 | None
    precision: Literal["fp32", "bf16", "fp16"]
    prompt: Annotated[str, Field(max_length=200)] | None
    samples: Annotated[int, Field(ge=1, le=256)]
    temperature: Annotated[float, Field(gt=0, le=10)]
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    top_k: Annotated[int, Field(ge=1)] | None
    min_tokens: Annotated[int, Field(ge=0, le=512)]
    max_tokens: Annotated[tuple[Tokens, ...], Field(min_length=1, max_length=16)]
    end_above: Annotated[float, Field(gt=0, lt=1)] | None
    repetition_penalty: Annotated[float, Field(ge=1, le=10)]
    seed: Seed
    rank: Annotated[tuple[Ranker, ...], Field(min_length=1, max_length=4)]
    repair: Repair | None
    keep_samples: bool
    batch: Annotated[int, Field(ge=1, le=1024)] | None

    @model_validator(mode="after")
    def _ranking_ends_with_one(self) -> Caption:
        left = [self.samples, *(step.keep for step in self.rank)]
        if left[-1] != 1 or left != sorted(left, reverse=True):
            message = (
                f"rank leaves {', '.join(map(str, left[1:]))} of {self.samples} samples. Remedy: each step keeps as "
                "many as the one before, or fewer, and the last one keeps 1"
            )
            raise ValueError(message)
        names = [step.name for step in self.rank]
        if len({*names}) < len(names):
            message = f"rank has a name twice: {', '.join(names)}. Remedy: another name"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _lengths_leave_room(self) -> Caption:
        if self.min_tokens > min(self.max_tokens):
            message = (
                f"min_tokens = {self.min_tokens} is above the shortest of max_tokens = {min(self.max_tokens)}. Remedy: "
                "lower min_tokens"
            )
            raise ValueError(message)
        if self.pretrained is not None and self.kind != "coca":
            message = f"pretrained = {self.pretrained} with kind {self.kind}. Remedy: null, only coca has such tags"
            raise ValueError(message)
        return self
