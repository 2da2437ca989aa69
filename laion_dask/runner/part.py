"""The unit of work of a stage, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laion_dask.runner.part_files import Counts


@dataclass(frozen=True, slots=True)
class Part:
    """The unit of work of a stage: one set of files."""

    name: str
    """Unique in its stage; parts are published in the order of their names."""
    key: str
    """Digest of everything that determines the result."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the stage's function, beside `out`."""
    weight: int = 0
    """Relative cost, in any unit: larger parts run first, so that no long part starts last."""
    redo: bool = False
    """Run it even if it is finished, because a side effect outside its folder is gone."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished part: its folder and its counts."""

    part: Part
    folder: Path
    counts: Counts
