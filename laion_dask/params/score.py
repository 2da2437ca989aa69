"""The section `score`: the CLIP models and heads that score the pairs, and how images are prepared for them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from laion_dask.params import heads as head_params
from laion_dask.params.section import Section
from laion_dask.schema.values import SPLITS, Split


class Model(Section):
    """One CLIP model: its architecture and weights, and the splits whose texts it reads."""

    PLACE: ClassVar[str] = "score.models"
    """The key of params.yaml that lists such models, for messages."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    model: Annotated[str, Field(min_length=1)]
    pretrained: Annotated[str, Field(min_length=1)] | None = None
    splits: Literal["all"] | tuple[Split, ...] = "all"
    expect_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @field_validator("splits", mode="before")
    @classmethod
    def _splits_are_known(cls, value: object) -> object:
        listed = list(value) if isinstance(value, list | tuple) else []
        known = bool(listed) and all(split in SPLITS for split in listed)
        if value == "all" or (known and len({*listed}) == len(listed)):
            return value
        message = f"splits = {value!r} is refused. Remedy: all, or a list of {', '.join(SPLITS)} without repetition"
        raise ValueError(message)

    def reads(self, split: str) -> bool:
        """Tell whether the model reads the texts of a split."""
        return self.splits == "all" or split in self.splits


class Score(Section):
    """The CLIP models and heads, and how images are prepared for them."""

    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=16)]
    heads: Annotated[tuple[head_params.Head, ...], Field(max_length=64)] | None
    tags: Annotated[tuple[head_params.Tag, ...], Field(max_length=16)] | None
    faces: head_params.Faces | None
    masked_text: head_params.MaskedText | None
    batch: Annotated[int, Field(ge=1, le=4096)] | None
    decode: Literal["full", "reduced"]
    compile: Literal["none", "default", "max-autotune"]

    @model_validator(mode="after")
    def _heads_and_tags_fit(self) -> Score:
        head_params.check(self.heads or (), self.tags or (), [model.name for model in self.models])
        return self

    @model_validator(mode="after")
    def _masked_text_has_a_model(self) -> Score:
        names = [model.name for model in self.models]
        if self.masked_text is not None and self.masked_text.model not in {None, *names}:
            message = f"masked_text: there is no model {self.masked_text.model}. Remedy: one of {', '.join(names)}"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _every_split_is_read(self) -> Score:
        names = [model.name for model in self.models]
        if len({*names}) < len(names):
            message = (
                f"models has a name twice: {', '.join(names)}. Remedy: another name, as columns and arrays contain it"
            )
            raise ValueError(message)
        silent = [split for split in SPLITS if not any(model.reads(split) for model in self.models)]
        if silent:
            message = (
                f"no model reads the texts of {', '.join(silent)}: they would all be dropped. "
                "Remedy: add them to the splits of a model"
            )
            raise ValueError(message)
        return self
