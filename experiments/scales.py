"""The name of a scale in, its training recipe out: scales.yaml, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML

FILE: Final = Path(__file__).with_name("scales.yaml")
DEMO: Final = "demo"
DEMO_CLIP: Final = Path(__file__).with_name("demo") / "clip"
"""Folder of the architecture that scale demo trains, as open_clip reads it; no weights."""


class ScaleError(Exception):
    """There is no such scale, or it cannot be trained so; the message has the remedy."""


class Scale(BaseModel):
    """One recipe; scales.yaml says what each value means and where it is from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    samples: int = Field(gt=0)
    batch: int = Field(gt=1)
    lr: float = Field(gt=0, le=1)
    warmup: int = Field(ge=0)
    beta2: float = Field(gt=0, lt=1)
    weight_decay: float = Field(ge=0, le=1)
    precision: Literal["fp32", "amp_bf16"]
    augment: bool
    kept_pictures: int = Field(ge=0)
    buffer: int = Field(gt=0)
    threads: int | None = Field(gt=0)
    alone: bool

    @property
    def steps(self) -> int:
        """Batches in all: as many whole ones as `samples` has."""
        return self.samples // self.batch


def names() -> list[str]:
    """Return the scales in the order of the file."""
    return list(_read())


def load(name: str, samples: int | None = None) -> Scale:
    """Return a scale, with other `samples` seen where they are given.

    Raises `ScaleError` for an unknown name, and where samples make no batch or no step behind the warm-up.
    """
    found = _read()
    if name not in found:
        raise ScaleError(f"there is no scale {name!r}. Remedy: one of {', '.join(found)}, or a new one in {FILE.name}")
    try:
        scale = Scale.model_validate({"name": name, **found[name], **({} if samples is None else {"samples": samples})})
    except ValidationError as error:
        first = error.errors()[0]
        raise ScaleError(
            f"{FILE.name}: {name}.{'.'.join(map(str, first['loc']))}: {first['msg']}, not {first['input']!r}. "
            "Remedy: the head of that file says what each value means"
        ) from error
    if scale.steps <= scale.warmup:
        raise ScaleError(
            f"{scale.samples:,} samples make {scale.steps:,} batches of {scale.batch:,}, and {scale.warmup:,} of them "
            f"are warm-up. Remedy: more than {scale.batch * (scale.warmup + 1):,} samples"
        )
    return scale


def _read() -> dict[str, dict[str, object]]:
    return dict(YAML(typ="safe", pure=True).load(FILE))
