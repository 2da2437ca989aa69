"""The unit of work of a stage, and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from laion_dask.runner.part_files import Counts
from laion_dask.storage.files import digest


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


def with_code(parts: Sequence[Part], code: str) -> list[Part]:
    """Return the parts of a run with keys that hold the code too; each has its own key.

    Parts with equal inputs, such as shards whose pairs were all removed, differ by their names.
    """
    times = Counter(part.key for part in parts)
    return [
        replace(part, key=digest(part.key, code) if times[part.key] == 1 else digest(part.key, part.name, code))
        for part in parts
    ]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished part: its folder and its counts."""

    part: Part
    folder: Path
    counts: Counts
    reused: bool = field(default=False, compare=False)
    """It was finished before this run."""
