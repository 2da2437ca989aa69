"""The unit of work of a stage, and what it leaves when it is finished."""

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
    """Digest of everything that shapes the result."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the stage's function, beside `out`."""
    weight: int = 0
    """Size of the work, in any unit: the largest go first, so that no long part starts last."""
    redo: bool = False
    """Run although it is finished: a side effect outside its folder is gone."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished part: its folder and its counts."""

    part: Part
    folder: Path
    counts: Counts
